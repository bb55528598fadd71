"""The command `wage-neuro results`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from experiments.commands.command_line import busy, show_table
from experiments.records.findings import Found, arranged, draw, read
from experiments.records.readme import RESULTS
from experiments.runs.run_folder import check_writable

console = Console(highlight=False, soft_wrap=True, markup=False)


def show(found: Found) -> None:
    """Print the table of an experiment."""
    columns = ("setting", "seeds", "error % of the last epoch", "of the best epoch", "the paper's, full size")
    table = Table(*columns, title=found.title, title_justify="left")
    for row in found.rows:
        table.add_row(*map(str, row))
    show_table(console, table)


def results(
    folder: Annotated[
        list[Path] | None,
        typer.Option(help="Also read the records of the runs in this folder; may be repeated."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Where the pictures go.  [default: beside the records]", show_default=False),
    ] = None,
) -> None:
    """Make the tables and pictures of the paper's experiments from the records of their runs."""
    kept = RESULTS / "experiments"
    folders = [*([kept] if kept.is_dir() else []), *(folder or [])]
    records = []
    for place in folders:
        found, warnings = read(place)
        records += found
        for line in warnings:
            console.print(f"warning: {line}", style="yellow")
    if not records:
        console.print("no records yet: `wage-neuro experiment` makes them")
        raise typer.Exit(1)
    target = output or (folder[-1] if folder else kept)
    target.mkdir(parents=True, exist_ok=True)
    for experiment in arranged(records):
        show(experiment)
        path = target / experiment.file_name
        check_writable(path)
        with busy(console, f"drawing {path}"):
            draw(path, experiment)
        console.print(f"drawn to {path}\n")
