"""The command `wage-neuro` before anything else is imported: Ctrl-C ends it in one line at any moment.

Once, it ends the command in good order, or a run after the samples in hand (`experiments.runs.stopping`).
Twice, or before there is anything to be put in order, it ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOPPED = 130
"""Exit code of what Ctrl-C ended, as shells have it."""

_said = False


def say_stopped() -> None:
    """Print that it was stopped, the first time."""
    global _said
    if not _said:
        _said = True
        os.write(2, b"wage-neuro: stopped\n")


def _at_once(number: int, frame: object) -> None:
    say_stopped()
    os._exit(STOPPED)


def _once(number: int, frame: object) -> None:
    signal.signal(signal.SIGINT, _at_once)
    raise KeyboardInterrupt


def _not_lost(lost: sys.UnraisableHookArgs) -> None:
    """What Ctrl-C raised where Python drops exceptions, as in a finalizer, is raised again a moment later."""
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)
        return
    signal.signal(signal.SIGINT, _once)
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.01, signal.pthread_kill, (main, signal.SIGINT)).start()


@contextmanager
def stops_at_once() -> Iterator[None]:
    """While something is imported, Ctrl-C ends the command at once, where it would end it otherwise."""
    before = signal.getsignal(signal.SIGINT)
    if before is not _once:
        yield
        return
    signal.signal(signal.SIGINT, _at_once)
    yield
    signal.signal(signal.SIGINT, _once)


def main() -> None:
    """Import the command and run it."""
    heard = (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )  # a shell's background job hears nothing
    if heard:
        signal.signal(signal.SIGINT, _at_once)
    try:
        from experiments import cli
    except ModuleNotFoundError as error:  # installed for the arithmetic alone, which needs numpy and no more
        sys.exit(f"wage-neuro: {error.name} is not installed: pip install wage-neuro brings it")

    if heard:
        signal.signal(signal.SIGINT, _once)
        sys.unraisablehook = _not_lost
    try:
        cli.main()
    except KeyboardInterrupt:
        say_stopped()
        sys.exit(STOPPED)
    finally:
        if heard:
            signal.signal(signal.SIGINT, _at_once)


if __name__ == "__main__":
    main()
