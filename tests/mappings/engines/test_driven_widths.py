"""Every declared width of the structural model, driven one past itself in a run of Lava.

A first run notes the largest value of each quantity. A width of exactly that value is exceeded by nothing; of
one less, strict, it ends the run and is named; without strict it saturates, which other bits show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

pytest.importorskip("lava", reason="lava-nc is not installed")

from mappings.engines.lava import engine as lava
from mappings.engines.lava.engine import LavaEngine, LavaOptions
from mappings.engines.lava.shared_memory import shared_array
from processes.widths import (
    ERROR_TRACKER,
    FORWARD,
    GRADIENT_TRACKER,
    NEURONS,
    TRANSPOSED,
    LayerLimits,
    Limit,
    Widths,
)
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules, State
from wage_neuro.errors import BitWidthError, EngineError
from wage_neuro.fixed_point import peak

DENSE = Network((Dense(12), Dense(3)), (10,))
CONV = Network((Conv(3, 3), MaxPool(3, 2), Conv(4, 2), Flatten(), Dense(3)), (7, 7, 1))
TERNARY = Rules(batch=16, shift="held", hold=3, update="ternary", pipelined=True)
COINCIDENCE = Rules(batch=16, shift="held", hold=3, update="coincidence", pipelined=True)
SEED = 4  # after which every exponent of the dense network has stepped down
OVERLAP = Widths(error=9, post=10)  # four windows may add up their errors at a place
Rows = dict[tuple[int, str, str], int]


@dataclass(frozen=True)
class Noting(Limit):
    """Takes note of the largest magnitude, in memory that the Processes share."""

    largest: np.ndarray = field(default_factory=lambda: shared_array((1,), np.int64))

    @property
    def proven(self) -> bool:
        """Never, or the kernels, which look at no limit, would sum in the models' place."""
        return False

    def fit(self, x: np.ndarray) -> np.ndarray:
        self.largest[0] = max(int(self.largest[0]), peak(x))
        return x


@dataclass(frozen=True)
class Narrow(Limit):
    """A width that ends at any number, not only at a power of two."""

    most: int = 0

    @property
    def high(self) -> int:
        return self.most


def narrow(limit: Limit, most: int, strict: bool) -> Narrow:
    return Narrow(limit.process, limit.var, limit.worst, limit.bits, limit.signed, strict, most)


def with_rows(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[tuple[int, str, str], Limit], Limit]
) -> list[LayerLimits]:
    """Change the rows of the tables that engines are built with; return the last table."""
    made: list[LayerLimits] = []

    def changed(*args, **kwargs) -> list[LayerLimits]:
        made[:] = [
            {
                part: {var: change((i, part, var), limit) for var, limit in rows.items()}
                for part, rows in parts.items()
            }
            for i, parts in enumerate(limits(*args, **kwargs))
        ]
        return made

    monkeypatch.setattr(lava, "limits", changed)
    return made


limits = lava.limits


