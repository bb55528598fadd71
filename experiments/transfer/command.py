"""`wage-neuro transfer`: a trained network learns another data set from few examples."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

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
    show_table,
)
from experiments.engines import FASTEST
from experiments.runs import run_folder
from experiments.runs.training import margin_of
from experiments.transfer import pictures
from experiments.transfer.study import LEARNERS, RECORD, Cell, Config, Study, accuracies
from wage_neuro.errors import SettingError

PICTURE = "transfer.png"

_FREE_IN_RESUME = {"resume", "engine", "data_dir", "record"}
_DEFAULT = Config("")


def transfer(
    context: typer.Context,
    trained: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="Folder of a run, or a checkpoint file.", show_default=False),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="What it learns now: a data set as in `train`; `mnist:5-9` takes some classes alone.",
            show_default=False,
        ),
    ] = None,
    examples: Annotated[str, typer.Option(help="Of each class; `all` takes all.")] = _DEFAULT.examples,
    passes: Annotated[
        int, typer.Option(help="Most over the examples: as many as fit in --samples, at least one.")
    ] = _DEFAULT.passes,
    samples: Annotated[
        int, typer.Option(help="Most that a learner gets, unless one pass over its examples takes more.")
    ] = _DEFAULT.samples,
    eta: Eta = _DEFAULT.eta,
    loss: Loss = _DEFAULT.loss,
    margin: Annotated[
        str, typer.Option(help="Skip samples whose right output leads by this share of the target.")
    ] = "3/8",
    update: Update = _DEFAULT.update,
    hold: Hold = _DEFAULT.hold,
    seeds: Annotated[int, typer.Option(help="Draws of examples and new weights.")] = _DEFAULT.seeds,
    first_seed: FirstSeed = 0,
    validation: Validation = 0,
    engine: LearnerEngine = FASTEST,
    data_dir: DataDir = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder.  [default: runs/transfer-RUN-DATA]", show_default=False)
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the study in this folder.", show_default=False)
    ] = None,
    record: Record = None,
) -> None:
    """Let a trained network learn another data set, one sample at a time, from few examples and from all.

    Three learners: all layers of the trained network, its output layer alone, and one from scratch.
    """
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if record:
        run_folder.check_writable(record)
    if resume:
        refuse_other_settings(context, _FREE_IN_RESUME)
        with busy(console, f"reading the study {resume} and its data"):
            study = Study.resume(resume, data_dir)
    else:
        if trained is None or data is None:
            missing = (
                "trained network: want the folder of a run" if trained is None else "data: want --data NAME"
            )
            raise SettingError(f"no {missing}, such as wage-neuro transfer runs/mnist --data fashion-mnist")
        config = Config(
            data, examples, first_seed, seeds, passes, samples, eta, loss, margin_of(margin), update, hold,
            validation,
        )  # fmt: skip
        name = f"transfer-{trained.stem}-{Path(data).stem.replace(':', '-')}"
        folder = run or context.with_resource(run_folder.new_folder(Path("runs") / name))
        with busy(console, f"reading {data}"):
            study = Study.start(trained, config, folder, engine, data_dir)
    if not _run(console, study, engine):
        console.print(f"stopped; go on with: wage-neuro transfer --resume {shlex.quote(str(study.folder))}")
        raise typer.Exit(STOPPED)
    if record:
        run_folder.write_text(record, (study.folder / RECORD).read_text())
    with busy(console, f"drawing {PICTURE}"):
        pictures.draw(study.folder / PICTURE, study.rows)
    show_table(console, _table(study))
    for row in study.rows[1:]:
        for line in row.get("unchanged", ()):
            what = f"seed {row['seed']}, {row['examples']} of each class, {row['learner']}"
            console.print(f"warning: {what}: {line}", style="yellow")
    console.print(f"{RECORD} and {PICTURE} are in {study.folder}")


def _run(console: Console, study: Study, engine: str) -> bool:
    left = study.left
    fields = "{task.completed:,.0f} of {task.total:,.0f} samples"
    with bar(console, "{task.fields[what]}", fields) as progress:
        task = progress.add_task("", total=sum(map(study.samples_of, left)), what="")
        seen_of: dict[Cell, int] = {}

        def show(cell: Cell, seen: int) -> None:
            seen_of[cell] = seen
            what = f"seed {cell.seed}, {cell.shot} of each class, {cell.learner}"
            progress.update(task, completed=sum(seen_of.values()), what=what)

        return study.run(engine, show)


def _table(study: Study) -> Table:
    head = study.rows[0]
    table = Table(
        "examples of each class",
        *(pictures.LABELS[learner] for learner in LEARNERS),
        title=f"{head['from']} to {head['config']['data']}: {head['network']},"
        f" {head['measured_on']} accuracy, %",
    )
    for shot in study.config.shots:
        cells = (pictures.mean_and_spread(accuracies(study.rows, learner, shot)) for learner in LEARNERS)
        table.add_row(shot, *cells)
    return table
