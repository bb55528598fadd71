"""Epochs over images: what `wage-neuro train` does, in Python, with callbacks.

The order of the samples is the command's: the same seed gives the same bits as a run without augmentation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wage_neuro import checkpoint
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import SettingError
from wage_neuro.eta import EtaSchedule
from wage_neuro.random_bits import permutation

try:
    import pandas
except ImportError:
    pandas = None

if TYPE_CHECKING:
    from wage_neuro.engine import Engine

Row = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """What a callback is told when an epoch has ended.

    Attributes
    ----------
    rows : metrics of this call's epochs, the one that has ended last; see `fit`
    """

    engine: Engine
    rows: Sequence[Row]

    def best(self, metric: str) -> int:
        """Place of the row with the smallest `metric`, the first of equals.

        Raises
        ------
        SettingError
            If it is not measured.
        """
        if metric not in self.rows[-1]:
            raise SettingError(f"metric {metric!r}: want {', '.join(self.rows[-1])}; held_out measures error")
        values = [row[metric] for row in self.rows]
        return values.index(min(values))


Callback = Callable[[Seen], object]
"""Called at the end of each epoch; returns True to end the training there."""


def fit(
    engine: Engine,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int = 10,
    eta: str = "8",
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Any:
    """Train for some epochs, from where the engine stands.

    Parameters
    ----------
    images : (n, ...) uint8 grey levels
    labels : (n,) whole numbers
        Of each epoch what fills no batch is left out, other samples in each.
    eta : str
        Step size; "8, 1@10" changes it at epoch 10, counted from the initial weights.
    held_out : images and labels, optional
        Measured after each epoch.
    callbacks
        Each gets a `Seen` at the end of an epoch; the training ends there if one returns True.

    Returns
    -------
    Metrics, a row an epoch: epoch, eta, samples, train_error, seconds, with `held_out` error and accuracy.
    A pandas DataFrame where pandas is installed, otherwise a list of dicts.

    Raises
    ------
    SettingError
        If there is no whole batch, or a setting has no meaning.

    >>> from wage_neuro import Network, NumpyEngine, Rules
    >>> images = np.array([[250, 250, 0, 0], [0, 0, 250, 250]] * 8, np.uint8)
    >>> labels = np.array([0, 1] * 8)
    >>> with NumpyEngine(Network.parse("64FC", (4,), classes=2), Rules(batch=16), seed=0) as engine:
    ...     rows = []
    ...     def keep(seen):
    ...         rows.append(seen.rows[-1])
    ...     _ = fit(engine, images, labels, epochs=60, eta="1", held_out=(images, labels),
    ...             callbacks=[keep, stop_early(20)])
    >>> len(rows) < 60, rows[-1]["accuracy"]
    (True, 1.0)
    """
    schedule, rules, state = EtaSchedule.parse(eta), engine.rules, engine.state
    batches = len(labels) // rules.batch
    if not batches:
        raise SettingError(f"batch={rules.batch}: there are only {len(labels)} training images")
    if epochs < 1:
        raise SettingError(f"epochs={epochs}: want 1 or more")
    updates = batches * rules.batch // rules.samples_an_update
    rows: list[Row] = []
    for epoch in range(first := state.step // updates, first + epochs):
        began = time.monotonic()
        order = permutation(state.seed, epoch, len(labels))[: batches * rules.batch]
        logits = engine.train(np.asarray(images[order]), labels[order], schedule.log2_at(epoch))
        row = {"epoch": epoch, "eta": 2.0 ** schedule.log2_at(epoch), "samples": len(order)}
        row["train_error"] = _error(logits, labels[order])
        row["seconds"] = round(time.monotonic() - began, 3)
        if held_out:
            row["error"] = _error(engine.predict(np.asarray(held_out[0])), held_out[1])
            row["accuracy"] = 1 - row["error"]
        rows.append(row)
        if [True for look in callbacks if look(Seen(engine, rows)) is True]:
            break
    return as_frame(rows)


def _error(logits: np.ndarray, labels: np.ndarray) -> float:
    return int((logits.argmax(axis=1) != labels).sum()) / len(labels)


def stop_early(patience: int = 3, metric: str = "error") -> Callback:
    """End the training after `patience` epochs in which `metric` was no smaller than before."""
    return lambda seen: len(seen.rows) - 1 - seen.best(metric) >= patience


def save_best(path: Path | str, metric: str = "error") -> Callback:
    """Write a checkpoint whenever `metric` is smaller than in every epoch before."""

    def save(seen: Seen) -> None:
        if seen.best(metric) == len(seen.rows) - 1:
            engine = seen.engine
            extra = {"progress": {"epoch": len(seen.rows), "curve": list(seen.rows)}}
            checkpoint.save(path, Checkpoint(engine.network, engine.rules, engine.state, extra))

    return save


def as_frame(rows: Sequence[Row]) -> Any:
    """Rows as a pandas DataFrame where pandas is installed, otherwise as they are."""
    return pandas.DataFrame(list(rows)) if pandas else list(rows)
