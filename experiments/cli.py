"""The command `wage-neuro`."""

from __future__ import annotations

import json
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from experiments import datasets
from experiments.commands import chip_map, export, presets, raster
from experiments.commands.command_line import (
    STOPPED,
    DataDir,
    Validation,
    as_typed,
    bar,
    busy,
    counter,
    on_command_line,
    refuse_other_settings,
    show_table,
)
from experiments.commands.findings import results, show
from experiments.commands.rtl import rtl
from experiments.continual.command import continual
from experiments.engines import NAMES as ENGINES
from experiments.engines import make_engine
from experiments.entry import say_stopped
from experiments.records.curves import draw, read_record
from experiments.records.findings import arranged
from experiments.runs import compare as comparison
from experiments.runs import run_folder
from experiments.runs.training import Config, Report, Run, load_for, margin_of, predict_all
from experiments.studies import binary, communication
from experiments.transfer.command import transfer
from wage_neuro import __version__
from wage_neuro.errors import DoubtWarning, SettingError, WageError
from wage_neuro.network import PRESETS
from wage_neuro.rules import Rules

ONCHIP = {
    "batch": 1,
    "shift": "held",
    "update": "ternary",
    "loss": "one-sided",
    "margin": "3/8",
    "eta": "8, 4@8, 2@12, 1@15, 1/2@17, 1/4@19",
    "epochs": 20,
}
"""Defaults of --mode onchip: the annealing and the loss that learn best one sample at a time."""
DRAIN_EVERY = 250  # samples that enter a pipelined network before it drains
_FREE_IN_RESUME = {"resume", "epochs", "engine", "lanes", "model", "device", "data_dir", "record", "watch"}
NAME_LENGTH = 100  # of a run folder that is named for its run

