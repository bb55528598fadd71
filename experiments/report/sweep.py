"""The page of several runs: in what they differ, and how they compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.commands.runs import facts as facts_of
from experiments.continual import records
from experiments.continual.command import RECORD
from experiments.records.names import apart
from experiments.report.charts import lines
from experiments.report.page import Page, Part, Section, facts, note, table, words
from experiments.runs import run_folder
from experiments.runs.forms import TrainingRecord
from mappings.chips.chip import Chip
from wage_neuro.errors import DataError, WageError
from wage_neuro.typed import read_json

MOST_LINES = 16
"""Curves that can be told apart; of more runs the best are drawn."""
NOT_COMPARED = ("seed", "updates", "epochs done", "accuracy")


def runs_in(folder: Path) -> Iterator[Path]:
    """Folders of training runs and of continual runs in a folder."""
    for path in sorted(folder.rglob(run_folder.CHECKPOINT)):
        if not (path.parent.parent / RECORD).exists():
            yield path.parent
    yield from (path.parent for path in sorted(folder.rglob(RECORD)))


def page(folder: Path, data_dir: Path | None, engine: str, chip: Chip, told: Callable[..., None]) -> Page:
    """Build the page that compares the runs in a folder."""
    found, refused = [], []
    for path in runs_in(folder):
        try:
            found.append(_run(path, str(path.relative_to(folder))))
        except WageError as error:
            refused.append(note(f"left out: {error}"))
    if not found:
        raise DataError(f"{folder}: none of its runs can be read; the first: {refused[0][22:-4]}")
    found.sort(key=lambda run: -run["accuracy"])
    _name(found)
    best = found[0]
    lead = words(
        f"{len(found)} runs in {folder.name}. The best: {best['label']}, {100 * best['accuracy']:.2f} %."
    )
    made = Page(f"{len(found)} runs compared", lead)
    made.sections.append(Section("Side by side", [_table(found), *refused]))
    made.sections.append(Section("Learning curves", _curves(found)))
    common, _ = apart([run["words"] for run in found])
    shared = dict(word.split("=", 1) for word in common)
    made.sections.append(Section("What all have in common", [facts(shared, "Settings")]))
    made.sections.append(Section("Versions", [facts(run_folder.versions(), "Versions that made this page")]))
    return made


def _run(path: Path, name: str) -> dict[str, Any]:
    """What is compared of a run, training or continual."""
    if (path / RECORD).exists():
        record = records.read(path)
        head, ends = record.runs[0], range(1, record.R.shape[1] + 1)
        curve = list(ends), (100 * record.so_far.mean(axis=0)).tolist()
        settings = {**head["config"], "network": head["network"], "measured_on": head["measured_on"]}
        accuracy = sum(run["ACC"] for run in record.runs) / len(record.runs) / 100
        seeds, axes = len(record.runs), ("tasks learned", "accuracy over the tasks so far (%)")
    elif (path / "record.json").exists():
        kept = read_json(path / "record.json", TrainingRecord, "record of a training run", DataError)
        rules = dict(kept["config"].get("rules", {}))
        settings = {**kept["config"], **rules, "network": kept["network"], "measured_on": kept["measured_on"]}
        curve = [i + 1 for i in range(len(kept["curve"]))], [100 * row["error"] for row in kept["curve"]]
        accuracy, seeds, axes = kept["accuracy_last"], 1, ("epoch", "error (%)")
    else:
        said = facts_of(path)
        settings = {name: value for name, value in said.items() if name not in NOT_COMPARED}
        done = said["accuracy"].removesuffix(" %")
        if not done:
            raise DataError(f"{path}: no epoch is finished yet")
        curve, seeds, axes = ([said["epochs done"]], [100 - float(done)]), 1, ("epoch", "error (%)")
        accuracy = float(done) / 100
    values = {k: v for k, v in settings.items() if k not in ("rules", "seed") and v is not None}
    return {
        "name": name,
        "seed": settings.get("seed", ""),
        "words": [f"{k}={v}" for k, v in values.items()],
        "accuracy": accuracy,
        "seeds": seeds,
        "curve": curve,
        "axes": axes,
    }


def _name(runs: list[dict[str, Any]]) -> None:
    """Call each run by what differs, and by its folder where nothing else does."""
    common, _ = apart([run["words"] for run in runs])
    for run in runs:
        run["differs"] = "; ".join(word for word in run["words"] if word not in common) if runs[1:] else ""
        seed = f"seed {run['seed']}" if run["seed"] != "" else ""
        run["label"] = ", ".join(filter(None, (run["differs"], seed))) or run["name"]
    labels = [run["label"] for run in runs]
    for run in runs:
        if labels.count(run["label"]) > 1 or len(run["label"]) > 60:
            run["label"] = run["name"]


def _table(runs: list[dict[str, Any]]) -> str:
    rows = [
        [
            run["name"],
            run["differs"],
            f"seed {run['seed']}",
            f"{100 * run['accuracy']:.2f} %",
        ]
        for run in runs
    ]
    return table(("run", "in what it differs", "seed", "accuracy"), rows, "Runs, the best first")


def _curves(runs: list[dict[str, Any]]) -> list[Part]:
    parts: list[Part] = []
    for axes in dict.fromkeys(run["axes"] for run in runs):
        mine = [run for run in runs if run["axes"] == axes]
        drawn = mine[:MOST_LINES]
        if len(mine) > len(drawn):
            parts.append(note(f"The best {len(drawn)} of {len(mine)} are drawn."))
        found = {run["label"]: run["curve"] for run in drawn}
        alt = f"{axes[1].capitalize()} against {axes[0]} of {len(drawn)} runs; last: " + ", ".join(
            f"{run['label']} {run['curve'][1][-1]:.2f} %" for run in drawn
        )
        parts.append(lines(found, axes[0], axes[1], alt, log=axes[0] == "epoch"))
    return parts
