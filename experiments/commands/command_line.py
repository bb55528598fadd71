"""What the commands share on the terminal: options, the bar of a long run, how it ends and is resumed."""

from __future__ import annotations

import re
import shlex
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from experiments.entry import STOPPED
from wage_neuro.errors import DoubtWarning

__all__ = ["STOPPED"]

NARROW = 100
"""Characters; what shows progress is about as wide."""
PATIENCE_S = 1.5
"""Seconds that something may take without a word."""

console = Console(highlight=False, soft_wrap=True, markup=False)  # paths may look like markup


def stopped(command: str, folder: Path, where: str = "") -> NoReturn:
    """End a command that was stopped, and say how it goes on."""
    console.print(f"stopped{where}; go on with: wage-neuro {command} --resume {shlex.quote(str(folder))}")
    raise typer.Exit(STOPPED)


def is_narrow() -> bool:
    """Whether words must be spared."""
    return console.width < NARROW


def bar(before: str, *after: str) -> Progress:
    """A progress bar with the text `before` it and those `after` it, in rich's fields, and the time left.

    Where there is little room it has no bar; what is too long all the same is there in two lines, not cut.
    """
    whole = Column(overflow="fold", no_wrap=not is_narrow())
    return Progress(
        TextColumn(before, table_column=whole),
        *(() if is_narrow() else (BarColumn(bar_width=14),)),
        *(TextColumn(text, table_column=whole) for text in after),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        console=console,
    )


@contextmanager
def busy(what: str) -> Iterator[None]:
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
def counter(what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
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

    A setting that was not given is told behind the option that does not go with it:

    >>> as_typed("shift='batch': the structural model has 'held' only", ["train", "--model", "structural"])
    "--model structural: the structural model has 'held' only; --shift, not given, is 'batch'"
    """
    message = _default_last(message, words)
    for option in {
        word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][a-z-]*(=.*)?", word, re.S)
    }:
        name = option[2:].replace("-", "_")
        message = re.sub(rf"(?<![\w.-]){name}=", f"{option} ", message)
        message = re.sub(rf"^{name}(?= ['\"\d-])", option, message)
    return message


def _default_last(message: str, words: Sequence[str]) -> str:
    found = re.match(r"(\w+)=('[\w-]*'|\d+): (.+ has .+ only)$", message)
    if not found:
        return message
    from experiments.cli import options_of

    name, value, why = found.groups()
    option = f"--{name.replace('_', '-')}"
    if option not in options_of(words[0]) or any(word.partition("=")[0] == option for word in words):
        return message  # as it is of a run that was read
    pairs = pairwise([part for word in words for part in word.split("=", 1)])
    said = [f"{typed} {after}: " for typed, after in pairs if typed[:2] == "--" and after in why.split()]
    return f"{''.join(said[:1])}{why}; {option}, not given, is {value}"


def show_table(table: Table, console: Console = console) -> None:
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


def tell(message: str, kind: str = "") -> None:
    """Say something in one line on stderr, of a kind such as 'warning: '."""
    line = kind + as_typed(" ".join(message.splitlines()), sys.argv[1:])
    Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(f"wage-neuro: {line}")


@contextmanager
def doubts_in_a_line() -> Iterator[None]:
    """Make one line of each DoubtWarning."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *more: Any, **named: Any) -> None:
            if issubclass(category, DoubtWarning):
                tell(str(message), "warning: ")
            else:
                others(message, category, *more, **named)

        warnings.simplefilter("always", DoubtWarning)
        warnings.showwarning = show
        yield
