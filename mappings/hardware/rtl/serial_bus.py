"""SerialBus: the host's end of a serial line, simulated or a port's."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from mappings.hardware.rtl.driver import Bus
from mappings.hardware.rtl.registers import Command
from wage_neuro.errors import EngineError

COUNT_MAX = (1 << 16) - 1


class Port(Protocol):
    """What carries bytes: pyserial's `Serial` is one."""

    def write(self, data: bytes, /) -> object:
        """Send them."""

    def read(self, size: int, /) -> bytes:
        """Return so many, or fewer when no more came in time."""

    def close(self) -> None:
        """Give it back."""


class SerialBus(Bus):
    """A core's bus over a serial line.

    Raises
    ------
    EngineError
        If the core stops answering.
    """

    def __init__(self, port: Port) -> None:
        self.port = port
        port.write(bytes(6))  # ends a command that a host before left open

    def write(self, addresses: np.ndarray, words: np.ndarray) -> None:
        for first, last, step in _runs(addresses):
            command = Command.WRITE_UP if step else Command.WRITE
            head = struct.pack("<BIH", command, addresses[first], last - first)
            self.port.write(head + words[first:last].astype("<u4").tobytes())

    def read(self, addresses: np.ndarray) -> np.ndarray:
        found = []
        for first, last, _ in _runs(addresses, only_up=True):
            self.port.write(struct.pack("<BIH", Command.READ_UP, addresses[first], last - first))
            found.append(np.frombuffer(self._take(4 * (last - first)), "<u4"))
        return np.concatenate(found).astype(np.uint32)

    def wait(self, most: int) -> None:
        self.port.write(bytes([Command.WAIT]))
        answer = self._take(1)
        if answer != bytes([Command.WAIT]):
            raise EngineError(f"serial line: {answer!r} where the core should say that it is done")

    def close(self) -> None:
        self.port.close()

    def _take(self, size: int) -> bytes:
        found = self.port.read(size)
        if len(found) != size:
            raise EngineError(f"serial line: {len(found)} of {size} bytes came, then nothing")
        return found


def _runs(addresses: np.ndarray, only_up: bool = False) -> Iterator[tuple[int, int, int]]:
    """Cut addresses into runs (first, end, step): of one address (step 0), or going up by 1.

    >>> list(_runs(np.array([3, 3, 3, 2, 8, 9, 10])))
    [(0, 3, 0), (3, 4, 1), (4, 7, 1)]
    """
    first, values = 0, addresses.tolist()
    while first < len(values):
        rest = values[first + 1 : first + 2]
        step = rest[0] - values[first] if rest and rest[0] - values[first] in (0, 1)[only_up:] else 1
        end = first + 1
        while end < len(values) and end - first < COUNT_MAX and values[end] == values[end - 1] + step:
            end += 1
        yield first, end, step
        first = end
