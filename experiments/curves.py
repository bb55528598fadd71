"""Accuracy against samples seen, several runs in one picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.readme import learning
from wage_neuro.errors import DataError
from wage_neuro.files import written_whole


def read_record(path: Path) -> dict[str, Any]:
    """Read a run's record: a JSON file, or the run's folder.

    Raises
    ------
    DataError
        If there is none, or it is no record of a training run.
    """
    file = path / "record.json" if path.is_dir() else path
    try:
        record = json.loads(file.read_text())
        _ = record["curve"][0]["accuracy"], record["config"]["rules"], record["network"]
    except OSError as error:
        raise DataError(f"{file}: cannot read it ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{file}: no record of a training run ({error})") from None
    return record


def draw(
    path: Path, records: Sequence[dict[str, Any]], mark: float | None = None, mark_label: str = ""
) -> None:
    """Draw accuracy (%) against samples seen, a line a record, and a level to compare with."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    for record in records:
        seen, total = [], 0
        for row in record["curve"]:
            total += row["samples"]
            seen.append(total / 1000)
        values = [100 * row["accuracy"] for row in record["curve"]]
        rules = learning(record["config"]["rules"])
        name = record["network"].replace("F-", "").replace("FC", "")
        axes.plot(
            seen, values, "o-", markersize=3, linewidth=1.5, label=f"{name}, {rules}: {values[-1]:.2f} %"
        )
    if mark is not None:
        axes.axhline(mark, color="#444", linestyle="--", linewidth=1)
        axes.annotate(
            f"{mark_label} {mark:g} %".strip(),
            (0.99, mark),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            xytext=(0, 4),
            ha="right",
            color="#444",
        )
    first = records[0]
    axes.set(
        xlabel="training samples seen (thousands)",
        ylabel=f"{first['measured_on']} accuracy (%)",
        title=f"{first['config']['data']}, {first['config']['bits']}, all integers",
    )
    axes.grid(True, alpha=0.25)
    axes.legend(frameon=False, fontsize="small", loc="lower right")
    with written_whole(path) as file:
        figure.savefig(file, format="png", dpi=130)
