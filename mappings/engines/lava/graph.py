"""A running Lava graph: it starts, is waited for, and leaves nothing behind, however it ends."""

from __future__ import annotations

import functools
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from multiprocessing.util import Finalize
from typing import Any, Concatenate, NoReturn, ParamSpec, Protocol, TypeVar

from lava.magma.compiler.compiler_graphs import find_processes
from lava.magma.compiler.executable import Executable
from lava.magma.core.process.message_interface_enum import ActorType
from lava.magma.core.process.ports.ports import ImplicitVarPort
from lava.magma.core.process.process import AbstractProcess, ProcessServer
from lava.magma.core.process.variable import VarServer
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.runtime.mgmt_token_enums import MGMT_COMMAND, MGMT_RESPONSE, enum_equal
from lava.magma.runtime.runtime import Runtime
from lava.proc.io.extractor import Extractor, PyLoihiExtractorModel
from lava.proc.io.injector import Injector, PyLoihiInjectorModel

from mappings.engines.lava.channels import choose
from mappings.engines.lava.children import (
    SEMAPHORES_A_CHANNEL,
    SEMAPHORES_A_QUEUE,
    Children,
    from_a_lasting_thread,
)
from mappings.engines.lava.shared_memory import require_semaphores
from processes.alone import require_connected
from wage_neuro.errors import EngineError

Answer = TypeVar("Answer")
Arguments = ParamSpec("Arguments")

CHANNEL_SLOTS = 2  # messages a channel holds; Lava's default of 64 costs 64 times the largest message
POLL_S = 0.0005
GRACE_S = 2.0  # for the others to answer after a Process has ended
FIRST = 20  # of what ends when Python does: before it waits for children, and ends multiprocessing's pools


UNTAGGED = {Injector: PyLoihiInjectorModel, Extractor: PyLoihiExtractorModel}
"""Lava's Processes that have several models of which none has a tag."""


class _Weak(weakref.WeakSet[Any]):
    append = weakref.WeakSet.add


# Lava's lists of all that exists, which it never reads, kept every Process ever made, and what it held
ProcessServer().processes = _Weak(ProcessServer().processes)
VarServer().vars = _Weak(VarServer().vars)


class SupervisedRuntime(Runtime):
    """Lava's runtime over children of ours. Only its Graph ends it."""

    def __init__(self, executable: Executable, children: Children) -> None:
        super().__init__(executable, ActorType.MultiProcessing)
        self.children = children
        services = len(executable.runtime_service_builders or ())
        self.names = [process.name for process in executable.proc_builders] + ["runtime service"] * services

    def initialize(self, node_cfg_idx: int = 0) -> None:
        """As Lava's; but a child that ends before it is ready is told, not waited for."""
        self._build_watchdog_manager()
        self._build_message_infrastructure()
        self._build_channels()
        self._build_sync_channels()
        self.children.ports = self._open_ports
        self._build_processes()
        self._build_runtime_services()
        self.children.launch(self.names)
        self._start_ports()
        for heard in self.exception_q:
            self._wait_for_start(heard)
        self.exception_q.clear()
        self._is_initialized = True

    def _build_message_infrastructure(self) -> None:
        self._messaging_infrastructure = self.children
        self.children.start()

    def _wait_for_start(self, heard: Any) -> None:
        while True:
            try:
                heard.get(timeout=0.1)  # an error, too: its child tells it in more words
            except queue.Empty:
                if not self.children.all_live:
                    return
            else:
                return

    @property
    def semaphores(self) -> int:
        """How many it will make."""
        made, kind = self._executable, self.children.channels
        services = len(made.runtime_service_builders or ())
        actors = len(made.proc_builders) + services
        channels = len(made.channel_builders or ()) + len(made.sync_channel_builders or ())
        if kind == "one process":  # only those between the program and the service lead out of it
            channels = 2 * services
        bells = actors if kind == "semaphore" else 0
        return SEMAPHORES_A_CHANNEL * channels + SEMAPHORES_A_QUEUE * actors + bells

    def stop(self) -> None:
        """Nothing: each Process calls it when it is collected, in any child that has inherited it, too."""


def _free_classes(executable: Executable) -> None:
    """Take the graph's ports out of the classes of its models, where Lava's compiler leaves them."""
    for builder in executable.proc_builders.values():
        for name, port in list(vars(builder.proc_model).items()):
            if isinstance(port, ImplicitVarPort):
                setattr(builder.proc_model, name, None)  # the name is asked for when another graph is built


