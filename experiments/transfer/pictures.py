"""Picture and table of transfer studies."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from experiments.records.figure import picture
from experiments.records.names import mean_and_spread, short_name, table
from experiments.transfer.study import ALL, LEARNERS, Config, accuracies, read


def label(learner: str, config: Config) -> str:
    """What tables and pictures call a learner.

    >>> label("frozen", Config()), label("frozen", Config(head=2))
    ('pretrained, features frozen', 'pretrained, last 2 layers learn')
    """
    frozen = "features frozen" if config.head == 1 else f"last {config.head} layers learn"
    names = {"pretrained": "pretrained", "frozen": f"pretrained, {frozen}", "scratch": "from scratch"}
    return names[learner]


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """Draw accuracy against examples of each class: mean over seeds, band of their range."""
    head = rows[0]
    config = Config(**head["config"])
    shots = config.shots
    places = [head["training_images"] / head["classes"] if shot == ALL else int(shot) for shot in shots]
    seeds = f"{head['config']['seeds']} seeds" if head["config"]["seeds"] > 1 else "1 seed"
    with picture(path, 6.6, 4.4) as figure:
        axes = figure.subplots()
        for learner in LEARNERS:
            values = [accuracies(rows, learner, shot) for shot in shots]
            means = [statistics.mean(v) for v in values]
            (line,) = axes.plot(places, means, label=label(learner, config))
            low, high = [min(v) for v in values], [max(v) for v in values]
            axes.fill_between(places, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.set(
            xlabel="examples of each class",
            ylabel=f"{head['measured_on']} accuracy (%)",
            xscale="log",
        )
        names = [f"all\n({p:,.0f})" if s == ALL else s for s, p in zip(shots, places, strict=True)]
        axes.set_xticks(places, names)
        axes.minorticks_off()
        axes.legend(loc="best")
        axes.set_title(
            f"{head['from']} to {config.data}, all integers, {seeds}\n{_name(head)}", fontsize="medium"
        )


def transfer_table(folder: Path) -> str:
    """A row a learner of every record in `folder`/transfer: test accuracy against examples of each class."""
    found = [read(path) for path in sorted((folder / "transfer").glob("*.jsonl"))]
    found = [rows for rows in found if rows[0]["measured_on"] == "test"]
    shots = list(dict.fromkeys(shot for rows in found for shot in Config(**rows[0]["config"]).shots))
    lines = []
    for rows in found:
        head, config = rows[0], Config(**rows[0]["config"])
        what = f"{head['from']}, {config.data}", _name(head)
        for learner in LEARNERS:
            cells = (mean_and_spread(accuracies(rows, learner, shot), 1) for shot in shots)
            lines.append((*what, label(learner, config), *cells))
    return table(" | ".join(("from, to", "network", "start", *shots)), lines)


def _name(head: dict[str, Any]) -> str:
    return short_name(head["network"])
