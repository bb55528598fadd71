"""`wage-neuro train` and `demo`: a training run on the terminal."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from experiments.commands.command_line import bar, busy, console, is_narrow, stopped
from experiments.commands.options import Found, Resumable, Simulator, as_begun, command_of, is_given
from experiments.records.names import learning
from experiments.runs import ranks, run_folder
from experiments.runs.training import Config, Report, Run
from wage_neuro.errors import SettingError
from wage_neuro.rules import Rules
from wage_neuro.settings import OUTPUT, RULE, like, setting

MODES: dict[str, dict[str, Any]] = {
    "batch": {},
    "onchip": {
        "batch": 1,
        "shift": "held",
        "update": "ternary",
        "loss": "one-sided",
        "margin": "3/8",
        "eta": "8, 4@8, 2@12, 1@15, 1/2@17, 1/4@19",
        "epochs": 20,
    },
}
"""Defaults of each mode; on the chip the annealing and the loss that learn best one sample at a time."""
DRAIN_EVERY = 250  # samples that enter a pipelined network before it drains
FIELDS = "{task.fields[rate]:,.0f} samples/s", "error {task.fields[error]}"
NAME_LENGTH = 100  # of a run folder that is named for its run


@dataclass(frozen=True, kw_only=True)
class Watched(Resumable):
    """What a training run leaves."""

    watch: int = setting(
        0,
        "Count spikes, errors and updates of each layer in every N-th update step; 0 counts nothing.",
        OUTPUT,
        resumes=True,
    )


@dataclass(frozen=True, kw_only=True)
class Shown(Simulator):
    """The demo's."""

    engine: str = like(Simulator, "engine", default="lava")
    epochs: int = setting(24, "Passes over the training images.", RULE)
    seed: int = like(Config, "seed")


def train(
    context: typer.Context,
    config: Config,
    found: Found,
    machine: Simulator,
    written: Watched,
    mode: Annotated[
        str,
        typer.Option(
            help="`batch` learns as the paper does; `onchip` one sample at a time with ternary updates, with"
            " other defaults for --batch, --shift, --update, --loss, --margin, --eta and --epochs.",
            rich_help_panel=RULE,
        ),
    ] = "batch",
) -> None:
    """Train a network; checkpoint, metrics and learning curve go to a run folder.

    `mpiexec -n 4 wage-neuro train ...` shares every batch among four processes, to the same bits; so does
    torchrun.
    """
    team = ranks.join()
    console.quiet = team.rank > 0
    if written.resume:
        epochs = config.epochs if is_given(context, "epochs") else None
        with busy(f"reading the run {written.resume} and its data"):
            training = Run.resume(written.resume, epochs, found.data_dir, team)
        machine = as_begun(context, machine, training.simulator)
    else:
        folder = written.run or _default_folder(config)
        if team.rank == 0 and not written.run:
            folder = context.with_resource(run_folder.new_folder(folder))
        with busy(f"reading {config.data}"):
            training = Run.start(config, folder, found.data_dir, team)
    _train(training, machine, written.output, written.watch)


def demo(machine: Shown) -> None:
    """Train a small ternary network on scikit-learn's handwritten digits, inside Lava, in under a minute."""
    config = Config(
        data="digits",
        network="32C3-32C3-MP2-128FC",
        epochs=machine.epochs,
        eta="8, 2@16",
        seed=machine.seed,
        rules=Rules(batch=32),
    )
    console.print(
        "A ternary network learns handwritten digits inside the Lava simulator, with integers alone.\n"
    )
    with run_folder.new_folder(_default_folder(config)) as folder:
        _train(Run.start(config, folder), machine, hints=True)


def of_mode(given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of the mode that is given."""
    mode = given["mode"]
    if mode not in MODES:
        raise SettingError(f"mode {mode!r}: want batch or onchip")
    drain = {"batch": DRAIN_EVERY} if given["pipelined"] and mode == "onchip" else {}
    return {**MODES[mode], **drain}


TRAIN, DEMO = command_of(train, of_mode), command_of(demo)


def _default_folder(config: Config) -> Path:
    name = f"{Path(config.data).stem}-{config.network}"[:NAME_LENGTH]
    return Path("runs") / f"{name}-s{config.seed}"


def _train(
    training: Run,
    machine: Simulator,
    record: Path | None = None,
    watch: int = 0,
    hints: bool = False,
) -> None:
    config, folder, was_finished = training.config, training.folder, training.finished
    engine_name = machine.engine
    shown = shlex.quote(str(folder))
    with ExitStack() as held:
        with ExitStack() as built:
            with busy(f"starting engine {engine_name}"):
                engine = built.enter_context(training.engine(engine_name, **machine.options))
            for line in getattr(engine, "unproven", ()):
                console.print(f"saturates: {line}", soft_wrap=True)
            engine.watch(watch)  # an engine that cannot says so before there is a folder
            held.enter_context(training.lock)
            if training.writes:
                run_folder.prepare(folder, new=training.is_new)
            training.check_ranks(engine=engine_name, watch=watch)
            console.print(f"{_title(training, engine_name)}\nrun folder {shown}")
            began = time.monotonic()
            if not was_finished:
                with bar("epoch {task.fields[epoch]}", *FIELDS) as progress:
                    training.fit(engine, _display(progress, training), watch)
        if not training.finished:
            stopped("train", folder, f" in epoch {training.progress.epoch + 1}")
        for line in training.unchanged:
            console.print(f"warning: {line}", style="yellow")
        for path in (folder / "record.json", record):
            if path and training.writes:
                training.write_record(path, engine_name, run_folder.this_command())
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
        for line in training.sent_in_words:
            console.print(line)
    if hints:
        console.print(
            f"what next:\n  wage-neuro evaluate {shown}\n"
            f"  wage-neuro train --resume {shown} --epochs {config.epochs + 20}\n"
            "  wage-neuro train --network lenet --data mnist --engine lava --epochs 10\n"
            "  wage-neuro train --help"
        )
    console.print(f"{config.held_out} accuracy {100 * training.progress.curve[-1]['accuracy']:.2f} %")


def _title(training: Run, engine_name: str) -> str:
    """The network, how it learns, and the data with the place that it was read from."""
    network, data, config = training.network, training.data, training.config
    mode = "onchip" if config.rules.samples_an_update == 1 else "batch"
    return (
        f"{network}  {network.n_weights:,} weights, bits {network.bits}, engine {engine_name}\n"
        f"mode {mode}: {learning(asdict(config.rules))}, shift {config.rules.shift}; eta {config.eta};"
        f" {config.epochs} epochs, seed {config.seed}\n"
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
        error = f"{'' if is_narrow() else 'training '}{100 * report.train_error:.2f} %"
        if report.last_error is not None:
            error += f", {held_out} {100 * report.last_error:.2f} %"
        progress.update(
            task, completed=report.seen, epoch=f"{epoch}/{epochs}", rate=report.samples_per_s, error=error
        )

    return show
