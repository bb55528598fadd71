"""The same steps on several engines, and the first place where they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.engines import make_engine
from experiments.runs.training import Run
from wage_neuro.control import Control
from wage_neuro.engine import Engine
from wage_neuro.errors import SettingError
from wage_neuro.random_bits import permutation


@dataclass(frozen=True)
class Difference:
    """The first place where an engine does not give what the first one gives.

    Attributes
    ----------
    step : int
        Batches learned when it showed, this one included.
    layer : int
        Weight layer, 0 first.
    what : 'logits', 'stored weight', 'error exponent' or 'gradient exponent'
    index : place in the array, (sample, class) of logits; () of an exponent
    expected, got : the values of the first engine and of this one
    """

    engine: str
    reference: str
    step: int
    layer: int
    what: str
    index: tuple[int, ...]
    expected: Any
    got: Any

    def __str__(self) -> str:
        place = f" {self.index}" if self.index else ""
        return (
            f"step {self.step}, layer {self.layer}, {self.what}{place}:"
            f" {self.reference} {self.expected}, {self.engine} {self.got}"
        )


Batch = tuple[np.ndarray, np.ndarray, int | Control]
"""Images, labels, and log2 of eta or a whole Control."""


def first_difference(
    engines: Mapping[str, Engine],
    batches: Iterator[Batch],
    report: Callable[[int], None] = lambda step: None,
) -> Difference | None:
    """Let every engine learn the same batches; return the first difference from the first engine, or None.

    After each batch the logits, the stored weights and the held exponents are compared, to the last bit, the
    layers from the output down: in the order in which they are computed.
    """
    (reference, first), *others = engines.items()
    for step, (images, labels, control) in enumerate(batches, start=1):
        expected = list(_results(first, first.train(images, labels, control)))
        for name, engine in others:
            got = _results(engine, engine.train(images, labels, control))
            for (layer, what, one), (_, _, other) in zip(expected, got, strict=True):
                if not np.array_equal(one, other):
                    index = tuple(int(i) for i in np.argwhere(np.asarray(one != other))[0])
                    values = (one[index], other[index]) if index else (one.item(), other.item())
                    return Difference(name, reference, step, layer, what, index, *values)
        report(step)
    return None


def _results(engine: Engine, logits: np.ndarray) -> Iterator[tuple[int, str, np.ndarray]]:
    state, last = engine.state, len(engine.network.layers) - 1
    yield last, "logits", logits
    for i in range(last, -1, -1):
        yield i, "stored weight", state.S[i]
        yield i, "error exponent", np.asarray(state.error_held[i], object)
        yield i, "gradient exponent", np.asarray(state.gradient_held[i], object)


def next_batches(run: Run, steps: int) -> Iterator[Batch]:
    """The batches that the run would learn next, on into later epochs."""
    epoch, batch, size = run.progress.epoch, run.progress.batch, run.config.rules.batch
    data = run.data
    for _ in range(steps):
        if batch == run.batches:
            epoch, batch = epoch + 1, 0
        order = permutation(run.config.seed, epoch, len(data.train_labels))
        index = order[batch * size : (batch + 1) * size]
        places = slice(batch * size, (batch + 1) * size)
        images = run.augment.apply(data.train_images[index], run.config.seed, epoch, places)
        yield images, data.train_labels[index], run.eta.log2_at(epoch)
        batch += 1


def compare(
    run: Run, names: Sequence[str], steps: int, report: Callable[[int], None] = lambda step: None
) -> Difference | None:
    """Go on with a run on several engines, in memory; the run's folder is left as it is.

    report : called with the number of steps done

    Raises
    ------
    SettingError, EngineError
        If there are fewer than two engines, or one is unknown or cannot be built.
    """
    if len(set(names)) < 2 or len(set(names)) != len(names):
        raise SettingError(f"engines {','.join(names)!r}: want two or more, each once")
    if steps < 1:
        raise SettingError(f"steps={steps}: want a whole number >= 1")
    with ExitStack() as stack:
        engines = {
            name: stack.enter_context(make_engine(name, run.network, run.config.rules, run.saved.state))
            for name in names
        }
        report(0)
        return first_difference(engines, next_batches(run, steps), report)