@dataclass(frozen=True)
class Case:
    """A network that learns until every quantity has met something that is not zero."""

    network: Network
    rules: Rules
    log2_eta: int = 0

    def build(self) -> LavaEngine:
        return LavaEngine(
            self.network, self.rules, SEED, options=LavaOptions(model="structural", widths=OVERLAP)
        )

    def learn(self, engine) -> np.ndarray:
        rng = np.random.default_rng(SEED)
        n = 6 * self.rules.batch
        images = rng.integers(0, 256, (n, *self.network.input_shape)).astype(np.uint8)
        images[n // 2 :] //= 8  # dark ones at the end, so that exponents step down
        return engine.train(images, rng.integers(0, self.network.classes, n), self.log2_eta)

    def largest(self, monkeypatch: pytest.MonkeyPatch) -> Rows:
        """Largest magnitude of every quantity."""
        made = with_rows(monkeypatch, lambda row, limit: Noting(**vars(limit)))
        with self.build() as engine:
            self.learn(engine)
        return {
            (i, part, var): int(limit.largest[0])
            for i, parts in enumerate(made)
            for part, rows in parts.items()
            for var, limit in rows.items()
        }


CASES = {
    "dense": Case(DENSE, TERNARY),
    "conv": Case(CONV, TERNARY),
    "coincidence": Case(CONV, COINCIDENCE),
}
_LARGEST: dict[str, Rows] = {}


@pytest.fixture
def largest(monkeypatch) -> Callable[[str], Rows]:
    def of(name: str) -> Rows:
        if name not in _LARGEST:
            with monkeypatch.context() as patch:
                _LARGEST[name] = CASES[name].largest(patch)
        return _LARGEST[name]

    return of


@pytest.fixture
def oracle():
    def of(name: str) -> tuple[np.ndarray, State]:
        engine = NumpyEngine(CASES[name].network, CASES[name].rules, SEED)
        return CASES[name].learn(engine), engine.state

    return of


@pytest.mark.parametrize("name", CASES)
def test_widths_that_just_hold_it_change_nothing(name, largest, oracle, monkeypatch, assert_same_state):
    """Every quantity meets its own end, strictly, and none its end plus one."""
    most = largest(name)
    unmet = [row for row, value in most.items() if not value and (name == "dense" or row[2] != "below")]
    assert unmet == [(0, NEURONS, "e_out")]  # nobody is below the first layer to hear it
    with_rows(monkeypatch, lambda row, limit: narrow(limit, most[row], strict=True))
    logits, state = oracle(name)
    with CASES[name].build() as engine:
        assert np.array_equal(CASES[name].learn(engine), logits)
        assert_same_state(engine.state, state)


SYNAPSES = ("a_in", "S", "V", "G")
TRACKED = ("x_in", "below", "exponent")
PARTS = {
    FORWARD: (*SYNAPSES, "z_out"),
    NEURONS: ("z_in", "e_in", "e_out", "y_out"),
    TRANSPOSED: (*SYNAPSES, "e_out"),
    ERROR_TRACKER: TRACKED,
    GRADIENT_TRACKER: TRACKED,
}
ROWS = [("dense", 0, NEURONS, "a_out")]
ROWS += [("dense", 1, part, var) for part, names in PARTS.items() for var in names]
# what is shared, pooled, or drawn, is worked out otherwise
ROWS += [("conv", 1, FORWARD, "G"), ("conv", 1, TRANSPOSED, "G"), ("conv", 0, NEURONS, "y_out")]
ROWS += [("coincidence", 1, FORWARD, "G"), ("coincidence", 1, NEURONS, "e_out")]


def test_every_row_is_among_them():
    table = limits(DENSE, TERNARY, Widths())
    rows = {(part, var) for parts in table for part, names in parts.items() for var in names}
    assert rows == {(part, var) for _, _, part, var in ROWS}


@pytest.mark.parametrize(("name", "layer", "part", "var"), ROWS)
def test_one_past_its_width_ends_the_run(name, layer, part, var, largest, monkeypatch):
    row, most = (layer, part, var), largest(name)[layer, part, var]
    with_rows(monkeypatch, lambda each, limit: narrow(limit, most - 1, strict=True) if each == row else limit)
    where = f"layer {layer} {CASES[name].network.layers[layer]} {part}"
    with (
        pytest.raises((EngineError, BitWidthError), match=rf"{where}: {var}=-?{most} is past its "),
        CASES[name].build() as engine,
    ):
        CASES[name].learn(engine)


@pytest.mark.slow  # a graph a row, as above: the same rows, and what `Limit.fit` does is tested alone
@pytest.mark.parametrize(("name", "layer", "part", "var"), ROWS)
def test_without_strict_it_saturates(name, layer, part, var, largest, oracle, monkeypatch):
    row, most = (layer, part, var), largest(name)[layer, part, var]
    with_rows(
        monkeypatch, lambda each, limit: narrow(limit, most // 8, strict=False) if each == row else limit
    )
    logits, state = oracle(name)
    with CASES[name].build() as engine:
        found = CASES[name].learn(engine)
        ends = engine.state
    assert not np.array_equal(found, logits) or _differ(ends, state)


def _differ(one: State, other: State) -> bool:
    return one.error_held != other.error_held or any(
        not np.array_equal(a, b) for a, b in zip(one.S, other.S, strict=True)
    )
