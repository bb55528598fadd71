"""What the commands share on the terminal: options, the bar of a long run, how it ends and is resumed."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from experiments.entry import STOPPED
from wage_neuro.errors import SettingError

__all__ = ["STOPPED"]

PATIENCE_S = 1.5
"""Seconds that something may take without a word."""

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


@contextmanager
def busy(console: Console, what: str) -> Iterator[None]:
    """Say what is being done if it takes longer than a moment."""
    # an alarm and no thread: Lava's graphs fork
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return
    handler = signal.signal(signal.SIGALRM, lambda *_: console.print(f"{what} ..."))
    began, (left, again) = time.monotonic(), signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:  # somebody else's
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, left - (time.monotonic() - began)), again)


@contextmanager
def counter(console: Console, what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A bar, shown from the first report on: the number done and, if not known before, of how many."""
    count = TextColumn(what + " {task.completed}/{task.total}")
    progress = Progress(count, BarColumn(), TimeRemainingColumn(compact=True), console=console)
    task = progress.add_task("", total=total)

    def report(done: int, of: int | None = total) -> None:
        progress.start()
        progress.update(task, completed=done, total=of)

    try:
        yield report
    finally:
        if progress.live.is_started:
            progress.stop()


def as_typed(message: str, words: Sequence[str]) -> str:
    """A message with the options as the user typed them, in place of the settings that they are.

    >>> as_typed("eta=3 with shift='held': want a power of two", ["train", "--eta", "3"])
    "--eta 3 with shift='held': want a power of two"
    >>> as_typed("engine 'numpi': want numpy", ["train", "--engine=numpi"])
    "--engine 'numpi': want numpy"
    """
    for option in {
        word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][a-z-]*(=.*)?", word, re.S)
    }:
        name = option[2:].replace("-", "_")
        message = re.sub(rf"(?<![\w.-]){name}=", f"{option} ", message)
        message = re.sub(rf"^{name}(?= ['\"\d-])", option, message)
    return message


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
