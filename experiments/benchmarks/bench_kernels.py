"""The compiled engine against PyTorch, and against what this processor can do at most, for `make bench`.

Kinds of training are timed in turn, A B C A B C ..., each in a process of its own; what is reported is the
median of the ratios of processor time. Wall time and the load of the machine stand beside them in the record.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

from experiments.benchmarks.bench_worker import TORCH
from wage_neuro import Network
from wage_neuro.errors import WageError
from wage_neuro.kernels import native


@dataclass(frozen=True)
class Case:
    """A network, how it learns, and the bars: times PyTorch's plain form, and its best one here."""

    title: str
    network: str
    shape: tuple[int, int, int]
    batch: int
    eager: float
    best: float | None
    engine: str = "compiled"

    @property
    def macs(self) -> int:
        """Products of a code and a weight, or of two codes, that learning a sample takes."""
        layers = Network.parse(self.network, self.shape, 10).layers
        return sum(layer.n_weights * layer.positions * (3 if layer.index else 2) for layer in layers)


MNIST, CIFAR = (28, 28, 1), (32, 32, 3)
CASES = (
    Case("LeNet 32C5-MP2-64C5-MP2-512-10, batch 128", "lenet", MNIST, 128, 5, 3.8),
    Case("VGG of CIFAR-10, batch 128", "vgg", CIFAR, 128, 4.5, 2.3),
    Case("MLP 784-256-10, batch 128", "mlp", MNIST, 128, 2.5, 1.25),
    Case("784-512-10, one sample at a time", "512FC", MNIST, 1, 3.5, None),
    Case("16C5-MP2-32C5-MP2-128-10, one sample at a time", "16C5-MP2-32C5-MP2-128FC", MNIST, 1, 3, None),
    Case("LeNet, lanes = batch", "lenet", MNIST, 128, 3, None, "lava"),
)
THREADED = Case("LeNet 32C5-MP2-64C5-MP2-512-10, batch 128", "lenet", MNIST, 128, 1.7, None)
"""Two threads against one, on two idle cores."""
FORCED = "OPENBLAS_CORETYPE"
"""A kernel forced on OpenBLAS would slow numpy where another one suits the processor."""


@dataclass(frozen=True)
class Measured:
    """What one kind of training took beside the others of its case.

    Attributes
    ----------
    processor, wall : microseconds a sample, medians
    ratio, wall_ratio : of its time to that of our engine, in the same round; medians
    load : of the machine, while it was measured
    """

    case: str
    kind: str
    about: dict[str, str]
    processor: float
    wall: float
    ratio: float
    wall_ratio: float
    load: float


class Worker:
    """A kind of training in another process; see `experiments.benchmarks.bench_worker`."""

    def __init__(self, kind: str, case: Case, threads: int) -> None:
        environment = {name: value for name, value in os.environ.items() if name != FORCED}
        environment |= {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
        words = [kind, case.network, "x".join(map(str, case.shape)), str(case.batch), str(threads)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "experiments.benchmarks.bench_worker", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.kind, self.case, self.samples = kind, case, case.batch
        assert self.process.stdout
        said = self.process.stdout.readline()
        self.about: dict[str, str] = json.loads(said) if said else {}

    def why_not(self) -> str:
        """The last line of what a worker that did not start has said."""
        assert self.process.stderr
        return (self.process.stderr.read().strip().splitlines() or ["no reason given"])[-1]

    def __call__(self) -> tuple[float, float]:
        """Microseconds a sample: of the processor, of the wall."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{self.samples}\n")
        self.process.stdin.flush()
        wall, processor = map(float, self.process.stdout.readline().split())
        return 1e6 * processor / self.samples, 1e6 * wall / self.samples

    def take(self, seconds: float) -> None:
        """Let each call take about so long."""
        self()
        batches = round(1e6 * seconds / max(self()[1], 0.1) / self.case.batch)
        self.samples = max(1, batches) * self.case.batch
        self()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()


def measure(
    case: Case,
    kinds: Sequence[str],
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
    threads: int = 1,
) -> list[Measured]:
    """Time our engine, the first, and the other kinds in turn; kinds that do not start are left out."""
    return _in_turn(case, [(kind, threads) for kind in (case.engine, *kinds)], rounds, seconds, say)


def threads_measured(
    case: Case, threads: int, rounds: int, seconds: float, say: Callable[[str], None]
) -> list[Measured]:
    """Time our engine on several threads, the first, and on one in turn."""
    if (os.cpu_count() or 1) < threads:
        say(f"{case.title}: {threads} threads left out, there are fewer processors here")
        return []
    return _in_turn(case, [(case.engine, threads), (case.engine, 1)], rounds, seconds, say)


def _in_turn(
    case: Case,
    kinds_and_threads: Sequence[tuple[str, int]],
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
) -> list[Measured]:
    with ExitStack() as stack:
        workers = list[Worker]()
        for kind, threads in kinds_and_threads:
            worker = stack.enter_context(Worker(kind, case, threads))
            if not worker.about:
                say(f"{case.title}: {kind} left out, {worker.why_not()}")
                if not workers:
                    return []
                continue
            worker.take(seconds)
            workers.append(worker)
        times = [[worker() for worker in workers] for _ in range(rounds)]
        load = os.getloadavg()[0]
        found = []
        for i, worker in enumerate(workers):
            processor, wall = (statistics.median(row[i][unit] for row in times) for unit in (0, 1))
            ratio, wall_ratio = (
                statistics.median(row[i][unit] / row[0][unit] for row in times) for unit in (0, 1)
            )
            about = worker.kind, worker.about
            found.append(Measured(case.title, *about, processor, wall, ratio, wall_ratio, load))
        return found


def peak_gmacs(seconds: float = 0.5) -> float:
    """Products of bytes that one core makes and adds up in a second, in 10**9, out of its first cache."""
    rounds, macs, began = 1000, 0, time.process_time()
    while (passed := time.process_time() - began) < seconds:
        macs += native.peak(rounds)
    return macs / passed / 1e9


def rows_of(case: Case, found: list[Measured], peak: float) -> Iterator[tuple[str, Measured, float, float]]:
    """What, against what, ratio and bar: the plain form of PyTorch, and its best one."""
    if not found:
        return
    ours, others = found[0], found[1:]
    gmacs = case.macs / ours.processor / 1e3
    what = f"{case.engine} engine, {case.title} ({gmacs:.0f} of {peak:.0f} GMAC/s)"
    for other in others:
        if other.kind == f"{TORCH}eager":
            yield what, other, other.ratio, case.eager
    if case.best and others:
        best = min(others, key=lambda other: other.ratio)
        yield what, best, best.ratio, case.best


def peak_or_none() -> float:
    """The peak, 0 where there are no compiled kernels."""
    try:
        return peak_gmacs()
    except WageError:
        return 0.0
