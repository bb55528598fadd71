"""`wage-neuro continual`: learners over streams of tasks on the terminal."""

from __future__ import annotations

import json
import shlex
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from experiments.commands.chip_map import map_command
from experiments.commands.command_line import (
    STOPPED,
    DataDir,
    Eta,
    FirstSeed,
    Hold,
    LearnerEngine,
    Loss,
    Record,
    Update,
    Validation,
    bar,
    busy,
    refuse_other_settings,
)
from experiments.continual import demo, pictures, records
from experiments.continual.streams import SCENARIOS
from experiments.continual.study import METHODS, Config, Report, Run
from experiments.engines import FASTEST
from experiments.runs import run_folder
from experiments.runs.training import margin_of
from mappings.chips.chip import Chip
from wage_neuro.errors import CheckpointError, SettingError
from wage_neuro.typed import read_json, reading

STUDY = "study.json"
RECORD = "record.jsonl"
MEMORY = 2000  # samples, where a method recalls and no other size is given

_FREE_IN_RESUME = {"resume", "engine", "data_dir", "record", "cost", "beside"}
_FIELDS = "{task.fields[rate]:,.0f} samples/s", "{task.fields[last]}"
_DEFAULT = Config()


def continual(
    context: typer.Context,
    stream: Annotated[
        str | None,
        typer.Argument(
            help="split-DATA, permuted-DATA, rotated-DATA or DATA-to-DATA, such as split-mnist,"
            " permuted-mnist, mnist-to-fashion-mnist, split-FILE.npz; or `demo`.",
            show_default=False,
        ),
    ] = None,
    scenario: Annotated[
        str,
        typer.Option(help=f"{', '.join(SCENARIOS)}: what is known of the task at test, and who has outputs."),
    ] = _DEFAULT.scenario,
    tasks: Annotated[
        int | None, typer.Option(help="How many.  [default: pairs of classes, or 10]", show_default=False)
    ] = None,
    method: Annotated[
        str, typer.Option(help="; ".join(f"`{name}`: {m.what}" for name, m in METHODS.items()) + ".")
    ] = _DEFAULT.method,
    memory: Annotated[
        int | None,
        typer.Option(
            help=f"Samples that are kept, or prototypes.  [default: {MEMORY} where the method keeps any]",
            show_default=False,
        ),
    ] = None,
    network: Annotated[str, typer.Option(help="Hidden layers, as in `train`.")] = _DEFAULT.network,
    bits: Annotated[str, typer.Option(help="k_W k_A k_G k_E, each 2 to 16.")] = _DEFAULT.bits,
    eta: Eta = _DEFAULT.eta,
    loss: Loss = _DEFAULT.loss,
    margin: Annotated[
        str,
        typer.Option(
            help="Skip samples whose right output leads by this share of the target; prototypes:"
            " by this share of the distance to the nearest wrong one."
        ),
    ] = "3/8",
    update: Update = _DEFAULT.update,
    hold: Hold = _DEFAULT.hold,
    augment: Annotated[
        str, typer.Option(help="`crop1` shifts new and recalled images by up to a pixel; `none`.")
    ] = _DEFAULT.augment,
    new_shift: Annotated[
        int,
        typer.Option(help="Bits by which errors of new samples are shifted right beside recalled ones."),
    ] = _DEFAULT.new_shift,
    metaplasticity: Annotated[
        int | None,
        typer.Option(
            help="Bits by which a large stored weight is less likely to step back towards 0, 0 to 16."
            f"  [default: {METHODS['metaplastic'].metaplasticity} with `metaplastic`, else 0]",
            show_default=False,
        ),
    ] = None,
    consolidation: Annotated[
        int | None,
        typer.Option(
            help="Largest importance of a synapse, the bits by which it is less likely to step, 0 to 15."
            f"  [default: {METHODS['consolidation'].consolidation} with `consolidation`, else 0]",
            show_default=False,
        ),
    ] = None,
    boundaries: Annotated[
        bool | None,
        typer.Option(
            "--boundaries/--no-boundaries",
            help="Tell the learner where a task ends, or give it samples and labels alone."
            "  [default: tell it where it consolidates]",
            show_default=False,
        ),
    ] = None,
    task_images: Annotated[
        int | None,
        typer.Option(
            help="Training images of each task, for long streams.  [default: all]", show_default=False
        ),
    ] = None,
    test_images: Annotated[
        int | None, typer.Option(help="Test images of each task.  [default: all]", show_default=False)
    ] = None,
    step: Annotated[
        int, typer.Option(help="New samples learned together, with as many recalled; 1: one at a time.")
    ] = _DEFAULT.step,
    passes: Annotated[int, typer.Option(help="Passes over each task before the next.")] = _DEFAULT.passes,
    probes: Annotated[
        int, typer.Option(help="Times in each task that the accuracy is measured on some test images.")
    ] = _DEFAULT.probes,
    seeds: Annotated[int, typer.Option(help="Runs, of seeds that follow each other.")] = 1,
    first_seed: FirstSeed = 0,
    validation: Validation = 0,
    engine: LearnerEngine = FASTEST,
    data_dir: DataDir = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder.  [default: runs/STREAM-SCENARIO-METHOD]", show_default=False)
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with the runs in this folder, to the same bits.", show_default=False),
    ] = None,
    record: Record = None,
    cost: Annotated[
        str | None,
        typer.Option(
            help="Then map the learner onto a chip, such as `loihi2`, and print what a sample costs.",
            show_default=False,
        ),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="Records to draw beside this one, such as naive and joint.", show_default=False),
    ] = None,
) -> None:
    """Learn tasks one after another and measure what stays: the matrix, its measures, a picture."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if stream == "demo":
        demo.show(console, engine, first_seed)
        return
    others = [records.read(path) for path in beside or ()]
    if record:
        run_folder.check_writable(record)
    if cost:
        Chip.load(cost)
    if resume:
        refuse_other_settings(context, _FREE_IN_RESUME)
        folder, (config, numbers) = resume, _read_study(resume)
    elif stream is None:
        raise SettingError("no stream: want one, such as split-mnist, or --resume FOLDER")
    else:
        if seeds < 1:
            raise SettingError(f"seeds={seeds}: want 1 or more")
        if memory is None:
            memory = MEMORY if method in METHODS and METHODS[method].keeps else 0
        of_method = METHODS.get(method, METHODS["naive"])
        metaplasticity = of_method.metaplasticity if metaplasticity is None else metaplasticity
        consolidation = of_method.consolidation if consolidation is None else consolidation
        boundaries = consolidation > 0 if boundaries is None else boundaries
        config = Config(
            stream=stream, scenario=scenario, tasks=tasks, method=method, memory=memory, network=network,
            bits=bits, eta=eta, seed=first_seed, passes=passes, step=step, validation=validation,
            probes=probes, loss=loss, margin=margin_of(margin), update=update, hold=hold, augment=augment,
            new_shift=new_shift, metaplasticity=metaplasticity, consolidation=consolidation,
            boundaries=boundaries, task_images=task_images, test_images=test_images,
        )  # fmt: skip
        numbers = list(range(first_seed, first_seed + seeds))
        name = f"{Path(stream).stem}-{scenario}-{method}"
        folder = run or context.with_resource(run_folder.new_folder(Path("runs") / name))
    with ExitStack() as held:
        _run_all(console, config, numbers, folder, engine, data_dir, not resume, held)
    path = folder / RECORD
    if record:
        run_folder.write_text(record, path.read_text())
    whole = records.read(path)
    with busy(console, "drawing continual.png"):
        pictures.draw(folder / "continual.png", whole, others)
    _print(console, whole, folder)
    if cost:
        map_command(folder, cost, data_dir=data_dir)


def _run_all(
    console: Console,
    config: Config,
    seeds: list[int],
    folder: Path,
    engine_name: str,
    data_dir: Path | None,
    new: bool,
    held: ExitStack,
) -> None:
    """Run what is left; the folder stays `held` from the first engine on."""
    rows: list[dict[str, Any]] = []
    lock = run_folder.Lock(folder)
    for seed in seeds:
        place = folder / f"seed-{seed}"
        with busy(console, f"reading {config.stream}"):
            if (place / run_folder.CHECKPOINT).exists() and not new:
                learner = Run.resume(place, data_dir)
            else:
                learner = Run.start(replace(config, seed=seed), place, data_dir)
        with ExitStack() as built:
            with busy(console, f"starting engine {engine_name}"):
                engine = built.enter_context(learner.engine(engine_name))
            held.enter_context(lock)
            if new and seed == seeds[0] and (folder / STUDY).exists():
                raise SettingError(
                    f"run folder {folder}: it holds a run already; --resume {folder} goes on with it"
                )
            held.enter_context(learner.lock)
            run_folder.prepare(place, new=learner.is_new)
            if new and seed == seeds[0]:
                _write_study(folder, config, seeds)
            with bar(console, f"seed {seed}", *_FIELDS) as progress:
                task = progress.add_task("", total=len(learner.stream), rate=0, last="")
                learner.fit(engine, partial(_show, progress, task))
        if not learner.finished:
            console.print(f"stopped; go on with: wage-neuro continual --resume {shlex.quote(str(folder))}")
            raise typer.Exit(STOPPED)
        rows += learner.record(engine_name)
    records.write(folder / RECORD, rows)


def _show(progress: Progress, task: TaskID, report: Report) -> None:
    probes = report.progress.probes
    last = f"{100 * probes[-1]['accuracy']:.1f} % so far" if probes else ""
    progress.update(task, completed=report.place, rate=report.samples_per_s, last=last)


def _print(console: Console, record: records.Record, folder: Path) -> None:
    head = record.runs[0]
    console.print(
        f"{record.title}: {head['network']}, measured on {head['measured_on']} images\n"
        f"{head['samples']:,} new samples in passes: {head['config']['passes']}; task id: {head['task id']};"
        f" task boundaries: {head['task boundaries']}\n"
        f"memory {head['memory_bytes']:,} bytes; {head['weight_updates'] / head['samples_learned']:,.0f}"
        f" weights changed a sample; {head['train_seconds']:,.0f} s of learning a seed"
    )
    for run in record.runs:
        for line in run.get("unchanged", ()):  # records of before have none
            console.print(f"warning: seed {run['config']['seed']}: {line}", style="yellow")
    if "prototypes" in head:
        console.print(f"prototypes {record.mean_and_spread('prototypes')}")
    for name in ("ACC", "forgetting", "BWT", "FWT", "average incremental accuracy"):
        if name in head:
            console.print(f"{name} {record.mean_and_spread(name)}")
    console.print(f"{RECORD} and continual.png are in {folder}")


# --- what a resumed study goes on with ---------------------------------------------------------------


def _write_study(folder: Path, config: Config, seeds: list[int]) -> None:
    run_folder.write_text(folder / STUDY, json.dumps({"config": asdict(config), "seeds": seeds}) + "\n")


class _Study(TypedDict):
    config: dict[str, Any]
    seeds: list[Annotated[int, (0, 2**64 - 1)]]


def _read_study(folder: Path) -> tuple[Config, list[int]]:
    if folder.is_file():
        raise CheckpointError(f"{folder}: a file; want the folder that it is in, {folder.parent}")
    study = read_json(folder / STUDY, _Study, "study of continual runs")
    with reading(folder / STUDY, "study of continual runs"):
        return Config.from_json(study["config"]), study["seeds"]
