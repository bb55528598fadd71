"""`wage-neuro continual`: learners over streams of tasks on the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer

from experiments.commands.chip_map import Asked, map_command, refuse_unmapped
from experiments.commands.command_line import bar, busy, console, stopped
from experiments.commands.options import Found, Resumable, Where, as_begun, command_of
from experiments.continual import demo, pictures, records
from experiments.continual.metrics import NEWEST_ACC
from experiments.continual.presets import PRESETS
from experiments.continual.settings import of_method
from experiments.continual.study import Config, Report, Run
from experiments.runs import calibration, run_folder
from experiments.runs.jobs import Jobs
from experiments.runs.resumed import require_same
from mappings.chips.chip import CHIPS, Chip
from wage_neuro.engine import Engine
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
    preset: str | None = setting(
        None,
        "; ".join(f"`{name}`: {each.what}" for name, each in PRESETS.items()) + ".",
        RULE,
        choices=(*PRESETS, None),
    )
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
    how: Jobs,
    stream: Annotated[
        str | None,
        typer.Argument(
            help="split-DATA, permuted-DATA, rotated-DATA, DATA-to-DATA or sessions-FOLDER, such as"
            " split-mnist, permuted-mnist, mnist-to-fashion-mnist, split-FILE.npz; or `demo`.",
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
        machine = as_begun(context, machine, {"engine": work.engine} if work.engine else {})
    elif stream is None:
        raise SettingError("no stream: want one, such as split-mnist, or --resume FOLDER")
    else:
        numbers = list(range(config.seed, config.seed + written.seeds))
        name = f"{Path(stream).stem}-{config.scenario}-{config.method}"
        folder = written.run or context.with_resource(run_folder.new_folder(Path("runs") / name))
        work = Study(folder, config, numbers, machine.engine)
    if written.cost:
        refuse_unmapped(work.config)
    with ExitStack() as held:
        _run_all(work, not written.resume, Means(machine.engine, found.anywhere, how), held)
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


def _defaults(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Defaults that follow from the preset, and from the method."""
    preset = PRESETS[given["preset"]].settings if given["preset"] in PRESETS else {}
    stream = {} if given["stream"] else {"stream": preset.get("stream")}
    return {**of_method({**given, **preset}), **preset, **stream}


CONTINUAL = command_of(continual, _defaults)


@dataclass(frozen=True)
class Means:
    """What the runs are done with."""

    engine: str
    data_dir: Path | None
    jobs: Jobs


@dataclass(frozen=True)
class Study:
    """Runs of one setting, of several seeds, in a folder."""

    folder: Path
    config: Config
    seeds: list[int]
    engine: str | None = None
    """What it was begun with; studies of before do not say it."""

    def write(self) -> None:
        """Write what a resumed study goes on with."""
        study = {"config": asdict(self.config), "seeds": self.seeds, "engine": self.engine}
        run_folder.write_text(self.folder / STUDY, json.dumps(study) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Study:
        """Read it."""
        if folder.is_file():
            raise CheckpointError(f"{folder}: a file; want the folder that it is in, {folder.parent}")
        study = read_json(folder / STUDY, _Study, "study of continual runs")
        with reading(folder / STUDY, "study of continual runs"):
            return cls(folder, Config.from_json(study["config"]), study["seeds"], study.get("engine"))


class _Whole(TypedDict):
    config: dict[str, Any]
    seeds: list[Annotated[int, (0, 2**64 - 1)]]


class _Study(_Whole, total=False):
    engine: str | None


def _run_all(work: Study, new: bool, means: Means, held: ExitStack) -> None:
    """Run what is left; the folder stays `held` from the first engine on."""
    folder, first = work.folder, work.seeds[0]
    lock = run_folder.Lock(folder)

    def begin() -> None:
        held.enter_context(lock)
        if new:
            run_folder.refuse_held(folder / STUDY)

    rows: dict[int, list[dict[str, Any]] | None] = {}
    if means.jobs.in_turn:
        for seed in work.seeds:
            rows[seed] = _run(work, new, means, seed, begin if seed == first else None)
            if rows[seed] is None:
                break
    else:
        means.jobs.check()
        _open(work, new, means, first)[1].close()  # what is refused leaves nothing behind
        begin()
        if new:
            work.write()
        there = replace(work, folder=folder.resolve())
        with suppress(KeyboardInterrupt):  # each has a checkpoint
            rows |= means.jobs.each(
                partial(_run, there, False, means), work.seeds, "seed {}".format, console.print
            )
    finished = [found for seed in work.seeds if (found := rows.get(seed))]
    if len(finished) < len(work.seeds):
        stopped("continual", folder)
    run_folder.write_rows(folder / RECORD, [row for found in finished for row in found])


def _run(
    work: Study, new: bool, means: Means, seed: int, begin: Callable[[], None] | None = None
) -> list[dict[str, Any]] | None:
    """Run one seed to its end; return its record, or None if it was stopped before.

    begin : is called as soon as nothing can be refused any more
    """
    learner, started = _open(work, new, means, seed)
    with ExitStack() as built:
        engine = built.enter_context(started)
        if begin:
            begin()
        built.enter_context(learner.lock)
        run_folder.prepare(learner.folder, new=learner.is_new)
        if begin and new:
            work.write()
        shown = built.enter_context(bar(f"seed {seed}", *_FIELDS)) if means.jobs.in_turn else None
        task = shown.add_task("", total=len(learner.stream), rate=0, last="") if shown else None

        def show(report: Report) -> None:
            _tell(learner, report)
            if shown and task is not None:
                probes = report.progress.probes
                last = f"{100 * probes[-1]['accuracy']:.1f} % so far" if probes else ""
                shown.update(task, completed=report.place, rate=report.samples_per_s, last=last)

        learner.fit(engine, show)
    return learner.record(means.engine) if learner.finished else None


def _open(work: Study, new: bool, means: Means, seed: int) -> tuple[Run, Engine]:
    """The run of a seed, where it stands, and its engine."""
    place, config = work.folder / f"seed-{seed}", work.config
    with busy(f"reading {config.stream}"):
        if (place / run_folder.CHECKPOINT).exists() and not new:
            learner = Run.resume(place, means.data_dir)
            require_same(place, learner.config, replace(config, seed=seed))
        else:
            learner = Run.start(replace(config, seed=seed), place, means.data_dir)
    with busy(f"starting engine {means.engine}"):
        return learner, learner.engine(means.engine)


def _tell(learner: Run, report: Report) -> None:
    """Say what a task that has just ended has left, in a line."""
    ends, T = learner.stream.ends, len(learner.tasks)
    if report.place in ends[:-1]:
        ended = ends.index(report.place)
        newest = [row["accuracy"] for row in report.progress.rows if row["trained"] == ended][: ended + 1]
        known = "the tasks so far" if learner.config.measured is None else f"the newest {len(newest)}"
        accuracy = 100 * sum(newest) / len(newest)
        name = learner.tasks[ended].name
        seed = learner.config.seed
        console.print(f"seed {seed}, after task {ended + 1} of {T} ({name}): {accuracy:.2f} % over {known}")


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
    for name in (
        "ACC",
        NEWEST_ACC,
        "forgetting",
        "BWT",
        "FWT",
        "average incremental accuracy",
        *calibration.SHARES,
    ):
        if name in head:
            console.print(f"{name} {record.mean_and_spread(name)}")
    console.print(f"{RECORD} and continual.png are in {folder}")
