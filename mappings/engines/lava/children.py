"""The operating-system processes of a Lava graph: how they start, and that they end with the program.

They are forked, whatever start method the program has chosen, as shared memory without a name is inherited
and in no other way. Ctrl-C and SIGTERM are left to the program; when it dies, however that happens, they die.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from multiprocessing import current_process, get_context
from multiprocessing.context import ForkProcess
from typing import Any, TypeVar

from lava.magma.compiler.builders.py_builder import PyProcessBuilder
from lava.magma.compiler.channels import pypychannel
from lava.magma.compiler.channels.interfaces import Channel, ChannelType
from lava.magma.runtime import runtime
from lava.magma.runtime.message_infrastructure.multiprocessing import MultiProcessing, SystemProcess

from mappings.engines.lava.channels import (
    SemaphoreReceive,
    channel_class,
    hang_bell,
    select,
    take_turns,
)
from mappings.engines.lava.exit_codes import how_it_ended
from mappings.engines.lava.shared_memory import AnonymousMemory

Answer = TypeVar("Answer")

# Lava takes these from the start method of the program; of another one than fork they would have names
runtime.Queue = get_context("fork").Queue
pypychannel.Semaphore = get_context("fork").Semaphore

LEFT_TO_THE_PROGRAM = {signal.SIGINT, signal.SIGTERM}
SEMAPHORES_A_QUEUE = 3
SEMAPHORES_A_CHANNEL = 2
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Actor(SystemProcess):
    """A forked child that runs one ProcessModel, or Lava's service, or all of a graph in turn."""

    _Popen = staticmethod(ForkProcess._Popen)

    def __init__(self, name: str, channels: str, crew: list[tuple[str, Callable[[], Any]]]) -> None:
        super().__init__(target=take_turns, args=(crew,)) if len(crew) > 1 else super().__init__(
            target=crew[0][1]
        )
        self.told_as, self.channels = name, channels

    def start(self) -> None:
        with _as_a_daemon_may_not(), warnings.catch_warnings():
            # from Python 3.12 on: another thread may hold a lock; the child takes none that is older than it
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            super().start()

    def run(self) -> None:
        if _libc:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._parent_pid:  # it died before it could be watched
            os._exit(1)
        if self.channels != "stock":
            pypychannel.CspSelector.select = select
        super().run()

    @property
    def failure(self) -> str | None:
        """What it has failed by, in words; None while it lives, or if it ended as it should."""
        error = self.exception
        if error:
            name = getattr(error[0], "lava_process", self.told_as)
            return f"{name}: {type(error[0]).__name__}: {error[0]}"
        if self._is_done or self.is_alive() or not self.exitcode:
            return None
        return f"{self.told_as}: {how_it_ended(self.exitcode)}"


@contextmanager
def _as_a_daemon_may_not() -> Iterator[None]:
    """Let a worker of a multiprocessing.Pool start children too.

    Python forbids it, as such workers are killed without notice and leave theirs behind. Ours die then.
    """
    config = current_process()._config  # type: ignore[attr-defined]
    before = config.pop("daemon", None)
    try:
        yield
    finally:
        if before is not None:
            config["daemon"] = before


class Children(MultiProcessing):
    """The actors of one graph and the memory of its channels: Lava's message infrastructure.

    channels : one of `channels.CHANNELS`
    """

    def __init__(self, channels: str) -> None:
        super().__init__()
        self.channels = channels
        self.ports: list[Any] = []
        self._jobs: list[Callable[[], Any]] = []

    def start(self) -> None:
        self._smm = AnonymousMemory()

    def channel_class(self, channel_type: ChannelType) -> Any:
        if self.channels == "stock":
            return super().channel_class(channel_type)

        def make(infrastructure: Any, source: str, *rest: Any) -> Channel:
            return channel_class(self.channels, source)(infrastructure, source, *rest)

        return make

    def build_actor(self, target_fn: Callable[..., None], builder: Any, exception_q: Any = None) -> None:
        """Remember it for `launch`."""
        if self.channels == "semaphore":
            hang_bell(_heard(builder))
        self._jobs.append(partial(target_fn, builder=builder, exception_q=exception_q))

    def launch(self, names: list[str]) -> None:
        """Fork what was built, by the names of its Processes."""
        jobs = list(zip(names, self._jobs, strict=True))
        self._jobs = []
        crews = [jobs] if self.channels == "one process" else [[job] for job in jobs]
        for crew in crews:
            name = crew[0][0] if len(crew) == 1 else "all Processes in one"
            actor = Actor(name, self.channels, crew)
            actor.start()
            self._actors.append(actor)

    @property
    def living(self) -> list[Actor]:
        return [actor for actor in self._actors if not actor._is_done]

    @property
    def all_live(self) -> bool:
        return all(actor.is_alive() for actor in self.living)

    def end(self) -> None:
        """Kill what lives, and end the threads that listen to it; safe to call twice."""
        for actor in self.living:
            actor.kill()
            actor.join()
        while self.ports:
            self.ports.pop().join()


def _heard(builder: Any) -> list[Any]:
    """Ports that a ProcessModel listens to beside each other, as Lava's selector asks for any of them."""
    if not isinstance(builder, PyProcessBuilder):
        return [*builder.csp_recv_port.values(), *builder.csp_proc_recv_port.values()]
    named = [port for name in builder.var_ports for port in builder.csp_ports.get(name, ())]
    named += builder.csp_rs_recv_port.values()
    return [port for port in named if isinstance(port, SemaphoreReceive)]


# --- the thread that forks ---------------------------------------------------------------------------


_orders: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] | None = None


def from_a_lasting_thread(work: Callable[[], Answer]) -> Answer:
    """Do some work in a thread that lives as long as the program, and wait for it to end.

    What is asked to die with its parent dies with the thread that forked it.
    """
    global _orders
    if _orders is None:
        _orders = queue.SimpleQueue()
        threading.Thread(target=_take_orders, args=(_orders,), name="lava-children", daemon=True).start()
    answer: Future[Answer] = Future()
    _orders.put((work, answer))
    try:
        return answer.result()
    except BaseException:
        wait([answer])  # interrupted: what has half started cannot be ended
        raise


def _take_orders(orders: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]]) -> None:
    # what is forked here inherits it, from its first instruction on
    signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_PROGRAM)
    while True:
        work, answer = orders.get()
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)
        del work, answer  # while it waits it must not keep the last graph


def _forget_the_thread() -> None:
    """A forked child has none of its parent's threads."""
    global _orders
    _orders = None


os.register_at_fork(after_in_child=_forget_the_thread)
