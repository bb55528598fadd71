"""The C that learns, on a Cortex-M in qemu: equal to the numpy engine, and a difference is seen."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.studies import microcontroller
from experiments.studies.microcontroller import CHIP
from wage_neuro import Network, initial_state
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import EngineError, WageError

NETWORK = Network.parse("9FC-4FC", (20,))
needs_tools = pytest.mark.skipif(
    bool(microcontroller.missing_tools()),
    reason=f"not here: {', '.join(microcontroller.missing_tools())}",
)


@pytest.fixture
def saved() -> Checkpoint:
    return Checkpoint(NETWORK, CHIP, initial_state(NETWORK, 1))


@pytest.fixture
def samples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return NETWORK.encode(rng.integers(0, 256, (40, 20)).astype(np.uint8)), rng.integers(0, 4, 40)


@needs_tools
@pytest.mark.parametrize("cpu", microcontroller.BOARDS)
def test_it_learns_as_the_numpy_engine_does(cpu, saved, samples):
    row = microcontroller.measure(saved, *samples, 3, cpu)
    assert row["instructions_a_tick"] == pytest.approx(40, rel=0.01)  # 25 MHz, an instruction a nanosecond
    assert NETWORK.n_weights < row["instructions_to_predict"] < row["instructions_to_learn"]
    assert row["flash_bytes"] > row["ram_bytes"] > NETWORK.n_weights


@needs_tools
def test_a_difference_is_seen(saved, samples, monkeypatch):
    """The same core beside another seed's random bits, and beside another engine's logits."""
    x, labels = samples
    honest = microcontroller.compare

    def other_seed(saved, x, labels, log2_eta, logits, end):
        other = Checkpoint(NETWORK, CHIP, initial_state(NETWORK, 2))
        honest(other, x, labels, log2_eta, logits, end)

    def other_end(saved, x, labels, log2_eta, logits, end):
        honest(saved, x, labels, log2_eta, logits, end[:-8] + bytes([end[-8] ^ 1]) + end[-7:])

    for change, message in (
        (other_seed, "logits differ from the numpy"),
        (other_end, "^1 stored weights differ"),
    ):
        monkeypatch.setattr(microcontroller, "compare", change)
        with pytest.raises(WageError, match=message):
            microcontroller.measure(saved, x, labels, 3, "cortex-m4")


def test_missing_tools_are_named(saved, samples, monkeypatch):
    monkeypatch.setattr(microcontroller, "TOOLS", ("no-such-gcc", "no-such-qemu"))
    with pytest.raises(EngineError, match=r"^no-such-gcc, no-such-qemu: not installed here$"):
        microcontroller.measure(saved, *samples, 3, "cortex-m4")
