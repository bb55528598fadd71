"""Memory that a program and the children it forks share. It has no name, so none can be left behind."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wage_neuro.errors import EngineError

SEMAPHORES_IN = Path("/dev/shm")


def shared_array(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Array in memory that children forked later share."""
    count = int(np.prod(shape))
    return np.frombuffer(mmap.mmap(-1, count * np.dtype(dtype).itemsize), dtype).reshape(shape)


@dataclass(frozen=True)
class Piece:
    """What Lava's channels want of a `multiprocessing.shared_memory.SharedMemory`."""

    buf: memoryview


class AnonymousMemory:
    """Takes the place of Lava's SharedMemoryManager: no manager's process, nothing in /dev/shm.

    Lava's channels find their memory by forking, not by its name, so they need none; and what has no name
    is not bounded by the size of /dev/shm, 64 MB in a default container.
    """

    def create_shared_memory(self, size: int) -> Piece:
        return Piece(memoryview(mmap.mmap(-1, max(1, size))))

    def shutdown(self) -> None:
        """A piece goes with the last port that uses it."""


def require_semaphores(count: int) -> None:
    """Raise EngineError unless so many semaphores can be made: each takes a page of /dev/shm.

    A C library that cannot make one more says only that no space is left, or ends the program.
    """
    try:
        found = os.statvfs(SEMAPHORES_IN)
    except OSError:  # no such place: then that is not where they go
        return
    need, free = count * mmap.PAGESIZE, found.f_bavail * found.f_frsize
    if need > free:
        raise EngineError(
            f"{SEMAPHORES_IN} has {free // 1024} kB free: the Lava graph needs {need // 1024} kB there for"
            f" {count} semaphores; free some, or give it more (docker run --shm-size 64m)"
        )
