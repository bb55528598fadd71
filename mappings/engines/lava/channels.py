"""Faster channels for Lava graphs, through Lava's own interfaces.

- 'stock': Lava's. Each end of a channel has a helper thread, which takes half of a small graph's time.
- 'semaphore': an operating-system process a Process as before; a channel is two counting semaphores.
- 'one process': all ProcessModels and Lava's service take turns in one operating-system process, each a
  greenlet that goes on where its message has come. Fastest for small graphs, which have no work to share.

All pass the same messages in the same order. Lava's watchdogs watch whatever has to wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from importlib.util import find_spec
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np
from lava.magma.compiler.channels.interfaces import Channel
from lava.magma.compiler.channels.pypychannel import CspRecvPort, CspSelector, CspSendPort
from lava.utils.sparse import find
from scipy.sparse import csr_matrix

from wage_neuro.errors import EngineError, SettingError

if TYPE_CHECKING:
    from greenlet import greenlet

CHANNELS = ("stock", "semaphore", "one process")
_LAVA_INT32 = 4  # Lava's own name of a type, in the channels of its service


def choose(channels: str, external: bool) -> str:
    """Return the kind of channel that a graph takes; 'auto' is what costs it least processor time.

    external : whether Python outside of the graph sends or receives, as through Lava's Injector
    """
    lacks = None
    if external:
        lacks = "a graph that Python sends to or receives from waits outside: want 'semaphore' or 'stock'"
    elif not find_spec("greenlet"):
        lacks = "the package greenlet is not installed"
    if channels == "auto":
        return "semaphore" if lacks else "one process"
    if channels not in CHANNELS:
        raise SettingError(f"channels={channels!r}: want auto, {' or '.join(CHANNELS)}")
    if channels == "one process" and lacks:
        raise EngineError(f"channels={channels!r}: {lacks}")
    return channels


def channel_class(channels: str, name: str) -> type[Channel]:
    """Class of the channel whose source has that name; 'runtime' is in the names of those to the program."""
    return GreenChannel if channels == "one process" and "runtime" not in name else SemaphoreChannel


# --- between operating-system processes --------------------------------------------------------------


class Count:
    """A semaphore of `multiprocessing`, without its Python around it."""

    def __init__(self, value: int) -> None:
        self._whole = get_context("fork").Semaphore(value)
        lock = self._whole._semlock  # type: ignore[attr-defined]
        self.acquire, self.release, self.value = lock.acquire, lock.release, lock._get_value


class Bell:
    """Wakes a Process that listens to several channels; rung twice it rings once."""

    def __init__(self) -> None:
        self._count = Count(0)
        self.wait = self._count.acquire

    def ring(self) -> None:
        if not self._count.value():
            self._count.release()


class _Ring:
    """The messages of a channel in shared memory: those that wait, and the room for more."""

    def __init__(self, memory: Any, shape: tuple[int, ...], dtype: Any, size: int) -> None:
        self.shape, self.size = shape, size
        self.dtype = np.int32 if not isinstance(dtype, type) and dtype == _LAVA_INT32 else dtype
        self.nbytes = int(np.prod(shape)) * np.dtype(self.dtype).itemsize
        self.piece = memory.create_shared_memory(self.nbytes * size)
        self.messages, self.room = Count(0), Count(size)
        self.bell: Bell | None = None

    def arrays(self) -> list[np.ndarray]:
        starts = range(0, self.nbytes * self.size, self.nbytes)
        return [
            np.ndarray(self.shape, self.dtype, self.piece.buf[start : start + self.nbytes])
            for start in starts
        ]


class _Port:
    """What both ends have: Lava's names for it, and how it waits."""

    def __init__(self, name: str, form: Any, watchdog: Any) -> None:
        self._name, self._shape, self._dtype, self._size = name, form.shape, form.dtype, form.size
        self._watchdog, self.observer, self.thread = watchdog, None, None

    def start(self) -> None:
        """Nothing listens before it is asked."""

    def join(self) -> None:
        """Nothing is left to end."""

    def dense(self, data: Any) -> np.ndarray:
        if type(data) is np.ndarray and data.shape == self._shape:
            return data
        if data.shape != self._shape:
            raise AssertionError(f"port {self._name}: a message of shape {data.shape}, want {self._shape}")
        return find(data, explicit_zeros=True)[2] if isinstance(data, csr_matrix) else data


