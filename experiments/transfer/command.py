"""`wage-neuro transfer`: a trained network learns another data set from few examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from experiments.commands.command_line import bar, busy, console, show_table, stopped
from experiments.commands.options import Found, Resumable, Where, as_begun, command_of
from experiments.records.names import mean_and_spread
from experiments.runs import run_folder
from experiments.runs.jobs import Jobs
from experiments.transfer import pictures
from experiments.transfer.study import LEARNERS, RECORD, Cell, Config, Study, accuracies
from wage_neuro.errors import SettingError

PICTURE = "transfer.png"


def transfer(
    context: typer.Context,
    config: Config,
    found: Found,
    machine: Where,
    written: Resumable,
    how: Jobs,
    trained: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="Folder of a run, or a checkpoint file.", show_default=False),
    ] = None,
) -> None:
    """Let a trained network learn another data set, one sample at a time, from few examples and from all.

    Three learners: all layers of the trained network, its last ones alone (`--head`), and one from scratch.
    Images of another size or colour are brought into the form that the network knows.
    """
    how.check()
    if written.resume:
        with busy(f"reading the study {written.resume} and its data"):
            study = Study.resume(written.resume, found.anywhere)
        machine = as_begun(context, machine, study.rows[0])
    else:
        if trained is None or not config.data:
            missing = "data: want --data NAME" if trained else "trained network: want the folder of a run"
            raise SettingError(f"no {missing}, such as wage-neuro transfer runs/mnist --data fashion-mnist")
        name = f"transfer-{trained.stem}-{Path(config.data).stem.replace(':', '-')}"
        folder = written.run or context.with_resource(run_folder.new_folder(Path("runs") / name))
        with busy(f"reading {config.data}"):
            study = Study.start(trained, config, folder, machine.engine, found.anywhere)
    console.print(f"data: {study.data.name}")
    if not _run(study, machine.engine, how):
        stopped("transfer", study.folder)
    if written.output:
        run_folder.write_text(written.output, (study.folder / RECORD).read_text())
    with busy(f"drawing {PICTURE}"):
        pictures.draw(study.folder / PICTURE, study.rows)
    show_table(_table(study))
    for row in study.rows[1:]:
        for line in row.get("unchanged", ()):
            what = f"seed {row['seed']}, {row['examples']} of each class, {row['learner']}"
            console.print(f"warning: {what}: {line}", style="yellow")
    console.print(f"{RECORD} and {PICTURE} are in {study.folder}")


TRANSFER = command_of(transfer)


def _run(study: Study, engine: str, jobs: Jobs) -> bool:
    left = study.left
    fields = "{task.completed:,.0f} of {task.total:,.0f} samples"
    with bar("{task.fields[what]}", fields) as progress:
        task = progress.add_task("", total=sum(map(study.samples_of, left)), what="")
        seen_of: dict[Cell, int] = {}

        def show(cell: Cell, seen: int) -> None:
            seen_of[cell] = seen
            progress.update(task, completed=sum(seen_of.values()), what=str(cell))

        return study.run(engine, show, jobs, console.print)


def _table(study: Study) -> Table:
    head = study.rows[0]
    table = Table(
        "examples of each class",
        *(pictures.label(learner, study.config) for learner in LEARNERS),
        title=f"{head['from']} to {head['config']['data']}: {head['network']},"
        f" {head['measured_on']} accuracy, %",
    )
    for shot in study.config.shots:
        cells = (mean_and_spread(accuracies(study.rows, learner, shot), 1) for learner in LEARNERS)
        table.add_row(shot, *cells)
    return table