app = typer.Typer(
    help="Train ternary networks with integers alone (WAGE), in numpy or inside the Lava simulator.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
console = Console(highlight=False, soft_wrap=True, markup=False)  # paths may look like markup

EngineName = Annotated[
    str,
    typer.Option(
        "--engine",
        help="`lava`, `brian2` and `rtl` simulate; `numpy`, `compiled` and `torch` give the same bits without"
        " one: `compiled` fastest where few samples share an update, `torch` for large nets on a GPU.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="torch: `cpu`, `cuda` or `cuda:N`.  [default: cuda where there is one]", show_default=False
    ),
]
Lanes = Annotated[
    int | None,
    typer.Option(
        help="Lava: samples a time step, a divisor of the batch; 1 is a chip's way.  [default: the batch]",
        show_default=False,
    ),
]


@app.command()
def train(
    context: typer.Context,
    mode: Annotated[
        str,
        typer.Option(
            help="`batch` learns as the paper does; `onchip` one sample at a time with ternary updates, with"
            " other defaults for --batch, --shift, --update, --loss, --margin, --eta and --epochs."
        ),
    ] = "batch",
    network: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(PRESETS)}, or hidden layers as in the paper: `32C5-MP2-64C5-MP2-512FC`."
        ),
    ] = "lenet",
    data: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(datasets.NAMES)}, or an `.npz` or a folder of `.npy` with images and labels."
        ),
    ] = "mnist",
    engine: EngineName = "lava",
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training images.  [default: 10]", show_default=False)
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Names every random bit: weights, order of the data, rounding.")
    ] = 0,
    eta: Annotated[
        str,
        typer.Option(
            help="Step size, a power of two; `8, 1@10, 1/8@13` changes it at epochs 10 and 13 (from 0)."
        ),
    ] = "8",
    bits: Annotated[
        str, typer.Option(help="k_W k_A k_G k_E, each 2 to 16: `2888`, `28C8` or `2-8-12-8`.")
    ] = "2888",
    batch: Annotated[int, typer.Option(help="Samples that share one update.")] = 128,
    lanes: Lanes = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="lava: a layer is one Process, `behavioural`, or a chip's parts, `structural`."
            "  [default: behavioural]",
            show_default=False,
        ),
    ] = None,
    device: Device = None,
    shift: Annotated[
        str, typer.Option(help="Shift takes its maximum over the `batch`, or is `held` by each layer.")
    ] = "batch",
    hold: Annotated[int, typer.Option(help="held: samples below the exponent before it steps down.")] = 5000,
    update: Annotated[
        str, typer.Option(help="`wide` updates as the paper's, or `ternary` steps of -1, 0, 1.")
    ] = "wide",
    stored_range: Annotated[
        str, typer.Option(help="Range of stored weights: as the `authors`' code, or as the `paper`.")
    ] = "authors",
    loss: Annotated[
        str,
        typer.Option(
            help="`sse`, the paper's; `softmax`, its cross-entropy for ImageNet; or `one-sided`: outputs past"
            " their target are left alone."
        ),
    ] = "sse",
    margin: Annotated[
        str,
        typer.Option(
            help="Skip samples whose right output leads by this share of the target: `3/8`; 0 skips none."
        ),
    ] = "0",
    pipelined: Annotated[
        bool,
        typer.Option(
            "--pipelined",
            help="One sample a time step, several in flight; the batch is how many enter before it drains.",
        ),
    ] = False,
    feedback: Annotated[
        str,
        typer.Option(
            help="The error goes down through `transposed` weights (the paper), fixed `random` ones, or"
            " `direct` from the last layer to each."
        ),
    ] = "transposed",
    gamma: Annotated[
        int, typer.Option(help="Errors above the gamma-th part of the largest saturate: 1, 2, 4 .. 128.")
    ] = 1,
    augment: Annotated[
        str,
        typer.Option(
            help="`crop4-flip`: pad 4, crop at random, mirror; `crop1` shifts by up to 1 pixel;"
            " `window224-flip`: a window of each image, drawn in training, the middle in tests; `none`."
        ),
    ] = "none",
    validation: Validation = 0,
    train_images: Annotated[
        int | None, typer.Option(help="Use the first N training images only.", show_default=False)
    ] = None,
    signed: Annotated[
        bool | None,
        typer.Option(
            "--signed/--unsigned",
            help="Grey levels are read as -1..1, or as 0..1.  [default: as is best for the data set; an"
            " `.npz` says it, or is signed where it has three colours]",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of the run.  [default: runs/DATA-NETWORK-...]", show_default=False),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with the run in this folder, to the same bits as if never stopped;"
            " takes --epochs, --engine, --lanes, --model, --device.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[
        int,
        typer.Option(
            help="Count spikes, errors and updates of each layer in every N-th update step; 0 counts nothing."
        ),
    ] = 0,
    record: Annotated[
        Path | None,
        typer.Option(help="Also write the finished run's record to this file.", show_default=False),
    ] = None,
) -> None:
    """Train a network; checkpoint, metrics and learning curve go to a run folder."""
    if resume:
        refuse_other_settings(context, _FREE_IN_RESUME)
        with busy(console, f"reading the run {resume} and its data"):
            training = Run.resume(resume, epochs, data_dir)
    else:
        given = {
            "batch": batch, "shift": shift, "update": update, "loss": loss, "margin": margin, "eta": eta,
            "epochs": 10 if epochs is None else epochs,
        }  # fmt: skip
        settings = _with_mode(context, mode, given, pipelined)
        rules = Rules(
            batch=settings["batch"],
            shift=settings["shift"],
            hold=hold,
            update=settings["update"],
            stored_range=stored_range,
            loss=settings["loss"],
            margin=margin_of(settings["margin"]),
            pipelined=pipelined,
            feedback=feedback,
            gamma=gamma,
        )
        config = Config(
            data,
            network,
            bits,
            settings["epochs"],
            settings["eta"],
            seed,
            validation,
            train_images,
            augment,
            rules,
            signed,
        )
        folder = run or context.with_resource(run_folder.new_folder(_default_folder(config)))
        with busy(console, f"reading {data}"):
            training = Run.start(config, folder, data_dir)
    _train(training, engine, record, watch=watch, lanes=lanes, model=model, device=device)


