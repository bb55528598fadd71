"""`wage-neuro continual`: learners over streams of tasks on the terminal."""

from __future__ import annotations

import json
import shlex
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer
from rich.progress import Progress, TaskID

from experiments.commands.chip_map import Asked, map_command
from experiments.commands.command_line import STOPPED, bar, busy, console
from experiments.commands.options import Found, Resumable, Where, command_of
from experiments.continual import demo, pictures, records
from experiments.continual.settings import of_method
from experiments.continual.study import Config, Report, Run
from experiments.runs import run_folder
from mappings.chips.chip import CHIPS, Chip
from wage_neuro.errors import CheckpointError, SettingError
from wage_neuro.settings import OUTPUT, RULE, check_settings, setting
from wage_neuro.typed import read_json, reading

STUDY = "study.json"
RECORD = "record.jsonl"
_FIELDS = "{task.fields[rate]:,.0f} samples/s", "{task.fields[last]}"


@dataclass(frozen=True, kw_only=True)
class Shown(Resumable):
    """What is made of the runs."""

    seeds: int = setting(1, "Runs, of seeds that follow each other.", RULE, least=1)
    cost: str | None = setting(
        None,
        "Then map the learner onto a chip, such as `loihi2`, and print what a sample costs.",
        OUTPUT,
        complete=tuple(CHIPS),
        resumes=True,
    )
    beside: list[Path] | None = setting(
        None, "Records to draw beside this one, such as naive and joint.", OUTPUT, resumes=True
    )

    def __post_init__(self) -> None:
        check_settings(self)


def continual(
    context: typer.Context,
    config: Config,
    found: Found,
    machine: Where,
    written: Shown,
    stream: Annotated[
        str | None,
        typer.Argument(
            help="split-DATA, permuted-DATA, rotated-DATA or DATA-to-DATA, such as split-mnist,"
            " permuted-mnist, mnist-to-fashion-mnist, split-FILE.npz; or `demo`.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Learn tasks one after another and measure what stays: the matrix, its measures, a picture."""
    if stream == "demo":
        demo.show(console, machine.engine, config.seed)
        return
    others = [records.read(path) for path in written.beside or ()]
    if written.cost:
        Chip.load(written.cost)
    if written.resume:
        work = Study.read(written.resume)
    elif stream is None:
        raise SettingError("no stream: want one, such as split-mnist, or --resume FOLDER")
    else:
        numbers = list(range(config.seed, config.seed + written.seeds))
        name = f"{Path(stream).stem}-{config.scenario}-{config.method}"
        folder = written.run or context.with_resource(run_folder.new_folder(Path("runs") / name))
        work = Study(folder, config, numbers)
    with ExitStack() as held:
        _run_all(work, not written.resume, machine.engine, found.data_dir, held)
    folder = work.folder
    path = folder / RECORD
    if written.output:
        run_folder.write_text(written.output, path.read_text())
    whole = records.read(path)
    with busy("drawing continual.png"):
        pictures.draw(folder / "continual.png", whole, others)
    _print(whole, folder)
    if written.cost:
        map_command(Asked(chip=written.cost), found, Where(engine="numpy"), folder)


CONTINUAL = command_of(continual, of_method)


@dataclass(frozen=True)
class Study:
    """Runs of one setting, of several seeds, in a folder."""

    folder: Path
    config: Config
    seeds: list[int]

    def write(self) -> None:
        """Write what a resumed study goes on with."""
        study = {"config": asdict(self.config), "seeds": self.seeds}
        run_folder.write_text(self.folder / STUDY, json.dumps(study) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Study:
        """Read it."""
        if folder.is_file():
            raise CheckpointError(f"{folder}: a file; want the folder that it is in, {folder.parent}")
        study = read_json(folder / STUDY, _Study, "study of continual runs")
        with reading(folder / STUDY, "study of continual runs"):
            return cls(folder, Config.from_json(study["config"]), study["seeds"])


class _Study(TypedDict):
    config: dict[str, Any]
    seeds: list[Annotated[int, (0, 2**64 - 1)]]


def _run_all(work: Study, new: bool, engine_name: str, data_dir: Path | None, held: ExitStack) -> None:
    """Run what is left; the folder stays `held` from the first engine on."""
    rows: list[dict[str, Any]] = []
    folder, config = work.folder, work.config
    lock = run_folder.Lock(folder)
    for seed in work.seeds:
        place = folder / f"seed-{seed}"
        with busy(f"reading {config.stream}"):
            if (place / run_folder.CHECKPOINT).exists() and not new:
                learner = Run.resume(place, data_dir)
            else:
                learner = Run.start(replace(config, seed=seed), place, data_dir)
        with ExitStack() as built:
            with busy(f"starting engine {engine_name}"):
                engine = built.enter_context(learner.engine(engine_name))
            held.enter_context(lock)
            if new and seed == work.seeds[0] and (folder / STUDY).exists():
                raise SettingError(
                    f"run folder {folder}: it holds a run already; --resume {folder} goes on with it"
                )
            held.enter_context(learner.lock)
            run_folder.prepare(place, new=learner.is_new)
            if new and seed == work.seeds[0]:
                work.write()
            with bar(f"seed {seed}", *_FIELDS) as progress:
                task = progress.add_task("", total=len(learner.stream), rate=0, last="")
                learner.fit(engine, partial(_show, progress, task))
        if not learner.finished:
            console.print(f"stopped; go on with: wage-neuro continual --resume {shlex.quote(str(folder))}")
            raise typer.Exit(STOPPED)
        rows += learner.record(engine_name)
    run_folder.write_rows(folder / RECORD, rows)


def _show(progress: Progress, task: TaskID, report: Report) -> None:
    probes = report.progress.probes
    last = f"{100 * probes[-1]['accuracy']:.1f} % so far" if probes else ""
    progress.update(task, completed=report.place, rate=report.samples_per_s, last=last)


def _print(record: records.Record, folder: Path) -> None:
    head = record.runs[0]
    changed = "changed weights not counted"
    if "weight_updates" in head:
        changed = f"{head['weight_updates'] / head['samples_learned']:,.0f} weights changed a sample"
    console.print(
        f"{record.title}: {head['network']}, measured on {head['measured_on']} images\n"
        f"{head['samples']:,} new samples in passes: {head['config']['passes']}; task id: {head['task id']};"
        f" task boundaries: {head['task boundaries']}\n"
        f"memory {head['memory_bytes']:,} bytes; {changed}; {head['train_seconds']:,.0f} s of learning a seed"
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