class _SemaphorePort(_Port):
    """An end of a ring, which holds it until `join`."""

    def __init__(self, name: str, ring: _Ring, watchdog: Any) -> None:
        super().__init__(name, ring, watchdog)
        self.ring, self._at = ring, 0
        self._arrays: list[np.ndarray] = []

    def start(self) -> None:
        self._arrays = self.ring.arrays()

    def join(self) -> None:
        self._arrays = []
        self.__dict__.pop("ring", None)


class SemaphoreSend(_SemaphorePort, CspSendPort):
    """The end that sends."""

    def probe(self) -> bool:
        return bool(self._arrays and self.ring.room.value())

    def send(self, data: Any) -> None:
        data = self.dense(data)
        if not self.ring.room.acquire(False):
            with self._watchdog:
                self.ring.room.acquire()
        self._arrays[self._at][...] = data
        self._at = (self._at + 1) % self._size
        self.ring.messages.release()
        if self.ring.bell:
            self.ring.bell.ring()


class SemaphoreReceive(_SemaphorePort, CspRecvPort):
    """The end that receives."""

    def probe(self) -> bool:
        return bool(self._arrays and self.ring.messages.value())

    def _take(self) -> None:
        if self.ring.messages.acquire(False):
            return
        with self._watchdog:
            if HUB:
                HUB.sleep("the program", outside=self)
            self.ring.messages.acquire()

    def peek(self) -> np.ndarray:
        self._take()
        self.ring.messages.release()
        return self._arrays[self._at].copy()

    def recv(self) -> np.ndarray:
        self._take()
        data = self._arrays[self._at].copy()
        self._at = (self._at + 1) % self._size
        self.ring.room.release()
        return data


class _TwoEnds(Channel):
    """A channel that holds its ends."""

    _source: CspSendPort
    _target: CspRecvPort

    @property
    def src_port(self) -> CspSendPort:
        return self._source

    @property
    def dst_port(self) -> CspRecvPort:
        return self._target


class SemaphoreChannel(_TwoEnds):
    """Two semaphores, and shared memory."""

    def __init__(
        self,
        infrastructure: Any,
        source: str,
        target: str,
        shape: Any,
        dtype: Any,
        size: int,
        *watchdogs: Any,
    ) -> None:
        ring = _Ring(infrastructure.smm, shape, dtype, size)
        self._source = SemaphoreSend(source, ring, watchdogs[0])
        self._target = SemaphoreReceive(target, ring, watchdogs[2])


# --- inside one operating-system process -------------------------------------------------------------


