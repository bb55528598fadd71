"""What the recorded experiments found, beside the paper's numbers: the tables and pictures of `results`."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.commands.presets import EXPERIMENTS
from experiments.records.figure import epochs_axis, logarithmic, picture
from experiments.records.names import mean_and_spread, table
from experiments.records.style import INK, MUTED, OTHERS, OURS, PAPER, SERIES
from experiments.runs.forms import ExperimentRecord
from wage_neuro.errors import DataError
from wage_neuro.typed import read_json

Record = dict[str, Any]

_PAPER_K_G = (54.22, 51.57, 28.22, 18.01, 11.48, 7.61, 6.78, 6.63, 6.43, 6.55, 6.57)

PUBLISHED: dict[str, dict[str, float]] = {
    "mnist-lenet": {"2888": 0.40},
    "cifar10-vgg": {"2888": 6.78},
    "svhn-vgg": {"2888": 1.92},
    "gradient-bits": {f"k_G={k}": error for k, error in enumerate(_PAPER_K_G, start=2)},
    "error-window": {"gamma=1": 6.78, "gamma=2": 7.31, "gamma=4": 8.08, "gamma=8": 16.92},
    "patterns": {"2888": 6.78, "28ff": 7.3, "vanilla": 5.7},  # the last two read off a figure
    "nitro-d": {
        "mnist-mlp": 2.64,
        "fashion-mnist-mlp": 11.34,
        "cifar-10-mlp": 38.97,
        "cifar-10-vgg8b": 12.04,
    },
}
"""Test errors in % of arXiv:1802.04680, of its own nets and epochs; of nitro-d of arXiv:2407.11698."""
PUBLISHED |= {f"past-{sweep}": PUBLISHED[sweep] for sweep in ("gradient-bits", "error-window")}
PAPERS, THEIRS = "the paper's", {"nitro-d": "NITRO-D's"}
"""Whose they are, where they are not the paper's."""


def read(folder: Path) -> tuple[list[Record], list[str]]:
    """Records of experiments in a folder and the folders in it, and a line for each file that is none.

    Raises
    ------
    DataError
        If there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found, warnings = [], []
    for path in sorted(folder.rglob("*.json")):
        try:
            record = read_json(path, ExperimentRecord, "record of an experiment", DataError)
            if not record["curve"]:
                raise DataError(f"{path}: its curve has no epochs")
        except DataError as error:
            text = str(error).removeprefix(f"{path}: ")
            warnings.append(f"{path}: skipped, {text}")
        else:
            found.append(record)
    return found, warnings


@dataclass(frozen=True)
class Found:
    """An experiment at one scale: the records of each setting, the seeds rising."""

    experiment: str
    scale: str
    settings: dict[str, list[Record]]

    @property
    def title(self) -> str:
        """What was run."""
        found = [records[0] for records in self.settings.values()]
        data = ", ".join(dict.fromkeys(record["config"]["data"] for record in found))
        size = self.scale or f"{THEIRS.get(self.experiment, PAPERS)} size"
        return f"{self.experiment}, {data}, {found[0]['measured_on']} error, {size}"

    @property
    def file_name(self) -> str:
        """Name of its picture."""
        return f"{self.experiment}-{self.scale.replace('/', '-') or 'paper'}.png"

    @property
    def rows(self) -> list[tuple[str, int, str, str, str]]:
        """Setting, seeds, error in % of the last epoch and of the best, and the paper's."""
        published = PUBLISHED.get(self.experiment, {})
        return [
            (
                setting,
                len(records),
                mean_and_spread(100 * (1 - record["accuracy_last"]) for record in records),
                mean_and_spread(100 * (1 - record["accuracy_best"]) for record in records),
                f"{published[setting]:g}" if setting in published else "",
            )
            for setting, records in self.settings.items()
        ]


def arranged(records: Iterable[Record]) -> list[Found]:
    """Group by experiment and scale, settings in the preset's order; of a seed the last record counts."""
    found: dict[tuple[str, str], dict[str, dict[int, Record]]] = {}
    for record in records:
        settings = found.setdefault((record["experiment"], record["scale"]), {})
        settings.setdefault(record["setting"], {})[record["config"]["seed"]] = record
    experiments = list(EXPERIMENTS)
    out = []
    for (experiment, scale), settings in sorted(
        found.items(), key=lambda item: _place(experiments, item[0][0])
    ):
        order = list(EXPERIMENTS.get(experiment, ()))
        names = sorted(settings, key=lambda name: _place(order, name))
        seeds = {name: [settings[name][seed] for seed in sorted(settings[name])] for name in names}
        out.append(Found(experiment, scale, seeds))
    return out


def _place(names: Sequence[str], name: str) -> tuple[int, str]:
    return (names.index(name) if name in names else len(names), name)


def theirs(experiment: str) -> str:
    """Head of the column of published numbers."""
    return f"{THEIRS.get(experiment, PAPERS)}, full size"


