"""What was run: `wage-neuro runs list`, `show` and `compare`, and `curves`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from experiments.commands.command_line import busy, console, show_table
from experiments.commands.options import command_of
from experiments.records import curves as picture
from experiments.runs import run_folder
from experiments.runs.forms import Extra
from wage_neuro import checkpoint
from wage_neuro.errors import CheckpointError, WageError
from wage_neuro.settings import OUTPUT
from wage_neuro.typed import checked, reading

RUNS = typer.Typer(help="List, show and compare the runs that are here.", no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(help="Where they are looked for.")]
RunFolders = Annotated[list[Path], typer.Argument(help="Folders of runs.")]


def facts(run: Path) -> dict[str, Any]:
    """What a run's folder says of it, by what each is called: settings and rules, how far it is, accuracy.

    Raises
    ------
    CheckpointError
        If there is no run in it, or it is damaged.
    """
    path = run_folder.checkpoint_of(run)
    header = checkpoint.read_header(path)
    with reading(path, "checkpoint"):
        extra = checked(Extra, header["extra"])
    settings = extra.get("config") or extra.get("stream") or {}
    curve = extra.get("progress", {}).get("curve") or []
    return {
        "network": header["network"],
        "bits": header["bits"],
        **{name: value for name, value in settings.items() if name not in ("network", "bits", "rules")},
        **{name: value for name, value in header["rules"].items() if name not in settings},
        "updates": header["step"],
        "epochs done": len(curve),
        "accuracy": f"{100 * curve[-1]['accuracy']:.2f} %" if curve and "accuracy" in curve[-1] else "",
    }


def found_in(folder: Path) -> Iterator[tuple[Path, dict[str, Any] | str]]:
    """Each run in a folder and the folders in it, with its facts or why there are none."""
    for path in sorted(folder.rglob(run_folder.CHECKPOINT)):
        try:
            yield path.parent, facts(path.parent)
        except WageError as error:
            yield path.parent, str(error)


@RUNS.command("list")
def list_(folder: Folder = Path("runs")) -> None:
    """List the runs in a folder."""
    table = Table("run", "data", "network", "updates", "epochs", "accuracy")
    for path, found in found_in(folder):
        if isinstance(found, str):
            table.add_row(str(path), found)
            continue
        epochs = f"{found['epochs done']} of {found['epochs']}" if "epochs" in found else ""
        data = found.get("data") or found.get("stream") or ""
        name = found["network"].removeprefix("F-")
        table.add_row(str(path), data, name, f"{found['updates']:,}", epochs, found["accuracy"])
    if not table.row_count:
        raise CheckpointError(f"{folder}: no runs; want the folder of some, as `wage-neuro train` makes them")
    show_table(table)


@RUNS.command("show")
def show(run: Annotated[Path, typer.Argument(help="Folder of a run.")]) -> None:
    """Show the settings of a run, how far it is, its layers and its last accuracy."""
    found, saved = facts(run), run_folder.load(run)
    _print({name: (value,) for name, value in found.items()}, str(run))
    console.print(saved.network.summary())


@RUNS.command("compare")
def compare(runs: RunFolders) -> None:
    """Show in what runs differ: settings and accuracy, a column a run."""
    found = [facts(run) for run in runs]
    names = dict.fromkeys(name for each in found for name in each)
    rows = {name: tuple(each.get(name, "") for each in found) for name in names}
    differ = {name: row for name, row in rows.items() if any(value != row[0] for value in row)}
    _print(differ, *map(str, runs))


def _print(rows: Mapping[str, tuple[Any, ...]], *titles: str) -> None:
    table = Table("", *titles)
    for name, values in rows.items():
        table.add_row(name, *map(str, values))
    show_table(table)


def curves(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or record files.")],
    output: Annotated[Path, typer.Option(help="The picture, a PNG.", rich_help_panel=OUTPUT)] = Path(
        "curves.png"
    ),
    mark: Annotated[
        float | None, typer.Option(help="A level to compare with, in %.", show_default=False)
    ] = None,
    mark_label: Annotated[str, typer.Option(help="What the level is.")] = "",
) -> None:
    """Draw the accuracy of several runs against the samples they have seen."""
    records = [picture.read_record(run) for run in runs]
    run_folder.check_writable(output)
    with busy(f"drawing {output}"):
        picture.draw(output, records, mark, mark_label)
    console.print(f"drawn to {output}")


CURVES = command_of(curves)
