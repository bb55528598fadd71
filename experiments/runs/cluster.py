"""Runs on a Dask cluster, beside `workers`, which has the processes of one machine.

A run whose worker dies is done again on another one, and goes on from its checkpoint; so the folder of the
runs must be one that all workers see.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

from experiments.runs.stopping import sigterm_as_ctrl_c, stop
from experiments.runs.workers import TOLD, cpus, for_group
from wage_neuro import __version__
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.kernels import numpy_kernels as kernels

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
        If Dask is not installed, nobody answers, or wage-neuro is not the same there.
    """
    n = workers_of(cluster)
    dask, distributed = _installed(cluster)
    settings = {
        "distributed.scheduler.allowed-failures": DEATHS - 1,
        "distributed.worker.daemon": False,  # Lava's engine has children
    }
    for noisy in ("distributed", "distributed.client"):  # what matters is told in a line
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as held:
        held.enter_context(dask.config.set(settings))
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
        _check_versions(client, cluster)
        if not client.nthreads():
            say(f"cluster {cluster}: no worker yet; the runs begin when one joins")
        yield client


def on_cluster(
    do: Callable[[Item], Answer],
    items: Sequence[Item],
    cluster: str,
    name: Callable[[Item], str] = str,
    say: Callable[[str], None] = lambda line: None,
) -> Generator[tuple[Item, Answer], None, None]:
    """Do each item on some worker; yield it with its answer when it is done, once.

    When this ends early, the runs that have begun stop with a checkpoint, and are waited for.

    Parameters
    ----------
    do : what can be pickled, and may be begun again: its worker can die

    Raises
    ------
    EngineError
        If an item has lost DEATHS workers, the cluster is gone, or has another version of wage-neuro.
    """
    with sigterm_as_ctrl_c(), joined(cluster, say) as client:
        _, distributed = _dask()
        told = partial(_told, client.id, _most_at_once(client), do)
        futures = {client.submit(told, item, pure=False): item for item in items}
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
            _end(client, list(futures))


def _told(group: str, at_once: int, do: Callable[[Any], Any], item: Any) -> tuple[Any, BaseException | None]:
    """Its answer, or its error as it is: Dask would log its traceback.

    at_once : items that share the worker's machine
    """
    kernels.set_threads(max(1, cpus() // at_once))
    try:
        answer = for_group(group, do, item)
    except TOLD as refusal:
        return None, refusal
    return answer and answer[0], None


def _check_versions(client: Any, cluster: str) -> None:
    """Raise EngineError unless all of the cluster has our version of wage-neuro; Dask would wait for ever."""
    found = client.get_versions(packages=["wage_neuro"])
    for where, there in {"scheduler": found["scheduler"], **found["workers"]}.items():
        version = there["packages"].get("wage_neuro")
        if version != __version__:
            has = f"wage-neuro {version}" if version else "no wage-neuro"
            raise EngineError(f"cluster {cluster}: {has} on {where}: want {__version__}, as here")


def _most_at_once(client: Any) -> int:
    """Items that are done at the same time on the machine that has most workers."""
    shares = Counter[str]()
    for worker, threads in client.nthreads().items():
        shares[worker.rpartition(":")[0]] += threads
    return max(shares.values(), default=1)


def _end(client: Any, futures: list[Any]) -> None:
    """Stop what has begun, and forget the rest."""
    _, distributed = _dask()
    left = [future for future in futures if not future.done()]
    if left:
        with contextlib.suppress(OSError, TimeoutError, RuntimeError, distributed.CancelledError):
            client.run(stop, client.id, on_error="ignore")
            distributed.wait(left, timeout=PATIENCE)
    client.cancel(futures)


def check(cluster: str) -> None:
    """Raise EngineError where `joined` would, before anything is written; workers here are not started."""
    _installed(cluster)
    if workers_of(cluster) is None:
        with joined(cluster):
            pass


def _installed(cluster: str) -> tuple[Any, Any]:
    try:
        return _dask()
    except ImportError as error:
        raise EngineError(f'cluster {cluster}: {error}; it needs pip install "wage-neuro[dask]"') from None


def _dask() -> tuple[Any, Any]:
    return import_module("dask"), import_module("distributed")
