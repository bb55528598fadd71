"""The paper's experiments: `wage-neuro experiment` runs them, `results` shows what was found."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from experiments.commands import presets
from experiments.commands.command_line import STOPPED, busy, console, show_table
from experiments.commands.options import Found, Simulator, Where, command_of, is_given
from experiments.records.findings import Found as Finding
from experiments.records.findings import arranged, draw, read, theirs
from experiments.records.readme import RESULTS
from experiments.runs import run_folder
from experiments.runs.jobs import Jobs
from wage_neuro.settings import DATA, OUTPUT, check_settings, like, setting


@dataclass(frozen=True, kw_only=True)
class Machine(Where):
    """The engine of a sweep."""

    device: str | None = like(Simulator, "device")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Which runs of an experiment, and where they go."""

    scale: str = setting(
        "", "Smaller than the paper's: `epochs=30,width=1/4,images=10000`, or some of these.", DATA
    )
    seeds: int = setting(1, "Runs of each setting, with seeds 0, 1, ...", DATA, least=1)
    only: str = setting("", "Some of its settings, in this order: `k_G=8,k_G=2`.", DATA, shown="all")
    run: Path | None = setting(None, "Folder of the runs.", OUTPUT, shown="runs/NAME")
    output: Path | None = setting(
        None, "Also keep each finished run's record in this folder, under NAME/SCALE/.", OUTPUT
    )

    def __post_init__(self) -> None:
        check_settings(self)


def experiment(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=f"{', '.join(presets.EXPERIMENTS)}.")],
    found: Found,
    machine: Machine,
    sweep: Sweep,
    how: Jobs,
) -> None:
    """Run one of the paper's experiments; what was stopped goes on, what is finished is not run again."""
    work = presets.jobs(
        name,
        presets.Scale.parse(sweep.scale),
        range(sweep.seeds),
        sweep.run or Path("runs") / name,
        [label.strip() for label in sweep.only.split(",") if label.strip()],
    )
    console.print(f"{name}: {len(work)} runs, engine {machine.engine}")

    def report(job: presets.Job, ended: bool) -> None:
        console.print(f"{job}: {'done' if ended else 'stopped'}, {job.folder}")

    asked = {each: getattr(sweep, each) for each in ("scale", "seeds", "only")}
    asked |= {"jobs": how.jobs, "engine": machine.engine, "device": machine.device}
    command = shlex.join(["wage-neuro", "experiment", name, *_words(context, asked)])
    if sweep.output:
        sweep.output.mkdir(parents=True, exist_ok=True)
        run_folder.check_writable(sweep.output / "record")
    means = presets.Means(machine.engine, machine.device, found.anywhere, command, sweep.output, how)
    finished = presets.do_all(work, means, report, console.print)
    records = [done for job in work if (done := job.record())]
    for each in arranged(records):
        show(each)
    for done in records:
        for line in done.get("unchanged", ()):
            console.print(
                f"warning: {done['setting']}, seed {done['config']['seed']}: {line}", style="yellow"
            )
    if not finished:
        console.print("stopped; the same command goes on")
        raise typer.Exit(STOPPED)


def _words(context: typer.Context, options: dict[str, Any]) -> list[str]:
    """The options that the command line gave, as words; without the folders of one machine."""
    given = {name: value for name, value in options.items() if is_given(context, name)}
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def show(found: Finding) -> None:
    """Print the table of an experiment."""
    columns = ("setting", "seeds", "error % of the last epoch", "of the best epoch", theirs(found.experiment))
    table = Table(*columns, title=found.title, title_justify="left")
    for row in found.rows:
        table.add_row(*map(str, row))
    show_table(table)


def results(
    run: Annotated[
        list[Path] | None,
        typer.Option(
            help="Also read the records of the runs in this folder; may be repeated.", rich_help_panel=DATA
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Where the pictures go.  [default: beside the records]",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> None:
    """Make the tables and pictures of the paper's experiments from the records of their runs."""
    kept = RESULTS / "experiments"
    folders = [*([kept] if kept.is_dir() else []), *(run or [])]
    records = []
    for place in folders:
        found, warnings = read(place)
        records += found
        for line in warnings:
            console.print(f"warning: {line}", style="yellow")
    if not records:
        console.print("no records yet: `wage-neuro experiment` makes them")
        raise typer.Exit(1)
    target = output or (run[-1] if run else kept)
    target.mkdir(parents=True, exist_ok=True)
    for experiment in arranged(records):
        show(experiment)
        path = target / experiment.file_name
        run_folder.check_writable(path)
        with busy(f"drawing {path}"):
            draw(path, experiment)
        console.print(f"drawn to {path}\n")


EXPERIMENT, RESULTS_COMMAND = command_of(experiment), command_of(results)
