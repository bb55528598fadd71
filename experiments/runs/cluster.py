"""Runs on a Dask cluster, beside `workers`, which has the processes of one machine.

A run whose worker dies is done again on another one, and goes on from its checkpoint; so the folder of the
runs must be one that all workers see.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, TypeVar

from experiments.runs.workers import TOLD
from wage_neuro.errors import EngineError, SettingError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

PATIENCE = "10s"
"""How long a scheduler may take to answer."""
DEATHS = 3
"""Workers that a run may lose before it is given up."""
_LOCAL = re.compile(r"local:([1-9]\d{0,3})")
_ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss)://\S+")


def workers_of(cluster: str) -> int | None:
    """Number of workers of `local:N`; None for a scheduler's address.

    >>> workers_of("local:4"), workers_of("tcp://10.0.0.1:8786")
    (4, None)

    Raises
    ------
    SettingError
        If it is neither.
    """
    found = _LOCAL.fullmatch(cluster)
    if not found and not _ADDRESS.fullmatch(cluster):
        raise SettingError(
            f"cluster {cluster!r}: want local:N, or a scheduler's address such as tcp://HOST:8786"
        )
    return int(found[1]) if found else None


@contextlib.contextmanager
def joined(cluster: str, say: Callable[[str], None] = lambda line: None) -> Iterator[Any]:
    """A client of a cluster: of workers that are started here and end with it, or of a scheduler elsewhere.

    say : told where the dashboard is

    Raises
    ------
    EngineError
        If Dask is not installed, or nobody answers.
    """
    n = workers_of(cluster)
    try:
        dask, distributed = _dask()
    except ImportError as error:
        raise EngineError(f'cluster {cluster}: {error}; it needs pip install "wage-neuro[dask]"') from None
    quiet = {
        "distributed.scheduler.allowed-failures": DEATHS - 1,
        "logging.distributed": "error",
    }
    with contextlib.ExitStack() as held:
        held.enter_context(dask.config.set(quiet))
        where: Any = cluster
        if n is not None:
            where = held.enter_context(
                distributed.LocalCluster(
                    n_workers=n, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
                )
            )
        try:
            client = distributed.Client(where, timeout=PATIENCE)
        except (OSError, TimeoutError, ValueError):
            raise EngineError(
                f"cluster {cluster}: no scheduler answers within {PATIENCE}; want the address that"
                " `dask scheduler` prints"
            ) from None
        held.enter_context(client)
        say(f"dashboard {client.dashboard_link}")
        yield client


def on_cluster(
    do: Callable[[Item], Answer],
    items: Sequence[Item],
    cluster: str,
    name: Callable[[Item], str] = str,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[Item, Answer]]:
    """Do each item on some worker; yield it with its answer when it is done, once.

    Parameters
    ----------
    do : what can be pickled, and may be begun again: its worker can die

    Raises
    ------
    EngineError
        If an item has lost DEATHS workers, or the cluster is gone.
    """
    with joined(cluster, say) as client:
        _, distributed = _dask()
        futures = {client.submit(_told, do, item, pure=False): item for item in items}
        try:
            for future in distributed.as_completed(futures):
                item = futures[future]
                try:
                    answer, error = future.result()
                except distributed.KilledWorker:
                    raise EngineError(f"{name(item)}: {DEATHS} workers died of it") from None
                except distributed.CancelledError:
                    raise EngineError(f"{name(item)}: the cluster {cluster} is gone") from None
                if error:
                    raise error
                yield item, answer
        finally:
            client.cancel(list(futures))


def _told(do: Callable[[Any], Any], item: Any) -> tuple[Any, BaseException | None]:
    """Its answer, or its error as it is: Dask would log its traceback."""
    try:
        return do(item), None
    except TOLD as refusal:
        return None, refusal


def _dask() -> tuple[Any, Any]:
    return import_module("dask"), import_module("distributed")