def markdown(folder: Path) -> str:
    """The README's tables of the experiments, from the records in a folder."""
    records, warnings = read(folder)
    if warnings:
        raise DataError(warnings[0])
    parts = []
    for found in arranged(records):
        networks = dict.fromkeys(records[0]["network"] for records in found.settings.values())
        heads = f"setting | seeds | error %, last epoch | best epoch | {theirs(found.experiment)}"
        parts += [f"**{found.title}**, {'; '.join(networks)}", table(heads, found.rows)]
    return "\n\n".join(parts)


LONG = 16
"""Letters of a setting's name that fit beside another's."""


def draw(path: Path, found: Found) -> None:
    """Draw an experiment: learning curves, and where it has several settings these beside each other."""
    panels, more = 2 if len(found.settings) > 1 else 1, max(0, len(found.settings) - len(SERIES))
    with picture(path, 2.2 + (4.4 + 0.4 * more) * panels, 4.4 + 0.4 * more) as figure:
        figure.suptitle(found.title)
        curves, *compared = figure.subplots(1, panels, squeeze=False)[0]
        _draw_curves(curves, found)
        for axes in compared:
            (_draw_boxes if found.experiment.endswith("errors-bits") else _draw_bars)(axes, found)


def _draw_curves(axes: Any, found: Found) -> None:
    drawn: list[float] = []
    for setting, records in found.settings.items():
        epochs = min(len(record["curve"]) for record in records)
        values = np.array([[100 * row["error"] for row in r["curve"][:epochs]] for r in records])
        at, mean = np.arange(1, epochs + 1), values.mean(axis=0)
        alone = f"last epoch {mean[-1]:.2f} %" + (f", {len(records)} seeds" if len(records) > 1 else "")
        label = setting if len(found.settings) > 1 else alone
        look = {"markerfacecolor": PAPER} if len(axes.lines) >= len(SERIES) else {}  # its style is taken
        (line,) = axes.plot(at, mean, markevery=max(1, epochs // 20), label=label, **look)
        drawn += values.ravel().tolist()
        if len(records) > 1:
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(at, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    published = PUBLISHED.get(found.experiment, {}).get(setting)
    if len(found.settings) == 1 and published:
        mark = f"{theirs(found.experiment)}: {published:.2f} %"
        axes.axhline(published, color=OTHERS, linestyle=(0, (6, 3)), marker="", linewidth=1.4, label=mark)
        drawn.append(published)
    axes.set(ylabel="error (%)")
    epochs_axis(axes, at)
    if min(drawn) > 0:
        logarithmic(axes.yaxis, drawn)
    short = max(map(len, found.settings)) <= LONG
    if short or len(found.settings) <= len(SERIES):
        axes.legend(ncols=2 if short else 1)
    else:
        axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12))


def _last_errors(found: Found) -> list[list[float]]:
    return [[100 * (1 - record["accuracy_last"]) for record in r] for r in found.settings.values()]


def _draw_bars(axes: Any, found: Found) -> None:
    """Mean error of the last epoch, a mark for each seed, and the paper's bars beside."""
    errors, at = _last_errors(found), np.arange(len(found.settings))
    published = PUBLISHED.get(found.experiment, {})
    others = [published.get(setting, np.nan) for setting in found.settings]
    means = [statistics.mean(e) for e in errors]
    aside = 0.2 if published else 0
    axes.bar(at - aside, means, 0.4, color=OURS, label="ours")
    look = {"linestyle": "", "marker": "o", "color": INK, "markeredgecolor": PAPER, "markersize": 5}
    for x, mean, seeds in zip(at, means, errors, strict=True):
        if len(seeds) > 1:
            axes.plot([x - aside] * len(seeds), seeds, **look, label="each seed" if x == 0 else None)
        above = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center"}
        axes.annotate(f"{mean:.1f}", (x - aside, max(seeds)), fontsize=8, color=OURS, **above)
    if published:
        bars = axes.bar(
            at + 0.2,
            others,
            0.4,
            color=OTHERS,
            hatch="///",
            edgecolor="white",
            linewidth=0,
            label=theirs(found.experiment),
        )
        labels = ["" if np.isnan(error) else f"{error:.1f}" for error in others]
        axes.bar_label(bars, labels, fontsize=8, color=MUTED, padding=2)
    _label_settings(axes, found)
    axes.set_ylim(0, 1.15 * max(*axes.get_ylim(), 1))
    if published or any(len(seeds) > 1 for seeds in errors):
        axes.legend()


def _draw_boxes(axes: Any, found: Found) -> None:
    """A box a setting over its seeds, as the paper's figure; a line where there is one seed."""
    axes.boxplot(_last_errors(found), positions=np.arange(len(found.settings)), widths=0.5)
    _label_settings(axes, found)


def _label_settings(axes: Any, found: Found) -> None:
    names = [setting.rpartition("=") for setting in found.settings]
    values = [value for _, _, value in names]
    longest = max(map(len, values))
    slanted = {"rotation": 35, "ha": "right", "rotation_mode": "anchor", "fontsize": 8}
    axes.set_xticks(range(len(names)), values, **(slanted if longest > LONG else {}))
    axes.set_xlabel(names[0][0] or ("setting" if longest > LONG else "pattern"))
    axes.set_ylabel("error of the last epoch (%)")
    axes.grid(False, axis="x")
