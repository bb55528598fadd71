"""Accuracy against samples seen, several runs in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.records.figure import picture
from experiments.records.names import apart, learning
from experiments.records.readme import groups, in_percent
from experiments.records.style import INK
from experiments.runs.forms import TrainingRecord
from wage_neuro.errors import DataError
from wage_neuro.rules import Rules
from wage_neuro.typed import checked, read_json, reading


def read_record(path: Path) -> dict[str, Any]:
    """Read a run's record: a JSON file, or the run's folder.

    Raises
    ------
    DataError
        If there is none, or it is no record of a training run.
    """
    file = path / "record.json" if path.is_dir() else path
    record = read_json(file, TrainingRecord, "record of a training run", DataError)
    if not record["curve"]:
        raise DataError(f"{file}: no record of a training run (its curve has no epochs)")
    with reading(file, "record of a training run", DataError):
        checked(Rules, {**asdict(Rules()), **record["config"]["rules"]}, "config.rules")
    return record


def _augment(config: dict[str, Any]) -> list[str]:
    augment = config.get("augment", "none")
    return [] if augment == "none" else [augment]


def draw(
    path: Path, records: Sequence[dict[str, Any]], mark: float | None = None, mark_label: str = ""
) -> None:
    """Draw accuracy (%) against samples seen, and a level to compare with.

    A line a setting: the mean of its seeds, with a band from the worst to the best.
    """
    found = groups(records)
    words = [_words(group[0]) for group in found]
    common, own = apart(words)
    if len(found) > 1:  # the plainest of several is called by its network
        own = [label or each[0] for label, each in zip(own, words, strict=True)]
    first = records[0]
    with picture(path, 9, 5.2) as figure:
        axes = figure.subplots()
        for group, label in zip(found, own, strict=True):
            seen = np.cumsum([row["samples"] for row in group[0]["curve"]]) / 1000
            values = np.array([[100 * row["accuracy"] for row in record["curve"]] for record in group])
            name = f"{label}: {in_percent(group, 'accuracy_last')}".removeprefix(": ")
            (line,) = axes.plot(seen, values.mean(axis=0), label=name)
            if len(group) > 1:
                low, high = values.min(axis=0), values.max(axis=0)
                axes.fill_between(seen, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        if mark is not None:
            label = f"{mark_label} {mark:g} %".strip()
            axes.axhline(mark, color=INK, linestyle=(0, (8, 3)), linewidth=1, label=label)
        axes.set(xlabel="training samples seen (thousands)", ylabel=f"{first['measured_on']} accuracy (%)")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.set_title(", ".join([first["config"]["data"], first["config"]["bits"], "all integers", *common]))
        axes.legend(loc="lower right", title="accuracy after the last epoch", title_fontsize=8.5)


def _words(record: dict[str, Any]) -> list[str]:
    """What tells a run from others, a setting a word."""
    network = record["network"].replace("F-", "").replace("FC", "")
    return [network, *learning(record["config"]["rules"]).split(", "), *_augment(record["config"])]
