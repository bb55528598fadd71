"""Commands that ask a trained run: `evaluate`, `compare`, `raster`, `binary`, `communication`."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from experiments.commands import raster as picture_of
from experiments.commands.command_line import busy, console, counter, show_table
from experiments.commands.options import Found, Simulator, Where, Written, command_of, place
from experiments.datasets import Dataset
from experiments.engines import NAMES, make_engine
from experiments.runs import calibration, run_folder
from experiments.runs import compare as comparison
from experiments.runs.training import Run, load_for, predict_all
from experiments.studies import binary, communication
from wage_neuro.errors import SettingError
from wage_neuro.settings import DATA, OUTPUT

MOST_CLASSES = 20
"""More have no matrix on a terminal."""
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run.")]


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or a checkpoint file.")],
    found: Found,
    machine: Simulator,
    data: Annotated[
        str | None,
        typer.Option(
            help="Another data set of the same form.  [default: the run's own]",
            show_default=False,
            rich_help_panel=DATA,
        ),
    ] = None,
    calibrated: Annotated[
        bool,
        typer.Option(
            "--calibration",
            help="Also the expected calibration error, at the power of two as temperature that is best on"
            " images that were held out, or else on training images.",
            rich_help_panel=DATA,
        ),
    ] = False,
    unlike: Annotated[
        str | None,
        typer.Option(
            help="Data set of what it has never seen: how well its logits tell that from its own (AUROC).",
            show_default=False,
            rich_help_panel=DATA,
        ),
    ] = None,
) -> None:
    """Measure a trained network on test images, class by class."""
    saved = run_folder.load(run)
    config = saved.extra.get("config", {})
    name = data or config.get("data", "digits")
    with busy(f"reading {name}"):
        images = load_for(saved, name, found.data_dir)
    others, said = None, []
    if unlike:
        with busy(f"reading {unlike}"):
            others = load_for(saved, unlike, found.data_dir).test_images
        saved.network.check_images(np.asarray(others[:1]))
    with ExitStack() as held:
        with busy(f"starting engine {machine.engine}"):
            engine = held.enter_context(
                make_engine(machine.engine, saved.network, saved.rules, saved.state, **machine.options)
            )
        report = held.enter_context(counter("image", len(images.test_labels)))
        logits = predict_all(engine, images.test_images, report)
        saved.network.check_labels(images.test_labels, len(logits))
        if calibrated or others is not None:
            held_out = 0 if data else config.get("validation", 0)
            known, right, what = calibration.chosen_on(images, held_out)
            chosen = calibration.best_temperature(predict_all(engine, known), right)
            unknown = None if others is None else predict_all(engine, others)
            trust = calibration.trust(logits, images.test_labels, chosen, unknown)
            said = [f"{name} {value:.2f} %" for name, value in trust.items() if name in calibration.SHARES]
            said[0] += f" at temperature 2^{chosen}, chosen on {what}"
    answers = logits.argmax(axis=1)
    show_table(_by_class(images, answers, f"{saved.network} on {name}, test images of {images.source}"))
    if images.classes <= MOST_CLASSES:
        show_table(_confusion(images, answers))
    for line in said:
        console.print(line)
    console.print(f"test accuracy {100 * float((answers == images.test_labels).mean()):.2f} %")


def _by_class(images: Dataset, answers: np.ndarray, title: str) -> Table:
    table = Table("class", "images", "right", "accuracy", "most often taken for", title=title)
    for label in range(images.classes):
        mine = answers[images.test_labels == label]
        if len(mine):
            right = int((mine == label).sum())
            others = np.bincount(mine[mine != label], minlength=images.classes)
            mistaken = f"{images.called(int(others.argmax()))} ({others.max()} x)" if others.any() else ""
            share = f"{100 * right / len(mine):.2f} %"
            table.add_row(images.called(label), str(len(mine)), str(right), share, mistaken)
    return table


def _confusion(images: Dataset, answers: np.ndarray) -> Table:
    """Images of each class by answer; a dot is none."""
    n = images.classes
    counts = np.bincount(images.test_labels * n + answers, minlength=n * n).reshape(n, n)
    table = Table(title="right class by row, answer by column", box=None, padding=(0, 1))
    table.add_column("")
    for label in range(n):
        table.add_column(str(label), justify="right")
    for label, row in enumerate(counts):
        table.add_row(images.called(label), *(f"{count:,}" if count else "·" for count in row))
    return table


def features(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or a checkpoint file.")],
    found: Found,
    output: Annotated[Path, typer.Option(help="The .npz, a data set as any other.", rich_help_panel=OUTPUT)],
    data: Annotated[
        str | None,
        typer.Option(
            help="Data set of the same form, of other classes maybe.  [default: the run's own]",
            show_default=False,
            rich_help_panel=DATA,
        ),
    ] = None,
) -> None:
    """Write what a network makes of images before its last layer, to learn on from: `split-FILE.npz`."""
    from experiments.continual import features as of_layers

    run_folder.check_writable(output)
    saved = run_folder.load(run)
    name = data or saved.extra.get("config", {}).get("data", "digits")
    with busy(f"computing the features of {name}"):
        made = of_layers.features_file(saved, name, output, found.data_dir)
    console.print(
        f"{len(made.train_labels):,} and {len(made.test_labels):,} images of {name},"
        f" {made.train_images.shape[2]:,} features each, written to {output}"
    )


def measure_communication(
    run: Annotated[Path, typer.Argument(help="Folder of the run whose training is done again.")],
    found: Found,
    machine: Where,
    every: Annotated[int, typer.Option(help="Measure the update of every N-th step.")] = 50,
    epochs: Annotated[
        int | None, typer.Option(help="Train no longer than this.  [default: the run's]", show_default=False)
    ] = None,
    output: Annotated[
        Path, typer.Option(help="The record, a JSON; its picture goes beside it.", rich_help_panel=OUTPUT)
    ] = Path("communication.json"),
) -> None:
    """Measure the bytes of each update against float32 gradients, and the memory of the weights."""
    config = communication.config_of(run)
    config = replace(config, epochs=min(epochs or config.epochs, config.epochs))
    for path in (output, output.with_suffix(".png")):
        run_folder.check_writable(path)
    with counter("step") as report:
        record = communication.measure(config, every, machine.engine, found.data_dir, report)
    picture = communication.write(output, {"command": run_folder.this_command(), **record})
    for line in communication.summary(record):
        console.print(line, soft_wrap=True)
    console.print(f"written to {output} and {picture}")


def compare(
    run: RunFolder,
    found: Found,
    engines: Annotated[
        str,
        typer.Option(
            help=f"Of {', '.join(NAMES)}, joined by commas; the first is what the others should give."
        ),
    ] = "numpy,lava,brian2",
    steps: Annotated[int, typer.Option(help="Batches to learn, from where the run stands.")] = 3,
) -> None:
    """Let several engines go on with a run, and name the first bit in which they differ."""
    names = engines.split(",")
    with busy(f"reading the run {run} and its data"):
        run_to_continue = Run.resume(run, data_dir=found.data_dir)
    with counter("step", steps) as report:
        difference = comparison.compare(run_to_continue, names, steps, report)
    if difference:
        console.print(f"first difference: {difference}", style="red")
        raise typer.Exit(1)
    console.print(f"{', '.join(names)}: no difference in logits, weights or exponents after {steps} steps")


def raster(
    run: RunFolder,
    found: Found,
    sample: Annotated[int, typer.Option(help="Which test image, from 0.")] = 0,
    output: Annotated[Path, typer.Option(help="The picture, a PNG.", rich_help_panel=OUTPUT)] = Path(
        "raster.png"
    ),
    values: Annotated[Path | None, place("Also write the values that are drawn, a JSON.")] = None,
) -> None:
    """Draw one image's graded spikes through the network, and its error's on the way back."""
    trained = Run.resume(run, data_dir=found.data_dir)
    images, labels = trained.data.test_images, trained.data.test_labels
    if not 0 <= sample < len(labels):
        raise SettingError(f"sample={sample}: want 0..{len(labels) - 1}")
    for path in (output, values):
        if path:
            run_folder.check_writable(path)
    saved = trained.saved
    activity = picture_of.record(saved.network, saved.state, saved.rules, images[sample], int(labels[sample]))
    where = f"{Path(trained.config.data).name}, {trained.config.held_out} image {sample}"
    title = f"{str(saved.network).removeprefix('F-')}: {where}"
    with busy(f"drawing {output}"):
        picture_of.draw(output, activity, title)
    if values:
        run_folder.write_text(values, json.dumps({"title": title, **activity.to_json()}) + "\n")
    console.print(f"drawn to {output}")


def binary_spikes(
    run: RunFolder,
    found: Found,
    written: Written,
    images: Annotated[int, typer.Option(help="Test images to answer, the first ones.")] = 200,
) -> None:
    """Answer with binary spikes, a bit a time step, in Brian2 and Lava: their cost against graded ones."""
    record = written.output
    trained = Run.resume(run, data_dir=found.data_dir)
    with counter("image", images) as report:
        measured = binary.measure(trained, images, report)
    table = Table("spikes", "latency (time steps)", "spikes an image", "accuracy")
    for row in measured["rows"]:
        table.add_row(
            row["spikes"], str(row["latency"]), f"{row['an_image']:,.1f}", f"{100 * row['accuracy']:.2f} %"
        )
    show_table(table)
    words = {True: "yes", False: "NO", None: "not run, lava-nc is not installed"}
    console.print(f"every spike and logit equal in Lava: {words[measured['same_in_lava']]}")
    console.print(f"{images} images, every logit equal: {words[measured['same_logits']]}")
    if record:
        run_folder.write_json(
            record,
            {"command": run_folder.this_command(), **measured, "versions": run_folder.versions()},
        )
    if not measured["same_logits"] or measured["same_in_lava"] is False:
        raise typer.Exit(1)


EVALUATE, COMMUNICATION, COMPARE = (command_of(each) for each in (evaluate, measure_communication, compare))
RASTER, BINARY, FEATURES = (command_of(each) for each in (raster, binary_spikes, features))
