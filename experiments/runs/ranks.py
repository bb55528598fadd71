"""The ranks that `mpiexec` has started: they join as a team, see that they are of one mind, and end as one."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from wage_neuro import __version__
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.team import ALONE, Team

LAUNCHERS = (("PMI_RANK", "PMI_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"))
"""Where MPICH, Intel MPI, Slurm and Open MPI tell a process its rank, and of how many."""
PATIENCE_S = 0.3  # that the first rank has to say what all would say
_joined: list[Team] = []


def launched(environ: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Rank of this process and the number of ranks, as its launcher tells them.

    >>> launched({"PMI_RANK": "1", "PMI_SIZE": "4"}), launched({})
    ((1, 4), (0, 1))
    """
    for rank, size in LAUNCHERS:
        if environ.get(rank, "").isdigit() and environ.get(size, "").isdigit():
            return int(environ[rank]), int(environ[size])
    return 0, 1


def join() -> Team:
    """The team of all ranks, or of this process alone where no launcher has started several.

    Raises
    ------
    EngineError
        If mpi4py or its MPI is not installed, or is not the launcher's.
    """
    _, size = launched()
    if size == 1:
        return ALONE
    try:
        from mpi4py import MPI

        from mappings.cluster.mpi import MpiWire
        from mappings.cluster.team import WiredTeam
    except (ImportError, RuntimeError) as error:  # RuntimeError: no MPI library
        raise EngineError(
            f'mpiexec -n {size}: {" ".join(str(error).split())}; it needs pip install "wage-neuro[mpi]"'
        ) from None
    wire = MpiWire()
    if wire.size != size:
        library = MPI.Get_library_version().partition("\n")[0].strip("\0 ")
        raise EngineError(
            f"mpiexec -n {size}: mpi4py sees {wire.size} rank; want the mpiexec of its own MPI, {library}"
        )
    team = WiredTeam(wire)
    _joined.append(team)
    return team


def check_alike(team: Team, facts: Mapping[str, Callable[[], Any]]) -> None:
    """See that all ranks have the same version, and the same of each fact.

    facts : what can be told as JSON, by what it is; compared by their sha256

    Raises
    ------
    SettingError
        On the first rank that differs from rank 0, with both.
    """
    if team.size == 1:
        return
    told = {"version": __version__, **{name: tell() for name, tell in facts.items()}}
    texts = {name: json.dumps(value, sort_keys=True, default=str) for name, value in told.items()}
    for rank, other in enumerate(team.objects({name: _short(text) for name, text in texts.items()})):
        if rank == 0:
            first = other
        for name, told_there in other.items():
            if told_there != first[name]:
                raise SettingError(
                    f"rank {rank}: its {name} are {told_there}, those of rank 0 {first[name]}; want the same"
                    " on every rank"
                )


def _short(text: str) -> str:
    return text if len(text) <= 20 else "sha256 " + hashlib.sha256(text.encode()).hexdigest()[:12]


def end_all(tell: Callable[[str], None], message: str) -> None:
    """Tell an error once, and end every rank: the first rank does it, or else the one that has the error.

    Returns where there are no other ranks to be ended.
    """
    rank, size = launched()
    if size == 1:
        return
    if not _joined:  # all ranks lack the same
        if rank == 0:
            tell(message)
        os._exit(1)
    if rank:
        time.sleep(PATIENCE_S + 0.02 * min(rank, 50))
    tell(f"rank {rank}: {message}" if rank else message)
    sys.stdout.flush()
    sys.stderr.flush()
    if "PMI_HOSTNAME" not in os.environ:  # not MPICH's own launcher, which ends all without many words
        from mpi4py import MPI

        MPI.COMM_WORLD.Abort(1)
    os._exit(1)
