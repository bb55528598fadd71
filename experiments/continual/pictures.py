"""Pictures of continual runs: the matrix, accuracy against task, accuracy against samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.continual.records import Record
from experiments.records.figure import picture, whole_numbers
from experiments.records.style import EDGE, INK, ink_on, value_colours
from wage_neuro.bits import Bits

JOINT: dict[str, Any] = {"color": INK, "linestyle": (0, (8, 3)), "marker": "", "linewidth": 1.2}
"""How joint training is drawn, a level that the others are held against."""
DIGITS_UP_TO = 12  # tasks; more leave no room for a number in each square


BY_BYTES = ("replay", "discriminant")
"""Methods whose accuracy is drawn against bytes."""


def draw(path: Path, record: Record, others: Sequence[Record] = ()) -> None:
    """Draw a record, beside others such as naive and joint training: mean over seeds, band of their range."""
    probed = [each for each in (record, *others) if each.samples.size]
    panels = 3 if probed else 2
    with picture(path, 1 + 4.4 * panels, 4.4) as figure:
        figure.suptitle(f"{record.title}: {record.runs[0]['network']}, all integers, {_seeds(record)}")
        matrix, tasks, *anytime = figure.subplots(1, panels, width_ratios=(1, 1.15, 1.15)[:panels])
        (_draw_matrix if record.all_measured else _draw_ages)(matrix, record)
        _draw_tasks(tasks, [record, *others])
        if anytime:
            _draw_anytime(anytime[0], probed, _ends(record))


def draw_bytes(path: Path, records: Sequence[Record], floats: Sequence[Point]) -> None:
    """Draw accuracy against bytes of memory, of records of one stream in groups, floats beside them."""
    from matplotlib.ticker import LogLocator, NullFormatter

    groups: dict[str, list[Point]] = {}
    for record in records:
        head = record.runs[0]
        point = Point(head["memory_bytes"], [run["ACC"] for run in record.runs], _form(head["config"]))
        groups.setdefault(point.what, []).append(point)
    for point in floats:
        groups.setdefault(point.what, []).append(point)
    config = records[0].runs[0]["config"]
    with picture(path, 7.4, 6) as figure:
        axes = figure.subplots()
        for what, points in sorted(groups.items()):
            points.sort(key=lambda each: each.bytes)
            x, y = ([getattr(point, name) for point in points] for name in ("kib", "mean"))
            look = "none" if what.startswith("float") else "full"
            axes.errorbar(x, y, [point.spread for point in points], capsize=3, fillstyle=look, label=what)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(
            xlabel="memory (KiB)",
            ylabel="accuracy over all tasks at the end (%)",
            title=f"{config['stream']}, {config['scenario']}-incremental",
        )
        figure.legend(loc="outside lower center", ncols=1)


@dataclass(frozen=True)
class Point:
    """Accuracies of some seeds, %, with so many bytes of memory."""

    bytes: int
    accuracies: Sequence[float]
    what: str

    @property
    def kib(self) -> float:
        """Size of the memory."""
        return self.bytes / 1024

    @property
    def mean(self) -> float:
        """Mean accuracy."""
        return float(np.mean(self.accuracies))

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds, 0 of one."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else 0.0


def in_bits(config: Mapping[str, Any]) -> str:
    """Bits that a memory keeps of a pixel, in words."""
    bits = config.get("memory_bits", 8)
    return f"{bits} bit" if bits == 1 else f"{bits} bits"


def _form(config: Mapping[str, Any]) -> str:
    """What is one line of the picture: all but the size of the memory."""
    if config["method"] == "discriminant":
        return "discriminant on fixed random features, as many as fit; sums of 32 bits, no samples"
    updates, bits = config["update"], Bits.parse(config["bits"]).k_G
    images = f"{in_bits(config)} a pixel, 1 + {config.get('recalled', 1)}"
    return f"{config['network']}, {updates} updates of {bits} bits; {images}"


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


def _draw_ages(axes: Any, record: Record) -> None:
    """Accuracy at the end against how many tasks ago each was learned."""
    final = 100 * record.R[:, -1, ::-1]
    ages = np.arange(final.shape[1])
    axes.plot(ages, final.mean(axis=0), linewidth=1.5)
    axes.fill_between(ages, final.min(axis=0), final.max(axis=0), alpha=0.2)
    axes.set_xscale("symlog", linthresh=5)
    axes.set(xlabel="tasks learned since", ylabel="accuracy at the end (%)", title="accuracy against age")
    axes.set_ylim(0, 101)
    axes.grid(True, alpha=0.25)


def _draw_tasks(axes: Any, records: Sequence[Record]) -> None:
    T = len(records[0].tasks)
    for record in records:
        values = 100 * record.so_far
        label = f"{record.method}: {values[:, -1].mean():.2f}"
        values = values if record.all_measured else values[:, :-1]
        if values.shape[1] == 1:
            axes.axhline(values.mean(), **JOINT, label=label)
            continue
        learned = np.arange(1, values.shape[1] + 1)
        (line,) = axes.plot(learned, values.mean(axis=0), markevery=max(1, T // 20), label=label)
        axes.fill_between(learned, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.2)
    over = "the tasks so far" if records[0].all_measured else "the newest tasks"
    axes.set(xlabel="tasks learned", ylabel=f"accuracy over {over} (%)", title="accuracy against task")
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
