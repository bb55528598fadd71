"""The runs of a command, one after another here, some of them at a time, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from experiments.runs.cluster import check, on_cluster, workers_of
from experiments.runs.workers import cpus, in_threads, side_by_side
from wage_neuro.errors import SettingError
from wage_neuro.kernels import numpy_kernels as kernels
from wage_neuro.settings import SIMULATOR, check_settings, setting

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """How many runs are done at a time, and where. What they find does not depend on it.

    >>> Jobs(cluster="local:2", jobs=3)
    Traceback (most recent call last):
    wage_neuro.errors.SettingError: cluster='local:2' with jobs=3: its workers do the runs; want one of them
    """

    jobs: int = setting(
        1, "Runs at the same time, each in its own process.", SIMULATOR, least=1, resumes=True
    )
    together: bool = setting(
        False,
        "Those at the same time in threads of one process: engine `compiled`.",
        SIMULATOR,
        flag="--together",
        resumes=True,
    )
    cluster: str | None = setting(
        None,
        "Do the runs on Dask: `local:N` workers, or a scheduler's address such as `tcp://HOST:8786`.",
        SIMULATOR,
        resumes=True,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.cluster is None:
            return
        workers_of(self.cluster)
        for name, default in (("jobs", 1), ("together", False)):
            if (value := getattr(self, name)) != default:
                raise SettingError(
                    f"cluster={self.cluster!r} with {name}={value}: its workers do the runs; want one of them"
                )

    @property
    def in_turn(self) -> bool:
        """Whether they are done here, one after another."""
        return self.cluster is None and self.jobs == 1

    def check(self) -> None:
        """Raise EngineError where its cluster is not to be had: before anything is written."""
        if self.cluster:
            check(self.cluster)

    def each(
        self,
        do: Callable[[Item], Answer],
        items: Sequence[Item],
        name: Callable[[Item], str] = str,
        say: Callable[[str], None] = lambda line: None,
    ) -> Generator[tuple[Item, Answer], None, None]:
        """Do each item; yield it with its answer when it is done, once.

        When this ends early, what has begun stops with a checkpoint, if it is a run that stops on signals.

        Parameters
        ----------
        do : what can be pickled where it is done elsewhere: a function of a module, or a partial of one;
            on a cluster it may be begun again, as its worker can die
        name : of an item, for what is said of it
        say : told where the dashboard of a cluster is

        Raises
        ------
        EngineError
            If a process has been killed, workers die of an item again and again, or there is no cluster.
        """
        if self.cluster:
            done = on_cluster(do, items, self.cluster, name, say)
        elif self.jobs == 1:
            done = ((item, do(item)) for item in items)
        elif self.together:
            kernels.set_threads(self._threads)
            done = in_threads(do, items, self.jobs)
        else:
            done = side_by_side(partial(_in_a_share, self._threads, do), items, self.jobs, name)
        with closing(done):
            yield from done

    @property
    def _threads(self) -> int:
        return max(1, cpus() // self.jobs)


def _in_a_share(threads: int, do: Callable[[Item], Answer], item: Item) -> Answer:
    kernels.set_threads(threads)
    return do(item)
