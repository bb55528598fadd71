"""What the Lava engine refuses, how it fails, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

pytest.importorskip("lava", reason="lava-nc is not installed")

from mappings.engines.lava.engine import LavaEngine, LavaOptions, process_of
from wage_neuro import Dense, Flatten, MaxPool, Network, Rules, layers
from wage_neuro.errors import DataError, EngineError, SettingError

NETWORK = Network((Dense(12), Dense(3)), (10,))
RULES = Rules(batch=8)
IMAGES, LABELS = np.full((16, 10), 200, np.uint8), np.arange(16) % 3


def test_closing_leaves_nothing(nothing_left, descendants):
    engine = LavaEngine(NETWORK, RULES, options=LavaOptions(channels="semaphore"))
    assert len(descendants()) >= 4
    engine.train(IMAGES, LABELS, 0)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed: make a new one"):
        engine.train(IMAGES, LABELS, 0)


def test_an_exception_in_a_model_is_told_and_ends_everything(nothing_left, monkeypatch):
    def broken(layer, *rest):
        raise ArithmeticError(f"made to fail in layer {layer.index}")

    monkeypatch.setattr(layers, "backward", broken)
    engine = LavaEngine(NETWORK, RULES, options=LavaOptions(kernels="numpy"))
    with pytest.raises(EngineError, match=r"layer 1 3FC: ArithmeticError: made to fail in layer 1"):
        engine.train(IMAGES, LABELS, 0)
    engine.close()


def test_a_killed_process_is_told(nothing_left):
    engine = LavaEngine(NETWORK, RULES)
    victim = next(a for a in engine._graph._children.living if a.is_alive())
    os.kill(victim.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match=r": was killed \(SIGKILL\), as it happens where memory runs out"):
        engine.train(IMAGES, LABELS, 0)
    engine.close()


def test_interrupted_in_the_middle_of_a_run(nothing_left, monkeypatch):
    engine = LavaEngine(NETWORK, RULES)

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("mappings.engines.lava.graph.time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.train(np.tile(IMAGES, (64, 1)), np.tile(LABELS, 64), 0)
    monkeypatch.undo()
    engine.close()


@pytest.mark.parametrize(
    ("rules", "lanes", "message"),
    [
        (RULES, 3, r"lanes=3: want a divisor of the batch, 8"),
        (RULES, 0, r"lanes=0: want a divisor"),
        (RULES, 4, r"lanes=4 with shift='batch': .* lanes must be 8"),
    ],
)
def test_lanes_that_cannot_be(rules, lanes, message, nothing_left):
    with pytest.raises(SettingError, match=message):
        LavaEngine(NETWORK, rules, options=LavaOptions(lanes=lanes))


def test_sums_past_the_messages(nothing_left):
    network = Network((Dense(12), Dense(3)), (10,), "16-16-16-16")
    with pytest.raises(
        EngineError, match=r"layer 0 12FC with bits 16-16-16-16: a sum may reach \d+, past the 32-bit"
    ):
        LavaEngine(network, RULES)


def test_bad_input_leaves_the_graph_usable(nothing_left):
    with LavaEngine(NETWORK, RULES) as engine:
        for images, labels, log2_eta, error, message in (
            (IMAGES[:9], LABELS[:9], 0, SettingError, "9 samples: want a multiple of the batch, 8"),
            (IMAGES / 255.0, LABELS, 0, DataError, "images of float64: want uint8"),
            (IMAGES[:, :9], LABELS, 0, DataError, r"images of shape \(9,\): this network takes \(10,\)"),
            (IMAGES, LABELS + 1, 0, DataError, r"label 3: this network has outputs 0..2"),
            (IMAGES, LABELS, 40, SettingError, r"eta=2\*\*40"),
        ):
            with pytest.raises(error, match=message):
                engine.train(images, labels, log2_eta)
        assert engine.state.step == 0
        engine.train(IMAGES, LABELS, 0)
        assert engine.state.step == 2


def test_a_spec_without_a_process():
    for spec in (Flatten(), MaxPool(2)):
        with pytest.raises(EngineError, match="no Lava Process for it"):
            process_of(spec)


def test_a_loop_of_graphs_does_not_grow(nothing_left):
    """Lava leaks when graphs are rebuilt; ours may not keep processes, threads or descriptors."""
    for _ in range(2):
        with LavaEngine(NETWORK, RULES) as engine:
            engine.predict(IMAGES)
    count = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with LavaEngine(NETWORK, RULES) as engine:
            engine.predict(IMAGES)
    assert len(os.listdir("/proc/self/fd")) <= count + 4
