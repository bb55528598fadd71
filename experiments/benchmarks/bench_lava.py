"""How fast Lava's simulator is: `python -m experiments.benchmarks.bench_lava`.

It is held against Lava's own channels and models in numpy. Each pair of engines is timed in turn, A B A B,
and the median of the ratios is reported: of the processor time of all their processes, and of the clock on
the wall. Exit code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.runs.run_folder import versions, write_text
from mappings.engines.compiled import CompiledEngine
from mappings.engines.lava.engine import LavaEngine, LavaOptions
from wage_neuro import Network, Rules
from wage_neuro.engine import Engine

RESULT = Path("experiments/results/bench-lava.json")
PIPELINED = Rules(batch=50, shift="held", update="ternary", loss="one-sided", margin=3, pipelined=True)
STOCK = {"channels": "stock", "kernels": "numpy"}
FAST = {"channels": "one process"}
SLOW_PARTS, FAST_PARTS = ({**each, "model": "structural"} for each in (STOCK, FAST))


@dataclass(frozen=True)
class Case:
    """Two ways to learn one network.

    bar : least rate of the second, in units of the first's, by processor time; 0 for none
    """

    name: str
    against: str
    network: str
    samples: int
    bar: float
    slow: dict[str, Any] = field(default_factory=lambda: dict(STOCK))
    fast: dict[str, Any] = field(default_factory=lambda: dict(FAST))
    rules: Rules = PIPELINED


@dataclass(frozen=True)
class Measured:
    """Microseconds a sample, and how much faster the second was: by processor time, and on the wall."""

    name: str
    against: str
    slow_us: float
    fast_us: float
    ratio: float
    wall_ratio: float
    samples_a_second: float
    bar: float

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.slow_us:.0f} -> {self.fast_us:.0f} us of processor time a sample,"
            f" {self.ratio:.2f} x (want {self.bar}); on the wall {self.wall_ratio:.2f} x,"
            f" {self.samples_a_second:.0f} samples/s"
        )


SEMAPHORE = {"channels": "semaphore"}
LAVAS = "Lava's channels, numpy"
CASES = (
    Case("784-512-10, pipelined", LAVAS, "512", 200, 4.0),
    Case("784-512-10, pipelined, a process a Process", LAVAS, "512", 200, 0.0, fast=SEMAPHORE),
    Case("10 layers of 64, pipelined", LAVAS, "-".join(["64"] * 9), 100, 4.0),
    Case("28 layers of 64, pipelined", LAVAS, "-".join(["64"] * 27), 50, 3.5),
    Case("LeNet, lanes = batch", "the same kernels outside Lava", "lenet", 1280, 0.6,
         slow={"engine": "compiled"}, rules=Rules(batch=128)),
    Case("64-32-10, structural", LAVAS, "64-32", 100, 5.0, slow=SLOW_PARTS, fast=FAST_PARTS),
    Case("784-512-10, structural", LAVAS, "512", 50, 5.0, slow=SLOW_PARTS, fast=FAST_PARTS),
)  # fmt: skip


def engine_of(case: Case, settings: dict[str, Any]) -> Engine:
    """The engine of one side of a case."""
    network = Network.parse(case.network, (28, 28, 1), 10)
    if "engine" in settings:
        return CompiledEngine(network, case.rules)
    return LavaEngine(network, case.rules, options=LavaOptions(**settings))


def processor_seconds() -> float:
    """Processor time of this process and its children, as far as they live, threads included."""
    me, total = os.getpid(), 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if me in (parent, int(stat.parent.name)):
                total += sum(int(t.read_text().split()[0]) for t in stat.parent.glob("task/*/schedstat"))
        except OSError:  # it has ended
            continue
    return total / 1e9


def timed(engine: Engine, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Seconds that learning takes: of processors, and on the wall."""
    cpu, wall = processor_seconds(), time.perf_counter()
    engine.train(images, labels, 3)
    return processor_seconds() - cpu, time.perf_counter() - wall


def samples(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images as sparse as MNIST's, with labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (n, 28, 28, 1)) * (rng.random((n, 28, 28, 1)) < 0.19)
    return images.astype(np.uint8), rng.integers(0, 10, n)


def measure(case: Case, rounds: int) -> Measured:
    """Let both sides of a case learn in turn."""
    n, work = case.samples, samples(case.samples)
    with ExitStack() as stack:
        slow, fast = (stack.enter_context(engine_of(case, s)) for s in (case.slow, case.fast))
        timed(slow, *work), timed(fast, *work)  # warm up
        times = [(timed(slow, *work), timed(fast, *work)) for _ in range(rounds)]
        assert all(np.array_equal(a, b) for a, b in zip(slow.state.S, fast.state.S, strict=True))
    slow_us, fast_us = (1e6 * statistics.median(pair[side][0] for pair in times) / n for side in (0, 1))
    ratio, wall_ratio = (statistics.median(a[kind] / b[kind] for a, b in times) for kind in (0, 1))
    rate = n / statistics.median(b[1] for _, b in times)
    return Measured(case.name, case.against, slow_us, fast_us, ratio, wall_ratio, rate, case.bar)


def main() -> int:
    parser = argparse.ArgumentParser(description="How fast Lava's simulator is.")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of each case")
    parser.add_argument("--only", default="", help="part of the names of the cases to measure")
    parser.add_argument("--output", type=Path, help=f"where to write the record, as {RESULT}")
    options = parser.parse_args()
    found = []
    for case in CASES:
        if options.only in case.name:
            found.append(measure(case, options.rounds))
            print(found[-1], flush=True)
    if options.output:
        record = {"cases": [asdict(one) for one in found], "load": os.getloadavg()[0], "versions": versions()}
        write_text(options.output, json.dumps(record, indent=1) + "\n")
    return int(any(one.ratio < one.bar for one in found))


if __name__ == "__main__":
    sys.exit(main())
