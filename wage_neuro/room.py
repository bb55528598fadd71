"""Memory: what something would take is known before it is allocated, and refused with the number."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wage_neuro.bits import code_dtype
from wage_neuro.errors import NetworkError, WageError

if TYPE_CHECKING:
    from wage_neuro.network import Network

DRAWN_BYTES = 32  # a weight of the layer whose initial weights are being drawn
SMALL = 1 << 24  # not worth a look


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, of its control group, of its own limit."""
    found = [sys.maxsize]
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().split("MemAvailable:")
        found.append(1024 * int(lines[1].split()[0]))
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text())
        found.append(max(0, most - int((group / "memory.current").read_text())))
    with contextlib.suppress(ImportError, ValueError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            found.append(limit)
    return min(found)


def check_room(what: str, size: int, problem: type[WageError] = NetworkError) -> None:
    """Raise `problem` if `size` bytes are more than there is room for; `what` opens the line.

    >>> check_room("weights", 46 << 40)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    wage_neuro.errors.NetworkError: weights: takes 46.0 TiB of memory; ... are free
    """
    if size > SMALL and size > (free := free_memory()):
        raise problem(f"{what}: takes {in_words(size)} of memory; {in_words(free)} are free")


def in_words(size: int) -> str:
    """Bytes as people say them.

    >>> in_words(6 << 30), in_words(1000)
    ('6.0 GiB', '1000 bytes')
    """
    for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"), start=1):
        if size < 1 << (10 * power + 10) and size >= 1024:
            return f"{size / (1 << 10 * power):.1f} {unit}"
    return f"{size} bytes" if size < 1024 else "more than 1024 EiB"


def check_weights(network: Network) -> None:
    """Raise NetworkError unless there is room to draw the initial weights of a network."""
    stored = sum(layer.n_weights * np.dtype(code_dtype(layer.bits.k_G)).itemsize for layer in network.layers)
    most = max(layer.n_weights for layer in network.layers)
    check_room(f"network {network}: {network.n_weights:,} weights", stored + DRAWN_BYTES * most)


def check_learning(network: Network, samples: int) -> None:
    """Raise NetworkError unless there is room for sums and errors of a layer for so many samples at once."""
    for layer in network.layers:
        sums = int(np.prod(layer.z_shape, dtype=object)) * samples
        check_room(
            f"network {network}: layer {layer.index} {layer} for {samples:,} samples at once", 8 * sums
        )
