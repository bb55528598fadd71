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
    """First Ctrl-C or SIGTERM: stop after the samples in hand. Second Ctrl-C: at once."""
    if threading.current_thread() is not threading.main_thread():
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
