"""The page of a training run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from experiments.commands import raster
from experiments.commands.chip_map import Subject
from experiments.datasets import Dataset
from experiments.engines import make_engine
from experiments.records.names import learning, short_name
from experiments.records.readme import command_of
from experiments.report import chip as of_chip
from experiments.report.charts import WIDTH, heat, lines
from experiments.report.confusion import Confusion
from experiments.report.page import (
    Page,
    Part,
    Section,
    facts,
    note,
    picture,
    script,
    side_by_side,
    table,
    words,
)
from experiments.runs import run_folder, spread
from experiments.runs.training import kept_of, open_data, predict_all
from mappings.chips.chip import Chip
from mappings.chips.cost import count_activity
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import DataError
from wage_neuro.train import initial_state

COLUMNS = 40
"""Columns of a picture of weights over time, at most."""
FEW_CODES = 7
"""Visible weights of so many codes are drawn as a line each."""
IMAGES_COUNTED = 64
RASTERS = 10
"""Images that can be chosen."""


@dataclass(frozen=True)
class Subjected:
    """A run, with the data that it was measured on, or why they are not here."""

    folder: Path
    saved: Checkpoint
    data: Dataset | None
    no_data: str
    engine: str

    @cached_property
    def kept(self) -> Any:
        return kept_of(self.folder, self.saved)

    @cached_property
    def record(self) -> dict[str, Any]:
        """record.json of a finished run, or nothing."""
        path = self.folder / "record.json"
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @classmethod
    def read(cls, folder: Path, data_dir: Path | None, engine: str) -> Subjected:
        saved = run_folder.load(folder)
        kept = kept_of(folder, saved)
        try:
            data: Dataset | None = open_data(kept.config, data_dir)
        except DataError as error:
            return cls(folder, saved, None, str(error), engine)
        assert data
        if data.checksum != kept.data_sha256:
            return cls(
                folder, saved, None, f"{kept.config.data}: other data than it has learned from", engine
            )
        return cls(folder, saved, data, "", engine)


def page(folder: Path, data_dir: Path | None, engine: str, chip: Chip, told: Callable[..., None]) -> Page:
    """Build the page; `told` hears how many images are answered, of how many.

    Raises
    ------
    CheckpointError
        If there is no training run in the folder.
    """
    run = Subjected.read(folder, data_dir, engine)
    network, config = run.saved.network, run.kept.config
    title = f"{short_name(str(network))} on {Path(config.data).name}"
    found = Page(title, _lead(run))
    found.sections.append(Section("Learning", _curve(run)))
    if run.data:
        confusion = _answers(run, told)
        found.sections.append(Section("Answers", confusion.parts()))
        found.scripts.append(confusion.script())
    else:
        found.sections.append(Section("Answers", [note(f"The images are not here: {run.no_data}")]))
    found.sections.append(Section("Weights over time", _weights(run)))
    found.sections.append(Section("Activity", _activity(run)))
    if run.data:
        parts, chooser = _rasters(run, confusion)
        found.sections.append(Section("One image up, its error down", parts))
        found.scripts.append(chooser)
        found.sections += of_chip.sections(Subject.of_checkpoint(run.saved, run.data), chip)
    found.sections.append(Section("Settings", _settings(run)))
    return found


def _lead(run: Subjected) -> str:
    network, config, curve = run.saved.network, run.kept.config, run.kept.progress.curve
    engine = f", engine {run.record['engine']}" if "engine" in run.record else ""
    text = (
        f"{network.n_weights:,} weights, {network.bits} (bits of weights, activations, gradients, errors),"
        f" {learning(asdict(run.saved.rules))}{engine}; {len(curve)} of {config.epochs} epochs,"
        f" {run.saved.state.step:,} updates."
    )
    if curve:
        best = max(curve, key=lambda row: row["accuracy"])
        text += (
            f" {config.held_out.capitalize()} accuracy {100 * curve[-1]['accuracy']:.2f} % after the last"
            f" epoch, {100 * best['accuracy']:.2f} % after the best ({best['epoch'] + 1})."
        )
    return words(text)


def _curve(run: Subjected) -> list[Part]:
    curve, held_out = run.kept.progress.curve, run.kept.config.held_out
    if not curve:
        return [note("No epoch is finished yet.")]
    epochs = [row["epoch"] + 1 for row in curve]
    found = {
        "training": (epochs, [100 * row["train_error"] for row in curve]),
        held_out: (epochs, [100 * row["error"] for row in curve]),
    }
    last = ", ".join(f"{name} {values[-1]:.2f} %" for name, (_, values) in found.items())
    alt = f"Error against epochs, from {epochs[0]} to {epochs[-1]}; last: {last}."
    return [lines(found, "epoch", "error (%)", alt, log=True)]


def _answers(run: Subjected, told: Callable[..., None]) -> Confusion:
    assert run.data
    images = run.data.test_images
    with make_engine(run.engine, run.saved.network, run.saved.rules, run.saved.state) as engine:
        logits = predict_all(engine, images, lambda done: told(done, len(images)))
    return Confusion(run.data, logits.argmax(axis=1), run.kept.config.held_out)


def _weights(run: Subjected) -> list[Part]:
    network, rules = run.saved.network, run.saved.rules
    rows = spread.read(run.folder, network, rules)
    if not rows:  # a run of before: its first weights follow from the seed
        begin = initial_state(network, run.saved.state.seed)
        last = run.kept.progress.epoch
        rows = [
            spread.spread_of(network, rules, state, epoch)
            for epoch, state in ((0, begin), (last, run.saved.state))
        ]
    keep = np.unique(np.linspace(0, len(rows) - 1, min(COLUMNS, len(rows))).astype(int))
    rows = [rows[i] for i in keep]
    epochs = [row["epoch"] for row in rows]
    parts: list[Part] = [
        words(
            f"Stored weights have {network.bits.k_G} bits; visible ones, which forward and backward passes"
            f" see, {network.bits.k_W}. Darker: more weights of a layer have that code."
        )
    ]
    for i, layer in enumerate(network.layers):
        most = layer.bits.stored_max(rules.stored_range)
        stored = np.array([row["stored"][i] for row in rows])
        visible = np.array([row["visible"][i] for row in rows])
        name = f"layer {i}, {layer}"
        outer = 100 * (stored[:, 0] + stored[:, -1])[[0, -1]] / stored.sum(axis=1)[[0, -1]]
        alt = (
            f"Stored weights of {name} after each of {len(rows)} epochs; at the ends of their range"
            f" {outer[0]:.1f} % at first, {outer[1]:.1f} % at last."
        )
        charts: list[Part] = [
            heat(stored, [str(e) for e in epochs], spread.centres(most), "epoch", "stored weight", alt)
        ]
        codes = spread.centres(layer.bits.weight_max)
        shares = 100 * visible / visible.sum(axis=1, keepdims=True)
        if len(codes) <= FEW_CODES:
            found = {f"{code:+d}" if code else "0": (epochs, shares[:, k]) for k, code in enumerate(codes)}
            last = ", ".join(f"{name} {share[-1]:.1f} %" for name, (_, share) in found.items())
            alt = f"Visible weights of {name}: share of each code; at last {last}."
            charts.append(lines(found, "epoch", "share (%)", alt, width=WIDTH // 2, height=250))
        else:
            alt = f"Visible weights of {name} after each of {len(rows)} epochs."
            charts.append(heat(visible, [str(e) for e in epochs], codes, "epoch", "visible weight", alt))
        parts += [f"<h3>{escape(name[0].upper() + name[1:])}</h3>", *side_by_side(charts)]
    return parts


FIELDS = {
    "spikes": "activation spikes",
    "errors": "error spikes",
    "updates": "weights changed",
}


def _activity(run: Subjected) -> list[Part]:
    network = run.saved.network
    rows = [row for row in run.kept.progress.curve if "activity" in row]
    parts: list[Part] = []
    epochs = [row["epoch"] + 1 for row in rows]
    charts: list[Part] = []
    for name, what in FIELDS.items() if rows else ():
        found = {
            f"{i} {layer}": (epochs, [row["activity"][name][i] for row in rows])
            for i, layer in enumerate(network.layers)
        }
        last = ", ".join(f"layer {layer} {values[-1]:,.4g}" for layer, (_, values) in found.items())
        alt = f"{what.capitalize()} a sample against epochs; last: {last}."
        charts.append(lines(found, "epoch", f"{what} a sample", alt, log=True, width=WIDTH // 2))
    parts += side_by_side(charts) if charts else []
    if not rows:
        parts.append(note("Not watched while it learned: `wage-neuro train --watch 100` counts as it goes."))
    if run.data:
        parts.append(_now(run))
    return parts


def _now(run: Subjected) -> str:
    """Activity of the trained network, counted."""
    assert run.data
    network, rules = run.saved.network, run.saved.rules
    images = np.asarray(run.data.test_images[:IMAGES_COUNTED])
    with make_engine("numpy", network, rules, run.saved.state) as engine:
        counted = count_activity(engine, images)
    rows = []
    for layer, one in zip(network.layers, counted, strict=True):
        met = f"{one.effective:,.0f}" if one.effective is not None else ""
        of = f"{layer.fan_in * int(np.prod(layer.z_shape)):,}"
        n_in, n_out = int(np.prod(layer.in_shape)), int(np.prod(layer.out_shape))
        spikes = f"{one.inputs:,.1f} of {n_in:,}", f"{one.outputs:,.1f} of {n_out:,}"
        rows.append([f"layer {layer.index} {layer}", *spikes, met, of])
    heads = ("layer", "spikes in", "spikes out", "synaptic operations", "if nothing were 0")
    return table(heads, rows, f"Answering, mean of {len(images)} {run.kept.config.held_out} images")


def _rasters(run: Subjected, confusion: Confusion) -> tuple[list[Part], str]:
    """A raster of some images, one of which is chosen; what shows it."""
    assert run.data
    shown, saved = [], run.saved
    with tempfile.TemporaryDirectory() as folder:
        for i, sample in enumerate(confusion.examples(RASTERS)):
            label, answer = int(run.data.test_labels[sample]), int(confusion.answers[sample])
            image = np.asarray(run.data.test_images[sample])
            activity = raster.record(saved.network, saved.state, saved.rules, image, label)
            path = Path(folder) / "raster.png"
            where = f"{run.kept.config.held_out} image {sample}"
            called = run.data.called(label)
            raster.draw(path, activity, f"{where}: {called}")
            up = ", ".join(f"{np.count_nonzero(v.values):,}" for v in activity.volleys if not v.is_error)
            down = ", ".join(f"{np.count_nonzero(v.values):,}" for v in activity.volleys if v.is_error)
            alt = (
                f"Raster of {where}, label {called}, answer {run.data.called(answer)}: spikes going up, from"
                f" the input on, {up}; errors coming down, {down}."
            )
            hidden = "" if i == 0 else " hidden"
            mark = "right" if label == answer else f"taken for {run.data.called(answer)}"
            shown.append(
                (f"{where}: {called}, {mark}", picture(_small(path), alt, f' class="raster"{hidden}'))
            )
    options = "".join(f'<option value="{i}">{escape(name)}</option>' for i, (name, _) in enumerate(shown))
    chooser = (
        '<div class="controls only-screen"><label for="raster-of">Image </label>'
        f'<select id="raster-of">{options}</select></div>'
    )
    said = words(
        "Each layer's spikes in the time step in which it sends them, neurons from bottom to top; then the"
        " errors on their way back. White: silent."
    )
    return [said, chooser, "<figure>", *(html for _, html in shown), "</figure>"], script("raster.js")


def _small(path: Path) -> bytes:
    """A PNG in few colours."""
    import io

    from PIL import Image

    made = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").quantize(96, method=Image.Quantize.MEDIANCUT).save(made, "PNG", optimize=True)
    return made.getvalue()


def _settings(run: Subjected) -> list[Part]:
    config, record = run.kept.config, run.record
    values = {name: value for name, value in config.to_json().items() if name != "rules"}
    command = record.get("command") or command_of(
        {"engine": record.get("engine", run.engine), "config": config.to_json()}
    )
    made = "as it was given" if "command" in record else "one that makes the same run"
    parts: list[Part] = [
        f"<h3>Command, {made}</h3><pre>{escape(str(command))}</pre>",
        facts(values, "Settings"),
        facts(asdict(run.saved.rules), "Rules"),
        facts({"sha-256 of the data": run.kept.data_sha256, "folder": run.folder.name}, "Data"),
    ]
    if isinstance(record.get("versions"), dict):
        parts.append(facts(record["versions"], "Versions that trained it"))
    return [*parts, facts(run_folder.versions(), "Versions that made this page")]
