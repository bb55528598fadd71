"""What the commands share on the terminal: options, the bar of a long run, how it ends and is resumed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from wage_neuro.errors import SettingError

STOPPED = 130
"""Exit code of a run that Ctrl-C ended, as shells have it."""

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Folder with data sets, before $WAGE_NEURO_DATA and ../shared/data.",
        show_default=False,
    ),
]
Validation = Annotated[
    int, typer.Option(help="Measure on this many training images, held out; the test set is not read.")
]

# of learners over a stream of samples
Eta = Annotated[
    str, typer.Option(help="Step size, a power of two; `8, 2@80%` changes it after 80 % of the samples.")
]
Loss = Annotated[str, typer.Option(help="`one-sided` or `sse`.")]
Update = Annotated[str, typer.Option(help="`ternary`, `coincidence` or `wide`.")]
Hold = Annotated[int, typer.Option(help="Samples below an exponent before it steps down.")]
FirstSeed = Annotated[int, typer.Option(help="The first of them.")]
LearnerEngine = Annotated[
    str, typer.Option(help="`compiled`, `numpy` or `lava`: the same bits at different speeds.")
]
Record = Annotated[Path | None, typer.Option(help="Also write the record to this file.", show_default=False)]


def bar(console: Console, before: str, *after: str) -> Progress:
    """A progress bar with the text `before` it and those `after` it, in rich's fields, and the time left."""
    return Progress(
        TextColumn(before),
        BarColumn(bar_width=14),
        *map(TextColumn, after),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        console=console,
    )


def show_table(console: Console, table: Table) -> None:
    """Print a table with every word and number whole: in a pipe as wide as it is, on a terminal its texts
    wrap."""
    for column in table.columns:
        cells = [column.header, *column.cells]
        column.min_width = max((len(word) for cell in cells for word in str(cell).split()), default=0)
    width = console.width
    if not console.is_terminal:
        width = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    # a console cannot be made wider for one thing
    terminal = console.is_terminal
    wide = Console(file=console.file, width=width, force_terminal=terminal, highlight=False, markup=False)
    wide.print(table, crop=False)


def on_command_line(context: typer.Context, name: str) -> bool:
    """Whether the user gave this parameter."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def refuse_other_settings(context: typer.Context, free: Collection[str]) -> None:
    """A resumed run keeps its settings: a parameter that is not free would change one.

    Raises
    ------
    SettingError
        If the user gave such a parameter: it is not ignored.
    """
    for parameter in context.command.params:
        name = parameter.name
        if name and name not in free and on_command_line(context, name):
            is_option = parameter.param_type_name == "option"
            shown = parameter.opts[0] if is_option else getattr(parameter, "metavar", None) or name.upper()
            but = "; only --epochs may grow" if "epochs" in free else ""
            raise SettingError(f"{shown} with --resume: a resumed run keeps its settings{but}")