@app.command()
def demo(
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 24,
    engine: EngineName = "lava",
    seed: Annotated[int, typer.Option(help="Names every random bit.")] = 0,
) -> None:
    """Train a small ternary network on scikit-learn's handwritten digits, inside Lava, in under a minute."""
    config = Config(
        "digits", "32C3-32C3-MP2-128FC", epochs=epochs, eta="8, 2@16", seed=seed, rules=Rules(batch=32)
    )
    console.print(
        "A ternary network learns handwritten digits inside the Lava simulator, with integers alone.\n"
    )
    with run_folder.new_folder(_default_folder(config)) as folder:
        _train(Run.start(config, folder), engine, hints=True)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or a checkpoint file.")],
    data: Annotated[
        str | None,
        typer.Option(help="Another data set of the same form.  [default: the run's own]", show_default=False),
    ] = None,
    engine: EngineName = "numpy",
    lanes: Lanes = None,
    device: Device = None,
    data_dir: DataDir = None,
) -> None:
    """Measure a trained network on test images, class by class."""
    saved = run_folder.load(run)
    name = data or saved.extra.get("config", {}).get("data", "digits")
    with busy(console, f"reading {name}"):
        images = load_for(saved, name, data_dir)
    with ExitStack() as held:
        with busy(console, f"starting engine {engine}"):
            machine = held.enter_context(
                make_engine(engine, saved.network, saved.rules, saved.state, lanes=lanes, device=device)
            )
        report = held.enter_context(counter(console, "image", len(images.test_labels)))
        logits = predict_all(machine, images.test_images, report)
    saved.network.check_labels(images.test_labels, len(logits))
    answers = logits.argmax(axis=1)
    table = Table(
        "class",
        "images",
        "right",
        "accuracy",
        "most often taken for",
        title=f"{saved.network} on {name}, test images of {images.source}",
    )
    for label in range(images.classes):
        mine = answers[images.test_labels == label]
        if len(mine):
            right = int((mine == label).sum())
            others = np.bincount(mine[mine != label], minlength=images.classes)
            mistaken = f"{images.called(int(others.argmax()))} ({others.max()} x)" if others.any() else ""
            share = f"{100 * right / len(mine):.2f} %"
            table.add_row(images.called(label), str(len(mine)), str(right), share, mistaken)
    show_table(console, table)
    console.print(f"test accuracy {100 * float((answers == images.test_labels).mean()):.2f} %")


@app.command()
def curves(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or record files.")],
    output: Annotated[Path, typer.Option(help="The picture, a PNG.")] = Path("curves.png"),
    mark: Annotated[
        float | None, typer.Option(help="A level to compare with, in %.", show_default=False)
    ] = None,
    mark_label: Annotated[str, typer.Option(help="What the level is.")] = "",
) -> None:
    """Draw the accuracy of several runs against the samples they have seen."""
    records = [read_record(run) for run in runs]
    run_folder.check_writable(output)
    with busy(console, f"drawing {output}"):
        draw(output, records, mark, mark_label)
    console.print(f"drawn to {output}")


