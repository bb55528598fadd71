"""The page of a continual run: the matrix as it grows, accuracy so far, measures, cost, settings."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from experiments.commands.chip_map import Subject
from experiments.continual import records
from experiments.continual.command import RECORD, STUDY
from experiments.continual.study import Config
from experiments.records.names import learning, short_name
from experiments.records.style import INK, PAPER, ink_on, value_colours
from experiments.report import chip as of_chip
from experiments.report.charts import Line, lines
from experiments.report.page import Page, Part, Section, facts, note, script, table, words
from experiments.runs import calibration, run_folder
from mappings.chips.chip import Chip
from wage_neuro.errors import WageError

__all__ = ["RECORD", "STUDY", "page"]
FLAGS = {
    each.name: each.metadata["flag"].partition("/")[0] for each in fields(Config) if "flag" in each.metadata
}
"""Options that are not called as their settings are."""
MOST_TASKS = 25
"""A matrix of more has no table of its numbers."""
MOST_DRAWN = 100
"""A matrix of more is not drawn: it would be most of the page."""
MEASURES = ("ACC", "forgetting", "BWT", "FWT", "average incremental accuracy", *calibration.SHARES)
NOT_SETTINGS = ("kind", "config", "tasks", "versions", "activity", "unchanged", *MEASURES)


def page(folder: Path, data_dir: Path | None, engine: str, chip: Chip, told: Callable[..., None]) -> Page:
    """Build the page of a finished continual run, every seed of it.

    Raises
    ------
    DataError
        If its record is damaged.
    """
    record = records.read(folder)
    head = record.runs[0]
    found = Page(record.title, _lead(record))
    if len(record.tasks) <= MOST_DRAWN:
        found.sections.append(Section("What stays", _matrix(record)))
        found.scripts.append(_script(record))
    else:
        found.sections.append(Section("What stays", [_last_row(record)]))
    found.sections.append(Section("Accuracy so far", _curves(record)))
    found.sections.append(Section("Measures", [_measures(record)]))
    try:
        found.sections += of_chip.sections(Subject.of_run(folder, None, data_dir), chip)
    except WageError as error:
        found.sections.append(Section(f"On the chip {chip.name}", [note(error)]))
    found.sections.append(Section("Settings", _settings(folder, head)))
    return found


def _lead(record: records.Record) -> str:
    head = record.runs[0]
    seeds = f"{len(record.runs)} seeds" if len(record.runs) > 1 else "1 seed"
    return words(
        f"{short_name(head['network'])}, {len(record.tasks)} tasks, {seeds}, measured on"
        f" {head['measured_on']} images; {head['samples']:,} new samples, a memory of"
        f" {head['memory_bytes']:,} bytes."
        f" Accuracy over all tasks at the end: {record.mean_and_spread('ACC')} %."
    )


def _matrix(record: records.Record) -> list[Part]:
    tasks, T = record.tasks, record.R.shape[1]
    said = words(
        "Accuracy on each task (columns) after each task was learned (rows). Move the slider, or play, to see"
        " what is learned and what is forgotten."
    )
    seeds = "".join(
        f'<option value="{i + 1}">seed {run["config"]["seed"]}</option>' for i, run in enumerate(record.runs)
    )
    controls = (
        '<div class="controls only-screen"><button type="button" id="play">Play</button>'
        '<label for="after">after task</label>'
        f'<input type="range" id="after" min="0" max="{T - 1}" value="{T - 1}">'
        '<label for="seed">of</label><select id="seed"><option value="0">the mean of all seeds</option>'
        f"{seeds}</select></div>"
    )
    R = 100 * record.R.mean(axis=0)
    alt = f"Accuracy matrix of {len(tasks)} tasks; after the last one: " + ", ".join(
        f"task {name} {value:.1f} %" for name, value in zip(tasks[:MOST_TASKS], R[-1], strict=False)
    )
    rows = [
        [f"after {tasks[i] if len(tasks) == T else 'all'}", *map(_measured, row)] for i, row in enumerate(R)
    ]
    numbers = (
        table(["learned", *tasks], rows, "Accuracy (%), mean of all seeds")
        if len(tasks) <= MOST_TASKS
        else ""
    )
    shown = f"<details><summary>the numbers</summary>{numbers}</details>" if numbers else ""
    return [
        said, controls, '<p id="now" aria-live="polite"></p>',
        f'<figure><svg id="matrix" role="img" aria-label="{escape(alt, quote=True)}" width="680"></svg>',
        f"<figcaption>{escape(alt)}</figcaption></figure>", shown,
    ]  # fmt: skip


def _measured(accuracy: float) -> str:
    """An accuracy of a table, which has none where none was measured."""
    return "" if np.isnan(accuracy) else f"{accuracy:.1f}"


def _last_row(record: records.Record) -> Part:
    """Accuracy on each task at the end, the newest last."""
    last, T = 100 * record.R[:, -1], len(record.tasks)
    alt = f"Accuracy on each of {T} tasks at the end; on the last one {last[:, -1].mean():.1f} %."
    found = {
        f"seed {run['config']['seed']}": (range(1, T + 1), row)
        for run, row in zip(record.runs, last, strict=True)
    }
    return lines(found, "task", "accuracy (%)", alt)


def _script(record: records.Record) -> str:
    R = 100 * np.concatenate([record.R.mean(axis=0, keepdims=True), record.R])
    known = {
        "R": [[[None if np.isnan(a) else round(float(a), 1) for a in row] for row in each] for each in R],
        "tasks": record.tasks,
        "colours": value_colours(101),
        "inks": [ink_on(colour) for colour in value_colours(101)],
        "ink": INK,
        "paper": PAPER,
    }
    return script("stream.js", known)


def _curves(record: records.Record) -> list[Part]:
    T = len(record.tasks)
    parts: list[Part] = []
    so_far = 100 * record.so_far
    found: dict[str, Line]
    seeds = [f"seed {run['config']['seed']}" for run in record.runs]
    if so_far.shape[1] > 1:
        found = {name: (range(1, T + 1), row) for name, row in zip(seeds, so_far, strict=True)}
        alt = f"Accuracy over the tasks so far against tasks learned; at last {so_far[:, -1].mean():.2f} %."
        parts.append(lines(found, "tasks learned", "accuracy (%)", alt))
    if record.samples.size:
        anytime = 100 * record.anytime
        found = {name: (record.samples, row) for name, row in zip(seeds, anytime, strict=True)}
        alt = f"Accuracy over the tasks so far against samples; at last {anytime[:, -1].mean():.2f} %."
        parts.append(lines(found, "new samples seen", "accuracy (%)", alt))
    return [*parts] or [note("All tasks were learned together, so there is no accuracy so far.")]


def _measures(record: records.Record) -> str:
    names = [name for name in MEASURES if name in record.runs[0]]
    rows = [[f"seed {run['config']['seed']}", *(f"{run[name]:.2f}" for name in names)] for run in record.runs]
    rows.append(["mean", *(record.mean_and_spread(name) for name in names)])
    return table(["run", *names], rows, "Measures, %")


def _settings(folder: Path, head: dict[str, Any]) -> list[Part]:
    config = {name: value for name, value in head["config"].items() if value is not None}
    others = {name: value for name, value in head.items() if name not in NOT_SETTINGS}
    parts: list[Part] = [
        f"<h3>Command, one that makes the same run</h3><pre>{escape(_command(head['config']))}</pre>",
        facts(config, "Settings"),
        facts({**others, "folder": folder.name}, "What it was"),
    ]
    if "update" in config:
        rules = {"batch": 1, **config}
        parts.insert(0, words(f"It learns {learning(rules)}."))
    if isinstance(head.get("versions"), dict):
        parts.append(facts(head["versions"], "Versions that trained it"))
    return [*parts, facts(run_folder.versions(), "Versions that made this page")]


def _command(config: dict[str, Any]) -> str:
    """The whole command of a continual run."""
    options = []
    for name, value in config.items():
        if name == "stream" or value is None or value is False:
            continue
        text = f"{value}/8" if name == "margin" else str(value)
        options += [FLAGS.get(name, f"--{name.replace('_', '-')}"), *([] if value is True else [text])]
    return shlex.join(["wage-neuro", "continual", config["stream"], *options])