class _Line:
    """The messages of a channel inside one process, and who waits for one or for room."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, size: int) -> None:
        self.shape, self.size = shape, size
        self.dtype = np.int32 if not isinstance(dtype, type) and dtype == _LAVA_INT32 else dtype
        self.messages: deque[np.ndarray] = deque()
        self.readers: set[greenlet] = set()
        self.writers: set[greenlet] = set()


class GreenSend(_Port, CspSendPort):
    """The end that sends."""

    def __init__(self, name: str, line: _Line, watchdog: Any) -> None:
        super().__init__(name, line, watchdog)
        self.line = line

    def probe(self) -> bool:
        return len(self.line.messages) < self._size

    def send(self, data: Any) -> None:
        data, line = self.dense(data), self.line
        if len(line.messages) >= self._size:
            with self._watchdog:
                while len(line.messages) >= self._size:
                    _hub().sleep(f"room to send at {self._name}", line.writers)
        if data.flags.writeable or data.dtype != self._dtype:  # else nobody writes to it any more
            data = data.astype(self._dtype).reshape(self._shape)  # a sparse one has come flat
        line.messages.append(data)
        if line.readers:
            _hub().wake(line.readers)


class GreenReceive(_Port, CspRecvPort):
    """The end that receives."""

    def __init__(self, name: str, line: _Line, watchdog: Any) -> None:
        super().__init__(name, line, watchdog)
        self.line = line

    def probe(self) -> bool:
        return bool(self.line.messages)

    def _await(self) -> None:
        if not self.line.messages:
            with self._watchdog:
                while not self.line.messages:
                    _hub().sleep(f"a message at {self._name}", self.line.readers)

    def peek(self) -> np.ndarray:
        self._await()
        return self.line.messages[0].copy()

    def take(self) -> np.ndarray:
        """As `recv`, for one who only reads it."""
        if not self.line.messages:
            self._await()
        message = self.line.messages.popleft()
        if self.line.writers:
            _hub().wake(self.line.writers)
        return message

    def recv(self) -> np.ndarray:
        message = self.take()
        return message if message.flags.writeable else message.copy()


class GreenChannel(_TwoEnds):
    """A queue in the memory of one process."""

    def __init__(
        self,
        infrastructure: Any,
        source: str,
        target: str,
        shape: Any,
        dtype: Any,
        size: int,
        *watchdogs: Any,
    ) -> None:
        line = _Line(shape, dtype, size)
        self._source = GreenSend(source, line, watchdogs[0])
        self._target = GreenReceive(target, line, watchdogs[2])


class Hub:
    """Lets the ProcessModels of one process take turns: each goes on when what it waits for has come."""

    def __init__(self) -> None:
        import greenlet  # not everybody has it

        self._new, self._current = greenlet.greenlet, greenlet.getcurrent
        self._main = greenlet.getcurrent()
        self._names: dict[greenlet, str] = {}
        self._ready: deque[greenlet] = deque()
        self._asleep: dict[greenlet, str] = {}
        self._outside: tuple[greenlet, SemaphoreReceive] | None = None

    def run(self, jobs: list[tuple[str, Callable[[], Any]]]) -> None:
        """Run jobs to their ends; an exception tells by `lava_process` where it comes from."""
        for name, job in jobs:
            each = self._new(job, self._main)
            self._names[each] = name
            self._ready.append(each)
        while self._names:
            if not self._ready:
                self._listen()
            each = self._ready.popleft()
            try:
                each.switch()
            except Exception as error:
                error.lava_process = self._names[each]  # type: ignore[attr-defined]
                raise
            if each.dead:
                del self._names[each]

    def sleep(self, reason: str, *waiting: set[greenlet], outside: SemaphoreReceive | None = None) -> None:
        """Let others go on until one of them wakes those who wait here, or the program sends something."""
        me = self._current()
        for each in waiting:
            each.add(me)
        self._asleep[me] = reason
        if outside:
            self._outside = me, outside
        self._main.switch()
        if outside:
            self._outside = None

    def wake(self, waiting: set[greenlet]) -> None:
        """Let those who wait here go on in their turn."""
        for each in waiting:
            if self._asleep.pop(each, None):
                self._ready.append(each)
        waiting.clear()

    def _listen(self) -> None:
        """Nobody can go on before the program sends something; if it is not asked to, nobody ever will."""
        if not self._outside:
            self._raise_deadlock()
        assert self._outside
        each, port = self._outside
        port.ring.messages.acquire()
        port.ring.messages.release()
        self.wake({each})

    def _raise_deadlock(self) -> None:
        own = ("service_to_process", "process_to_service")
        waits = [
            f"{self._names[each]} waits for {reason}"
            for each, reason in self._asleep.items()
            if not reason.endswith(own)
        ]
        raise EngineError(f"no Process can go on: {'; '.join(waits)}")


HUB: Hub | None = None  # of this operating-system process, where all models are in one


def _hub() -> Hub:
    assert HUB
    return HUB


def take_turns(jobs: list[tuple[str, Callable[[], Any]]]) -> None:
    """Run the models of a graph in this process."""
    global HUB
    HUB = Hub()
    HUB.run(jobs)


# --- waiting for one of several channels -------------------------------------------------------------


def select(self: CspSelector, *channel_actions: tuple[Any, Callable[[], Any]]) -> Any:
    """Wait for any channel to become ready; return what its action returns: Lava's, without threads."""
    while True:
        for port, action in channel_actions:
            if port.probe():
                return action()
        _wait_for_any([port for port, _ in channel_actions])


def _wait_for_any(ports: list[Any]) -> None:
    if len(ports) == 1:
        ports[0].peek()
    elif HUB:
        outside = next((port for port in ports if isinstance(port, SemaphoreReceive)), None)
        lines = [port.line.readers for port in ports if isinstance(port, GreenReceive)]
        HUB.sleep("a message at service_to_process", *lines, outside=outside)
    else:
        ports[0].ring.bell.wait()


def hang_bell(ports: list[Any]) -> None:
    """Let one bell ring for all of these ports that receive through semaphores."""
    bell = Bell()
    for port in ports:
        port.ring.bell = bell