@app.command()
def experiment(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=f"{', '.join(presets.EXPERIMENTS)}.")],
    scale: Annotated[
        str,
        typer.Option(help="Smaller than the paper's: `epochs=30,width=1/4,images=10000`, or some of these."),
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each setting, with seeds 0, 1, ...")] = 1,
    only: Annotated[
        str, typer.Option(help="Some of its settings, in this order: `k_G=8,k_G=2`.  [default: all]")
    ] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time, each in its own process.")] = 1,
    engine: EngineName = "numpy",
    device: Device = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the runs.  [default: runs/NAME]", show_default=False)
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            help="Also keep each finished run's record in this folder, under NAME/SCALE/.", show_default=False
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Run one of the paper's experiments; what was stopped goes on, what is finished is not run again."""
    work = presets.jobs(
        name,
        presets.Scale.parse(scale),
        range(seeds),
        folder or Path("runs") / name,
        [label.strip() for label in only.split(",") if label.strip()],
    )
    console.print(f"{name}: {len(work)} runs, engine {engine}")

    def report(job: presets.Job, ended: bool) -> None:
        console.print(f"{job}: {'done' if ended else 'stopped'}, {job.folder}")

    asked = {"scale": scale, "seeds": seeds, "only": only, "jobs": jobs, "engine": engine, "device": device}
    command = shlex.join(["wage-neuro", "experiment", name, *_words(context, asked)])
    if record:
        record.mkdir(parents=True, exist_ok=True)
        run_folder.check_writable(record / "record")
    means = presets.Means(engine, device, jobs, data_dir, command, record)
    finished = presets.do_all(work, means, report)
    records = [done for job in work if (done := job.record())]
    for found in arranged(records):
        show(found)
    for done in records:
        for line in done.get("unchanged", ()):
            console.print(
                f"warning: {done['setting']}, seed {done['config']['seed']}: {line}", style="yellow"
            )
    if not finished:
        console.print("stopped; the same command goes on")
        raise typer.Exit(STOPPED)


@app.command("communication")
def measure_communication(
    run: Annotated[Path, typer.Argument(help="Folder of the run whose training is done again.")],
    every: Annotated[int, typer.Option(help="Measure the update of every N-th step.")] = 50,
    epochs: Annotated[
        int | None, typer.Option(help="Train no longer than this.  [default: the run's]", show_default=False)
    ] = None,
    engine: EngineName = "numpy",
    output: Annotated[Path, typer.Option(help="The record, a JSON; its picture goes beside it.")] = Path(
        "communication.json"
    ),
    data_dir: DataDir = None,
) -> None:
    """Measure the bytes of each update against float32 gradients, and the memory of the weights."""
    config = communication.config_of(run)
    config = replace(config, epochs=min(epochs or config.epochs, config.epochs))
    for path in (output, output.with_suffix(".png")):
        run_folder.check_writable(path)
    with counter(console, "step") as report:
        record = communication.measure(config, every, engine, data_dir, report)
    picture = communication.write(output, {"command": "wage-neuro " + shlex.join(sys.argv[1:]), **record})
    for line in communication.summary(record):
        console.print(line, soft_wrap=True)
    console.print(f"written to {output} and {picture}")


@app.command()
def compare(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    engines: Annotated[
        str,
        typer.Option(
            help=f"Of {', '.join(ENGINES)}, joined by commas; the first is what the others should give."
        ),
    ] = ("numpy,lava,brian2"),
    steps: Annotated[int, typer.Option(help="Batches to learn, from where the run stands.")] = 3,
    data_dir: DataDir = None,
) -> None:
    """Let several engines go on with a run, and name the first bit in which they differ."""
    names = engines.split(",")
    with busy(console, f"reading the run {run} and its data"):
        run_to_continue = Run.resume(run, data_dir=data_dir)
    with counter(console, "step", steps) as report:
        difference = comparison.compare(run_to_continue, names, steps, report)
    if difference:
        console.print(f"first difference: {difference}", style="red")
        raise typer.Exit(1)
    console.print(f"{', '.join(names)}: no difference in logits, weights or exponents after {steps} steps")


@app.command("raster")
def raster_plot(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    sample: Annotated[int, typer.Option(help="Which test image, from 0.")] = 0,
    output: Annotated[Path, typer.Option(help="The picture, a PNG.")] = Path("raster.png"),
    data_dir: DataDir = None,
) -> None:
    """Draw one image's graded spikes through the network, and its error's on the way back."""
    trained = Run.resume(run, data_dir=data_dir)
    images, labels = trained.data.test_images, trained.data.test_labels
    if not 0 <= sample < len(labels):
        raise SettingError(f"sample={sample}: want 0..{len(labels) - 1}")
    run_folder.check_writable(output)
    saved = trained.saved
    activity = raster.record(saved.network, saved.state, saved.rules, images[sample], int(labels[sample]))
    where = f"{Path(trained.config.data).name}, {trained.config.held_out} image {sample}"
    title = f"{str(saved.network).removeprefix('F-')}: {where}"
    with busy(console, f"drawing {output}"):
        raster.draw(output, activity, title)
    console.print(f"drawn to {output}")


@app.command("binary")
def binary_spikes(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    images: Annotated[int, typer.Option(help="Test images to answer, the first ones.")] = 200,
    record: Annotated[
        Path | None, typer.Option(help="Also write the table to this JSON file.", show_default=False)
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Answer with binary spikes, a bit a time step, in Brian2 and Lava: their cost against graded ones."""
    if record:
        run_folder.check_writable(record)
    trained = Run.resume(run, data_dir=data_dir)
    with counter(console, "image", images) as report:
        found = binary.measure(trained, images, report)
    table = Table("spikes", "latency (time steps)", "spikes an image", "accuracy")
    for row in found["rows"]:
        table.add_row(
            row["spikes"], str(row["latency"]), f"{row['an_image']:,.1f}", f"{100 * row['accuracy']:.2f} %"
        )
    show_table(console, table)
    words = {True: "yes", False: "NO", None: "not run, lava-nc is not installed"}
    console.print(f"every spike and logit equal in Lava: {words[found['same_in_lava']]}")
    console.print(f"{images} images, every logit equal: {words[found['same_logits']]}")
    if record:
        command = "wage-neuro " + shlex.join(sys.argv[1:])
        versions = run_folder.versions()
        run_folder.write_text(
            record, json.dumps({"command": command, **found, "versions": versions}, indent=1) + "\n"
        )
    if not found["same_logits"] or found["same_in_lava"] is False:
        raise typer.Exit(1)


app.command("map")(chip_map.map_command)
export.register(app, console)
app.command("continual")(continual)
app.command("transfer")(transfer)
app.command("results")(results)
app.command("rtl")(rtl)


@app.command("data")
def data_sets(data_dir: DataDir = None) -> None:
    """List the data sets: what they are, where they were found, or how to get them."""
    for row in datasets.locations(data_dir):
        console.print(row.name, style="bold", end="")
        console.print(f"  {row.what}\n  found    ", end="")
        found = row.found or "not here; " + ("downloaded at first use, or " * row.downloads) + "put it there"
        console.print(str(found), style="green" if row.found else "yellow")
        console.print(f"  source   {row.source}\n  licence  {row.licence}\n")
    console.print(
        "Any .npz with images (n, height, width[, channels]) uint8 and labels can be given too:"
        " keys images, labels or train_images, train_labels, test_images, test_labels; val_images, val_labels"
        " for --validation, and a bool `signed`. So can a folder with an .npy of each."
    )


@app.command("engines")
def engines() -> None:
    """Say which engines are here, what they run on, and how fast each learns one small net."""
    from experiments.commands.engine_report import report

    lines, table = report()
    for line in lines:
        console.print(line, soft_wrap=True)
    show_table(console, table)


# --- a run on the terminal ---------------------------------------------------------------------------


def _with_mode(context: typer.Context, mode: str, given: dict[str, Any], pipelined: bool) -> dict[str, Any]:
    """Settings of a mode, wherever the command line does not say otherwise."""
    if mode not in ("batch", "onchip"):
        raise SettingError(f"mode {mode!r}: want batch or onchip")
    defaults: dict[str, Any] = {}
    if mode == "onchip":
        defaults = {**ONCHIP, **({"batch": DRAIN_EVERY} if pipelined else {})}
    free = {name for name in given if on_command_line(context, name)}
    return {name: value if name in free else defaults.get(name, value) for name, value in given.items()}


def _words(context: typer.Context, options: dict[str, Any]) -> list[str]:
    """The options that the command line gave, as words; without the folders of one machine."""
    given = {name: value for name, value in options.items() if on_command_line(context, name)}
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def _default_folder(config: Config) -> Path:
    name = f"{Path(config.data).stem}-{config.network}"[:NAME_LENGTH]
    return Path("runs") / f"{name}-s{config.seed}"


def _train(
    training: Run,
    engine_name: str,
    record: Path | None = None,
    watch: int = 0,
    hints: bool = False,
    **options: int | str | None,
) -> None:
    config, folder, was_finished = training.config, training.folder, training.finished
    shown = shlex.quote(str(folder))
    if record:
        run_folder.check_writable(record)
    with ExitStack() as held:
        with ExitStack() as built:
            with busy(console, f"starting engine {engine_name}"):
                engine = built.enter_context(training.engine(engine_name, **options))
            for line in getattr(engine, "unproven", ()):
                console.print(f"saturates: {line}", soft_wrap=True)
            engine.watch(watch)  # an engine that cannot says so before there is a folder
            held.enter_context(training.lock)
            run_folder.prepare(folder, new=training.is_new)
            console.print(f"{_title(training, engine_name)}\nrun folder {shown}")
            began = time.monotonic()
            fields = "{task.fields[rate]:,.0f} samples/s", "error {task.fields[error]}"
            if not was_finished:
                with bar(console, "epoch {task.fields[epoch]}", *fields) as progress:
                    training.fit(engine, _display(progress, training), watch)
        if not training.finished:
            console.print(
                f"stopped in epoch {training.progress.epoch + 1};"
                f" go on with: wage-neuro train --resume {shown}"
            )
            raise typer.Exit(STOPPED)
        for line in training.unchanged:
            console.print(f"warning: {line}", style="yellow")
        command = "wage-neuro " + shlex.join(sys.argv[1:])
        for path in (folder / "record.json", record):
            if path:
                training.write_record(path, engine_name, command)
    if was_finished:
        console.print(
            f"this run is finished, it has its {config.epochs} epochs; go on with: wage-neuro train --resume"
            f" {shown} --epochs {config.epochs + 1}"
        )
    else:
        console.print(
            f"trained in {time.monotonic() - began:.1f} s; checkpoint.npz, metrics.jsonl, curve.png and"
            f" record.json are in {shown}"
        )
    if hints:
        console.print(
            f"what next:\n  wage-neuro evaluate {shown}\n"
            f"  wage-neuro train --resume {shown} --epochs {config.epochs + 20}\n"
            "  wage-neuro train --network lenet --data mnist --engine lava --epochs 10\n"
            "  wage-neuro train --help"
        )
    console.print(f"{config.held_out} accuracy {100 * training.progress.curve[-1]['accuracy']:.2f} %")


def _title(training: Run, engine_name: str) -> str:
    """The network, and the data with the place that it was read from."""
    network, data = training.network, training.data
    return (
        f"{network}  {network.n_weights:,} weights, bits {network.bits}, engine {engine_name}\n"
        f"{training.config.data}: {len(data.train_labels):,} training and {len(data.test_labels):,}"
        f" {training.config.held_out} images {data.train_images.shape[1:]}, from {data.source}"
    )


def _display(progress: Progress, training: Run) -> Callable[[Report], None]:
    epochs, held_out = training.config.epochs, training.config.held_out
    total = (epochs - training.progress.epoch) * training.batches - training.progress.batch
    task = progress.add_task(
        "", total=total * training.config.rules.batch, epoch=f"1/{epochs}", rate=0, error=""
    )

    def show(report: Report) -> None:
        epoch = min(report.epoch + 1, epochs)
        error = f"training {100 * report.train_error:.2f} %"
        if report.last_error is not None:
            error += f", {held_out} {100 * report.last_error:.2f} %"
        progress.update(
            task, completed=report.seen, epoch=f"{epoch}/{epochs}", rate=report.samples_per_s, error=error
        )

    return show


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"wage-neuro {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _tell(message: str, kind: str = "") -> None:
    line = kind + as_typed(" ".join(message.splitlines()), sys.argv[1:])
    Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(f"wage-neuro: {line}")


def _fail(message: str) -> NoReturn:
    _tell(message)
    sys.exit(1)


def _tell_doubts() -> None:
    """Make one line of each DoubtWarning."""
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *more: Any, **named: Any) -> None:
        if issubclass(category, DoubtWarning):
            _tell(str(message), "warning: ")
        else:
            others(message, category, *more, **named)

    warnings.simplefilter("always", DoubtWarning)
    warnings.showwarning = show


def main() -> NoReturn:
    """Run the command; an error of ours is one line and exit code 1."""
    try:
        with warnings.catch_warnings():
            _tell_doubts()
            app(standalone_mode=True)
    except WageError as error:
        _fail(str(error))
    except MemoryError as error:
        _fail(f"not enough memory ({str(error) or 'none left'}); want a smaller network, batch or data set")
    except OSError as error:  # a full disk, say
        _fail(f"{error.filename or 'files'}: {error.strerror or error}")
    except SystemExit as ended:
        if isinstance(getattr(ended.__context__, "__cause__", None), KeyboardInterrupt):
            say_stopped()
        raise
    sys.exit(0)


if __name__ == "__main__":
    main()
