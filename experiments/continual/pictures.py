"""Pictures of continual runs: the matrix, accuracy against task, accuracy against samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.continual.records import Record
from experiments.records.figure import picture, whole_numbers
from experiments.records.style import EDGE, INK, ink_on, value_colours

JOINT: dict[str, Any] = {"color": INK, "linestyle": (0, (8, 3)), "marker": "", "linewidth": 1.2}
"""How joint training is drawn, a level that the others are held against."""
DIGITS_UP_TO = 12  # tasks; more leave no room for a number in each square


def draw(path: Path, record: Record, others: Sequence[Record] = ()) -> None:
    """Draw a record, beside others such as naive and joint training: mean over seeds, band of their range."""
    probed = [each for each in (record, *others) if each.samples.size]
    panels = 3 if probed else 2
    with picture(path, 1 + 4.4 * panels, 4.4) as figure:
        figure.suptitle(f"{record.title}: {record.runs[0]['network']}, all integers, {_seeds(record)}")
        matrix, tasks, *anytime = figure.subplots(1, panels, width_ratios=(1, 1.15, 1.15)[:panels])
        _draw_matrix(matrix, record)
        _draw_tasks(tasks, [record, *others])
        if anytime:
            _draw_anytime(anytime[0], probed, _ends(record))


def _seeds(record: Record) -> str:
    return f"{len(record.runs)} seeds" if len(record.runs) > 1 else "1 seed"


def _draw_matrix(axes: Any, record: Record) -> None:
    R = 100 * record.R.mean(axis=0)
    from matplotlib.colors import ListedColormap

    axes.imshow(R, vmin=0, vmax=100, cmap=ListedColormap(value_colours()), aspect="auto")
    axes.grid(False)
    T = len(record.tasks)
    if T <= DIGITS_UP_TO:
        for (i, j), value in np.ndenumerate(R):
            colour = ink_on(value_colours(101)[round(float(value))])
            axes.text(j, i, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=8)
        axes.set_xticks(range(T), record.tasks, rotation=45 if T > 5 else 0)
        axes.set_yticks(range(len(R)), record.tasks if len(R) == T else ["all"])
    else:
        whole_numbers(axes.xaxis)
        whole_numbers(axes.yaxis)
    axes.set(
        xlabel="tested on task", ylabel="after task", title=f"accuracy (%), {record.runs[0]['measured_on']}"
    )


def _draw_tasks(axes: Any, records: Sequence[Record]) -> None:
    T = len(records[0].tasks)
    for record in records:
        values = 100 * record.so_far
        label = f"{record.method}: {values[:, -1].mean():.2f}"
        if values.shape[1] == 1:
            axes.axhline(values.mean(), **JOINT, label=label)
            continue
        (line,) = axes.plot(range(1, T + 1), values.mean(axis=0), markevery=max(1, T // 20), label=label)
        axes.fill_between(
            range(1, T + 1), values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.2
        )
    axes.set(
        xlabel="tasks learned", ylabel="accuracy over the tasks so far (%)", title="accuracy against task"
    )
    axes.set_ylim(None, 101)
    _finish(axes)
    if T <= DIGITS_UP_TO:
        axes.set_xticks(range(1, T + 1))
    else:
        whole_numbers(axes.xaxis)


def _draw_anytime(axes: Any, records: Sequence[Record], ends: Sequence[int]) -> None:
    for record in records:
        values = 100 * record.anytime
        every = max(1, len(record.samples) // 12)
        look = JOINT if record.R.shape[1] == 1 else {"markevery": every}
        (line,) = axes.plot(record.samples, values.mean(axis=0), label=record.method, **look)
        axes.fill_between(
            record.samples, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.2
        )
    for end in ends:
        axes.axvline(end, color=EDGE, linewidth=0.8, zorder=0)
    axes.set(
        xlabel="new samples seen",
        ylabel="accuracy over the tasks so far (%)",
        title="accuracy against samples",
    )
    axes.set_ylim(None, 101)
    axes.grid(False, axis="x")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    _finish(axes)


def _ends(record: Record) -> Sequence[int]:
    """Places at which the task changes."""
    return np.cumsum(record.runs[0]["task_samples"])[:-1].tolist()


def _finish(axes: Any) -> None:
    axes.legend(loc="lower left")
