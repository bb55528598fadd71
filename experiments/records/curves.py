"""Accuracy against samples seen, several runs in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.records.figure import save
from experiments.records.names import learning
from experiments.records.readme import groups, in_percent
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
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for group in groups(records):
        first = group[0]
        seen = np.cumsum([row["samples"] for row in first["curve"]]) / 1000
        values = np.array([[100 * row["accuracy"] for row in record["curve"]] for record in group])
        name = first["network"].replace("F-", "").replace("FC", "")
        what = ", ".join([name, learning(first["config"]["rules"]), *_augment(first["config"])])
        label = f"{what}: {in_percent(group, 'accuracy_last')}"
        (line,) = axes.plot(seen, values.mean(axis=0), "o-", markersize=3, linewidth=1.5, label=label)
        if len(group) > 1:
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(seen, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    if mark is not None:
        label = f"{mark_label} {mark:g} %".strip()
        axes.axhline(mark, color="#444", linestyle="--", linewidth=1, label=label)
    first = records[0]
    axes.set(
        xlabel="training samples seen (thousands)",
        ylabel=f"{first['measured_on']} accuracy (%)",
        title=f"{first['config']['data']}, {first['config']['bits']}, all integers",
    )
    axes.grid(True, alpha=0.25)
    axes.legend(frameon=False, fontsize="small", loc="lower right")
    save(path, figure)
