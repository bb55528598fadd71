"""Runs that end in good order when they are asked to."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Protocol


class Stoppable(Protocol):
    """A run that ends after the samples in hand once `stop_wanted` is set."""

    stop_wanted: bool


@contextlib.contextmanager
def stops_on_signals(run: Stoppable) -> Iterator[None]:
    """First Ctrl-C or SIGTERM: stop after the samples in hand. Second Ctrl-C: at once.

    A thread hears no signals: there the run stops with its group.
    """
    if threading.current_thread() is not threading.main_thread():
        with _stops_with_group(run):
            yield
        return

    def wanted(number: int, frame: object) -> None:
        if run.stop_wanted and number == signal.SIGINT:
            raise KeyboardInterrupt
        run.stop_wanted = True

    before = {number: signal.signal(number, wanted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# --- runs in threads ---------------------------------------------------------------------------------

_mine = threading.local()  # .group: the one that this thread works for
_running = dict[str, list[Stoppable]]()
_stopped = set[str]()


@contextlib.contextmanager
def works_for(group: str) -> Iterator[None]:
    """While it lasts, runs of this thread stop when `group` is stopped."""
    _mine.group = group
    try:
        yield
    finally:
        del _mine.group


def stop(group: str) -> None:
    """Let the runs of a group in this process stop, those that have not begun too."""
    _stopped.add(group)
    for run in list(_running.get(group, ())):
        run.stop_wanted = True


def is_stopped(group: str) -> bool:
    """Whether it has been stopped."""
    return group in _stopped


@contextlib.contextmanager
def _stops_with_group(run: Stoppable) -> Iterator[None]:
    group = getattr(_mine, "group", None)
    if group is None:
        yield
        return
    runs = _running.setdefault(group, [])
    runs.append(run)
    run.stop_wanted |= is_stopped(group)
    try:
        yield
    finally:
        runs.remove(run)