class Graph:
    """The Processes that are connected with one, compiled and running until `close`.

    It ends when nobody refers to it any more, and when Python does; without `close`, its Processes are
    killed then.

    channels : 'auto', or one of `channels.CHANNELS`
        How the Processes exchange messages; the bits do not depend on it.
    start : whether it starts at once; otherwise by `start`, after more Processes have been connected

    Raises
    ------
    EngineError
        If a Process fails to start, or the machine has no room for it.
    """

    def __init__(
        self,
        process: AbstractProcess,
        structural: bool = False,
        channels: str = "auto",
        start: bool = True,
    ) -> None:
        self.process = process
        self.closed = False
        self._started = self._half_done = False
        self._lock, self._owner = threading.RLock(), os.getpid()
        self._children = Children(choose(channels, _is_external(process)))
        self._forgotten = Finalize(self, self._children.end, exitpriority=FIRST)
        self._config = Loihi2SimCfg(
            select_tag="fixed_pt", select_sub_proc_model=structural, exception_proc_model_map=dict(UNTAGGED)
        )
        if start:
            self.start()

    def start(self) -> None:
        """Compile the graph and let its Processes begin; once."""
        try:
            with self._whole():
                if self._started:
                    raise EngineError("this Lava graph has started already")
                self._start(self._config)
        except BaseException:
            self.close()
            raise

    def _start(self, config: Loihi2SimCfg) -> None:
        require_connected(self.process)
        made = self.process.compile(config, {"pypy_channel_size": CHANNEL_SLOTS})
        try:
            self.runtime = SupervisedRuntime(made, self._children)
            require_semaphores(self.runtime.semaphores)
            self.process.runtime = self.runtime
            made.assign_runtime_to_all_processes(self.runtime)
            from_a_lasting_thread(self.runtime.initialize)
        except OSError as error:
            raise EngineError(f"the Lava graph cannot start: {error.strerror}") from None
        finally:
            _free_classes(made)
        self._started = True
        self.run(0)  # Lava takes Var.set only after a first run

    @property
    def started(self) -> bool:
        """Whether its Processes have begun."""
        return self._started

    # --- who may use it ---

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let one thread in at a time.

        Raises
        ------
        EngineError
            If it was made by another operating-system process: this one has a copy that nothing answers.
        """
        if os.getpid() != self._owner:
            raise EngineError(f"this Lava engine belongs to process {self._owner}: make a new one here")
        with self._lock:
            yield

    @contextmanager
    def whole(self) -> Iterator[None]:
        """A turn that must come to its end: interrupted, it leaves a graph that can only be closed.

        Raises
        ------
        EngineError
            If it has not started, is closed, or was interrupted before.
        """
        if not (self._started or self.closed):
            raise EngineError("this Lava engine has not started: call its start()")
        with self._whole():
            yield

    @contextmanager
    def _whole(self) -> Iterator[None]:
        with self.turn():
            if self.closed:
                raise EngineError("this Lava engine is closed: make a new one")
            if self._half_done:
                raise EngineError("this Lava engine was interrupted while it ran: make a new one")
            try:
                yield
            except EngineError:
                raise
            except BaseException:
                self._half_done = True
                raise

    # --- what it does ---

    def run(self, steps: int) -> None:
        """Run time steps; an exception in a ProcessModel ends the graph and is raised here."""
        with self.whole():
            self._check()
            self.process.run(condition=RunSteps(steps, blocking=False))
            if not self._all_answer(MGMT_RESPONSE.DONE):
                self._fail()
            self.runtime._is_running = False

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """Get or set Vars: Lava waits for ever for a Process that has ended, so a thread does the waiting."""
        with self.whole():
            self._check()
            answer: Future[Answer] = Future()

            def work() -> None:
                try:
                    answer.set_result(question())
                except BaseException as error:
                    answer.set_exception(error)

            threading.Thread(target=work, daemon=True).start()
            self._wait_for(answer.done)
            return answer.result()

    def close(self) -> None:
        """End it; safe to call twice. What another thread runs on it fails."""
        if self.closed or os.getpid() != self._owner:
            return
        idle = self._lock.acquire(blocking=False)
        try:
            if idle and self._started and not self._half_done and self._children.all_live:
                self._stop()
        finally:
            self.closed = True
            self._forgotten()
            if idle:
                self._lock.release()

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- how it ends ---

    def _stop(self) -> None:
        """Let the Processes end by themselves."""
        for port in self.runtime.runtime_to_service:
            port.send(MGMT_COMMAND.STOP)
        deadline = time.monotonic() + GRACE_S
        while any(a.is_alive() for a in self._children.living) and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def _check(self) -> None:
        if not self._children.all_live:
            self._fail()

    def _all_answer(self, expected: Any) -> bool:
        ports = self.runtime.service_to_runtime
        self._wait_for(lambda: all(port.probe() for port in ports))
        return all(enum_equal(port.recv(), expected) for port in ports)

    def _wait_for(self, done: Callable[[], bool]) -> None:
        dead_since = None
        while not done():
            time.sleep(POLL_S)
            if self.closed:
                raise EngineError("this Lava engine was closed while it ran")
            if not self._children.all_live:
                dead_since = dead_since or time.monotonic()
                if not any(actor.is_alive() for actor in self._children.living):
                    self._fail()
                if time.monotonic() - dead_since > GRACE_S:
                    self._fail()

    def _fail(self) -> NoReturn:
        deadline = time.monotonic() + GRACE_S
        while not (failures := self._failures()) and time.monotonic() < deadline:
            time.sleep(POLL_S)  # the others may have ended before it
        self.closed = True
        self._forgotten()
        raise EngineError("; ".join(failures) or "the Lava graph ended without a reason")

    def _failures(self) -> list[str]:
        return [failure for actor in self._children.actors if (failure := actor.failure)]


def _is_external(process: AbstractProcess) -> bool:
    """Whether Python outside of a Process's graph sends to it, or receives from it."""
    ports = [port for each in find_processes(process) for port in (*each.in_ports, *each.out_ports)]
    return any(port.external_pipe_flag for port in ports)


class HasGraph(Protocol):
    """An engine that runs a graph."""

    _graph: Graph


Engine = TypeVar("Engine", bound=HasGraph)


def in_turn(
    method: Callable[Concatenate[Engine, Arguments], Answer],
) -> Callable[Concatenate[Engine, Arguments], Answer]:
    """Let threads call a method of an engine one after another."""

    @functools.wraps(method)
    def call(self: Engine, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        with self._graph.turn():
            return method(self, *args, **kwargs)

    return call  # type: ignore[return-value]
