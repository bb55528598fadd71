"""The ranks that `mpiexec` or `torchrun` has started: they join, see that they are alike, and end as one."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

from wage_neuro import __version__
from wage_neuro.errors import DoubtWarning, EngineError, SettingError
from wage_neuro.team import ALONE, Team

TORCHRUN = ("RANK", "WORLD_SIZE")
LAUNCHERS = (("PMI_RANK", "PMI_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), TORCHRUN)
"""Where MPICH, Intel MPI, Slurm, Open MPI and torchrun tell a process its rank, and of how many."""
_joined, _alike = list[Any](), list[Team]()  # the team, once it is; once its ranks have been compared


def launched(environ: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Rank of this process and the number of ranks, as its launcher tells them.

    >>> launched({"PMI_RANK": "1", "PMI_SIZE": "4"}), launched({})
    ((1, 4), (0, 1))
    """
    names = _launcher(environ)
    return (int(environ[names[0]]), int(environ[names[1]])) if names else (0, 1)


def _launcher(environ: Mapping[str, str]) -> tuple[str, str] | None:
    for names in LAUNCHERS:
        told = all(environ.get(name, "").isdigit() for name in names)
        if told and (names != TORCHRUN or "TORCHELASTIC_RUN_ID" in environ):  # others use these words too
            return names
    return None


def _as_started() -> str:
    _, size = launched()
    return f"torchrun of {size}" if _launcher(os.environ) == TORCHRUN else f"mpiexec -n {size}"


def hush() -> None:
    """Let what all ranks would say of the command line be said by the first one alone, until they `join`."""
    if launched()[0]:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - to the end


def join() -> Team:
    """The team of all ranks, or of this process alone where no launcher has started several.

    Raises
    ------
    EngineError
        If mpi4py or its MPI, or PyTorch, is not installed, or it is not the launcher's.
    """
    _, size = launched()
    if size == 1:
        return ALONE
    sys.stderr = sys.__stderr__
    by_torch = _launcher(os.environ) == TORCHRUN
    try:
        from mappings.cluster.team import Wire, WiredTeam

        wire: Wire
        if by_torch:
            from mappings.cluster.torch import TorchWire

            wire = TorchWire()
        else:
            from mappings.cluster.mpi import MpiWire

            wire = MpiWire()
    except (ImportError, RuntimeError) as error:  # RuntimeError: no MPI library
        extra = "torch" if by_torch else "mpi"
        raise EngineError(
            f'{_as_started()}: {" ".join(str(error).split())}; it needs pip install "wage-neuro[{extra}]"'
        ) from None
    if wire.size != size:
        from mpi4py import MPI

        library = MPI.Get_library_version().partition("\n")[0].strip("\0 ")
        raise EngineError(
            f"mpiexec -n {size}: mpi4py sees {wire.size} rank; want the mpiexec of its own MPI, {library}"
        )
    team = WiredTeam(wire)
    _joined.append(team)
    if team.rank:  # what all doubt is told once
        warnings.simplefilter("ignore", DoubtWarning)
    return team


def refuse_ranks(command: str) -> None:
    """Raise SettingError where several ranks would do the same."""
    _, size = launched()
    if size > 1:
        raise SettingError(f"{_as_started()} with {command}: want one process; `train` alone shares its work")


def check_alike(team: Team, facts: Mapping[str, Callable[[], Any]]) -> None:
    """See that all ranks have come as far as this, with the same version and the same of each fact.

    facts : what can be told as JSON, by what it is; compared by their sha256

    Raises
    ------
    SettingError
        If one differs from rank 0, with both.
    SystemExit
        If another rank has an error, which it tells.
    """
    if team.size == 1:
        return
    told = {"version": __version__, **{name: tell() for name, tell in facts.items()}}
    texts = {name: json.dumps(value, sort_keys=True, default=str) for name, value in told.items()}
    found = team.objects({name: _short(text) for name, text in texts.items()})
    _alike.append(team)
    if None in found:
        _end_together(team)
    for rank, other in enumerate(found):
        for name, there in other.items():
            if there != found[0][name]:
                message = f"rank {rank}: {name} {there}: want {found[0][name]}, as rank 0 has"
                if team.rank:  # all see it, one tells it
                    _end_together(team)
                raise SettingError(message)


def _short(text: str) -> str:
    return text if len(text) <= 20 else "sha256 " + hashlib.sha256(text.encode()).hexdigest()[:12]


def _end_together(team: Team) -> NoReturn:
    """End when all are here: a launcher ends all with the first, also the one that has yet to tell why."""
    with suppress(EngineError):  # the one that tells has aborted
        team.objects(None)
    sys.exit(1)


def end_all(tell: Callable[[str, str], None], message: str) -> None:
    """Tell an error once, and end every rank. Returns where there is none beside this one.

    Before `check_alike` all ranks meet there, or here: the first one with an error tells it. Afterwards the
    one with the error does, at once, as the others wait for it.
    """
    rank, size = launched()
    if size == 1:
        return
    if not _joined:  # all ranks lack the same
        if rank == 0:
            tell(message, "")
        sys.exit(1)
    team = _joined[0]
    who = f"rank {rank}: " if rank else ""
    if not _alike:
        try:
            first = team.objects(None).index(None) == rank
        except EngineError:  # the others have died
            first = team.wire.tells()
        if first:
            tell(message, who)
        _end_together(team)
    if team.wire.tells():
        tell(message, who)
    sys.stdout.flush()
    sys.stderr.flush()
    team.wire.abort()
