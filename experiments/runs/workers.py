"""Runs side by side on this machine: each in a process of its own, or in threads of this one.

A process ends with this one, however that happens. A process a run, and not a pool: none waits idle, none can
be left behind, nothing is shared that has a name, and what the system kills is known by its run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar
from uuid import uuid4

from experiments.runs.stopping import is_stopped, sigterm_as_ctrl_c, stop, works_for
from mappings.engines.lava.exit_codes import how_it_ended
from wage_neuro.errors import EngineError, WageError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# a new interpreter: this one may have threads, and a graphics card, that a fork would not survive
_SPAWN = get_context("spawn")
_STOPS = {signal.SIGINT, signal.SIGTERM}
TOLD = (WageError, OSError, MemoryError)
"""Errors that are raised here as they are; another one is a bug, and its traceback is printed there."""


def side_by_side(
    do: Callable[[Item], Answer], items: Sequence[Item], at_once: int, name: Callable[[Item], str] = str
) -> Generator[tuple[Item, Answer], None, None]:
    """Do each item in a process of its own, so many at a time; yield it with its answer when it is done.

    When this ends early, by an error, by Ctrl-C or since nobody asks for more, the others get SIGTERM and are
    waited for.

    Parameters
    ----------
    do : what can be pickled: a function of a module, or a partial of one

    Raises
    ------
    EngineError
        If a process has been killed, or ended without an answer.
    KeyboardInterrupt
        On SIGTERM, too.
    """
    waiting, running = list(items), dict[Connection, _Worker[Item, Answer]]()
    with sigterm_as_ctrl_c():
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    worker = _Worker(do, waiting.pop(0), name)
                    running[worker.inbox] = worker
                for inbox in wait(list(running)):
                    worker = running.pop(inbox)  # type: ignore[call-overload]
                    yield worker.item, worker.answer()
        finally:
            for worker in running.values():
                worker.process.terminate()
            for worker in running.values():
                worker.process.join()


def in_threads(
    do: Callable[[Item], Answer], items: Sequence[Item], at_once: int
) -> Generator[tuple[Item, Answer], None, None]:
    """The same in threads of this process; of use where an engine lets others work while it does.

    When this ends early, the runs that have begun stop with a checkpoint, and are waited for.
    """
    group = uuid4().hex
    with sigterm_as_ctrl_c(), ThreadPoolExecutor(at_once, "run") as pool:
        futures = {pool.submit(for_group, group, do, item): item for item in items}
        try:
            for future in as_completed(futures):
                answer = future.result()
                assert answer is not None  # nobody has stopped the group
                yield futures[future], answer[0]
        finally:
            stop(group)


def for_group(group: str, do: Callable[[Item], Answer], item: Item) -> tuple[Answer] | None:
    """Do an item in this thread, so that it stops with its group; None if that was stopped before."""
    if is_stopped(group):
        return None
    with works_for(group):
        return (do(item),)


class _Worker(Generic[Item, Answer]):
    def __init__(self, do: Callable[[Item], Answer], item: Item, name: Callable[[Item], str]) -> None:
        self.item, self.name = item, name(item)
        self.inbox, outbox = _SPAWN.Pipe(duplex=False)
        self.process = _SPAWN.Process(target=_work, args=(do, item, outbox))
        # it inherits the mask: Ctrl-C is left to us for good, SIGTERM until it can be told
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        outbox.close()

    def answer(self) -> Answer:
        """What it has answered; its error is raised."""
        try:
            answer, error = self.inbox.recv()
        except EOFError:
            self.process.join()
            raise EngineError(
                f"{self.name}: its process {how_it_ended(self.process.exitcode or 0)}"
            ) from None
        self.process.join()
        if error:
            raise error
        return answer


def cpus() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _work(do: Callable[[Any], Any], item: Any, outbox: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    answer, error = None, None
    try:
        answer = do(item)
    except TOLD as refusal:
        error = refusal
    with contextlib.suppress(BrokenPipeError):  # nobody is left to hear it
        outbox.send((answer, error))


def _end_with_parent() -> None:
    """A run stops with a checkpoint, what has not begun at once: both on SIGTERM."""
    parent = parent_process()
    assert parent
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
