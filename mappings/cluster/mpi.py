"""The wire of MPI."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from mappings.cluster.team import Wire

GRACE_S = 0.5
"""Before an abort: a launcher that ends the ranks no longer reads what one of them has just written."""


class MpiWire(Wire):
    """All ranks that `mpiexec` has started, or another communicator's."""

    def __init__(self, ranks: MPI.Intracomm = MPI.COMM_WORLD) -> None:
        self.ranks = ranks
        self.rank, self.size = ranks.Get_rank(), ranks.Get_size()
        ranks.Barrier()  # by now all have mapped what they share
        _take_names_of_segments()

    def exchange(self, to: Sequence[np.ndarray], sizes: Sequence[int]) -> Any:
        out, into = np.concatenate(to), np.empty(sum(sizes), np.uint8)
        counts = [len(part) for part in to]
        request = self.ranks.Ialltoallv(
            [out, (counts, None), MPI.BYTE], [into, (list(sizes), None), MPI.BYTE]
        )
        return request, out, into

    def arrived(self, sent: Any) -> np.ndarray:
        request, _, into = sent
        request.Wait()
        return into

    def gather(self, own: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
        into = np.empty(sum(sizes), np.uint8)
        self.ranks.Allgatherv([own, MPI.BYTE], [into, (list(sizes), None), MPI.BYTE])
        return into

    def most(self, values: np.ndarray) -> np.ndarray:
        return self._reduced(values, MPI.MAX)

    def total(self, values: np.ndarray) -> np.ndarray:
        return self._reduced(values, MPI.SUM)

    def _reduced(self, values: np.ndarray, operation: MPI.Op) -> np.ndarray:
        found = np.empty_like(values)
        self.ranks.Allreduce(values, found, operation)
        return found

    def objects(self, own: Any) -> list[Any]:
        return self.ranks.allgather(own)

    def abort(self, code: int = 1) -> None:
        time.sleep(GRACE_S)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):  # MPI has nothing to add
            os.dup2(nowhere, stream)
        self.ranks.Abort(code)


def _take_names_of_segments() -> None:
    """Unlink the shared memory of MPICH that this process has mapped: it would outlast ranks that are ended.

    MPICH itself unlinks it at the end of ranks that end well, and finds nothing amiss where that is done.
    """
    maps = Path("/proc/self/maps")
    if maps.exists():
        for path in re.findall(r"/dev/shm/mpich_shm_\S+$", maps.read_text(), re.MULTILINE):
            Path(path).unlink(missing_ok=True)
