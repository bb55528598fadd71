"""The benchmark: ratios measured side by side, held to the project's bars. `make bench`.

Every pair is timed in turn, A B A B ..., and the median of the ratios is reported: absolute figures drift on
a shared machine, ratios hold. Each row is printed and written to the record as soon as it is measured; a run
that was stopped goes on with what its record lacks. Exit code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.benchmarks.bench_kernels import (
    CASES,
    FORCED,
    THREADED,
    Case,
    Measured,
    measure,
    peak_or_none,
    rows_of,
    threads_measured,
)
from experiments.benchmarks.bench_worker import FORMS, TORCH
from experiments.commands.command_line import show_table
from experiments.engines import make_engine
from experiments.runs.run_folder import check_writable, versions, write_json
from wage_neuro import Network, NumpyEngine, Rules
from wage_neuro.engine import Engine
from wage_neuro.errors import EngineError
from wage_neuro.layers import Layer

BATCH = 128
RESULT = Path("experiments/results/bench.json")
ONE_BY_ONE = Rules(batch=1, shift="held", update="ternary", loss="one-sided")
ORACLE_SAMPLES = 1000
SMALL: dict[str, tuple[str, int, dict[str, str]]] = {
    "numpy engine": ("numpy", ORACLE_SAMPLES, {}),
    "compiled engine": ("compiled", 10_000, {}),
    "Lava engine": ("lava", 100, {}),
    "Lava engine, structural": ("lava", 50, {"model": "structural"}),
    "Brian2 engine, numpy code": ("brian2", 20, {}),
}
"""Engines that learn one sample at a time, and samples that take each of them about half a second."""
if find_spec("Cython") and (shutil.which("g++") or shutil.which("clang++")):
    SMALL["Brian2 engine, Cython code"] = ("brian2", 50, {"codegen": "cython"})

NUMPY_CASES = (
    Case("LeNet 32C5-MP2-64C5-MP2-512-10", "lenet", (28, 28, 1), BATCH, 0.6, None, "numpy"),
    Case("MLP 784-256-10", "mlp", (28, 28, 1), BATCH, 0.8, None, "numpy"),
)
"""The numpy engine's bars, against PyTorch's plain form."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    others : processors that the rest of the machine kept busy meanwhile; near 0 on an idle one
    """

    what: str
    ours: float
    unit: str
    against: str
    ratio: float | None
    bar: str
    met: bool
    others: float | None = None


# --- what is timed -----------------------------------------------------------------------------------


class Products:
    """The float32 matrix products that training these layers takes, and nothing else."""

    name = "float32 matrix products alone"

    def __init__(self, network: Network) -> None:
        self.pairs = [pair for layer in network.layers for pair in _products(layer)]

    def __call__(self, batches: int) -> None:
        for _ in range(batches):
            for a, b in self.pairs:
                a @ b


def _products(layer: Layer) -> list[tuple[np.ndarray, np.ndarray]]:
    rows, n_out = BATCH * layer.positions, layer.weight_shape[-1]
    a = np.ones((rows, layer.fan_in), np.float32)
    w = np.ones((layer.fan_in, n_out), np.float32)
    e = np.ones((rows, n_out), np.float32)
    return [(a, w), (a.T, e)] + ([(e, w.T)] if layer.index else [])


def pairwise(
    one: Callable[[], object], other: Callable[[], object], pairs: int
) -> tuple[float, float, float]:
    """Time two calls in turn; return the median ratio other / one and both median times."""
    one(), other()  # warm up
    times = [(timed(one), timed(other)) for _ in range(pairs)]
    ratio = statistics.median(b / a for a, b in times)
    return ratio, statistics.median(a for a, _ in times), statistics.median(b for _, b in times)


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


# --- the rows ----------------------------------------------------------------------------------------


def images(batches: int) -> tuple[np.ndarray, np.ndarray]:
    """Images as sparse as MNIST's (about one pixel in five), with labels."""
    rng = np.random.default_rng(0)
    n = batches * BATCH
    x = rng.integers(1, 256, (n, 28, 28, 1)) * (rng.random((n, 28, 28, 1)) < 0.19)
    return x.astype(np.uint8), rng.integers(0, 10, n)


def numpy_against_float(case: Case, rounds: int, seconds: float, details: list[Measured]) -> list[Row]:
    """Numpy engine against float training of the same net, by the clock on the wall, on all cores."""
    threads = os.cpu_count() or 1
    if find_spec("torch"):
        found = measure(case, [f"{TORCH}eager"], rounds, seconds, say, threads)
        details += found
        ours, other = found
        name = f"{other.about['name']}, {threads} threads; {ours.about['BLAS']}"
        what = f"numpy engine, {case.title}"
        met = other.wall_ratio >= case.eager
        return [Row(what, 1e6 / ours.wall, "samples/s", name, other.wall_ratio, f">= {case.eager} x", met)]
    network = Network.parse(case.network, case.shape, 10)
    baseline, engine = Products(network), NumpyEngine(network, Rules(batch=BATCH))
    x, y = images(4)
    ratio, wall, _ = pairwise(lambda: engine.train(x, y, 3), lambda: baseline(4), rounds)
    met = ratio >= case.eager
    what = f"numpy engine, {case.title}"
    return [Row(what, len(x) / wall, "samples/s", baseline.name, ratio, f">= {case.eager} x", met)]


def kernels_against_float(case: Case, rounds: int, seconds: float, details: list[Measured]) -> list[Row]:
    """An engine with the compiled kernels against every form of PyTorch, by processor time, on one thread."""
    if not find_spec("torch"):
        return []
    forms = FORMS if case.best else ("eager",)
    found = measure(case, [TORCH + form for form in forms], rounds, seconds, say)
    details += found
    return [
        Row(
            what,
            1e6 / found[0].processor,
            "samples/s",
            other.about["name"],
            ratio,
            f">= {bar} x",
            ratio >= bar,
        )
        for what, other, ratio, bar in rows_of(case, found, peak_or_none())
    ]


def threads_against_one(case: Case, rounds: int, seconds: float, details: list[Measured]) -> list[Row]:
    """Two threads of the compiled engine against one, by the clock on the wall."""
    found = threads_measured(case, 2, rounds, seconds, say)
    details += found
    if len(found) < 2:
        return []
    two, one = found
    what, met = f"compiled engine, {case.title}, 2 threads", one.wall_ratio >= case.eager
    return [Row(what, 1e6 / two.wall, "samples/s", "1 thread", one.wall_ratio, f">= {case.eager} x", met)]


def say(line: str) -> None:
    """Tell why something is not measured."""
    print(line, file=sys.stderr)


def lava_against_numpy(batches: int, pairs: int) -> list[Row]:
    """Lava engine, a batch a time step, against the numpy engine; then its peak memory."""
    from mappings.engines.lava.engine import LavaEngine

    network, rules = Network.parse("lenet", (28, 28, 1), 10), Rules(batch=BATCH)
    x, y = images(batches)
    engine = NumpyEngine(network, rules)
    with LavaEngine(network, rules) as lava, PeakMemory() as memory:
        ratio, ours, _ = pairwise(lambda: lava.train(x, y, 3), lambda: engine.train(x, y, 3), pairs)
    gib = memory.peak / 2**30
    return [
        Row(
            "Lava engine, LeNet, lanes = batch",
            len(x) / ours,
            "samples/s",
            "numpy engine",
            ratio,
            ">= 0.8 x",
            ratio >= 0.8,
        ),
        Row("peak memory, LeNet, both engines, all processes", gib, "GiB", "", None, "< 2 GiB", gib < 2),
    ]


def lava_one_lane(batches: int, repeats: int) -> Row:
    """Lava engine, one sample a time step."""
    from mappings.engines.lava.engine import LavaEngine, LavaOptions

    network = Network.parse("mlp", (28, 28, 1), 10)
    x, y = images(batches)
    with LavaEngine(network, Rules(batch=BATCH, shift="held"), options=LavaOptions(lanes=1)) as lava:
        lava.train(x[:BATCH], y[:BATCH], 3)
        rate = len(x) / statistics.median(timed(lambda: lava.train(x, y, 3)) for _ in range(repeats))
    return Row("Lava engine, MLP, lanes = 1", rate, "samples/s", "", None, ">= 300 samples/s", rate >= 300)


def lava_pipelined(repeats: int) -> Row:
    """Lava engine, on-chip mode: one sample a time step, several in flight, learned one by one."""
    from mappings.engines.lava.engine import LavaEngine

    network = Network.parse("512FC", (28, 28, 1), 10)
    rules = Rules(batch=250, shift="held", update="ternary", loss="one-sided", margin=3, pipelined=True)
    x, y = images(4)
    x, y = x[:500], y[:500]
    with LavaEngine(network, rules) as lava:
        seconds = statistics.median(timed(lambda: lava.train(x, y, 3)) for _ in range(repeats))
    rate, processes = len(x) / seconds, len(network.layers) + 2
    a_process = 1e3 / rate / processes
    return Row(
        f"Lava engine, 784-512-10, pipelined, no sample skipped ({a_process:.2f} ms a step and Process)",
        rate,
        "samples/s",
        f"MNIST epoch {60_000 / rate / 60:.1f} minutes",
        None,
        "epoch < 4 minutes",
        60_000 / rate < 240,
    )


def one_by_one(what: str, pairs: int) -> list[Row]:
    """An engine of SMALL on a small network, one sample at a time, against the numpy engine."""
    name, samples, options = SMALL[what]
    network = Network.parse("32FC", (8, 8, 1), 10)
    oracle = NumpyEngine(network, ONE_BY_ONE)
    try:
        engine = make_engine(name, network, ONE_BY_ONE, oracle.state, **options)
    except EngineError:
        return []  # not installed
    rng = np.random.default_rng(0)
    shape = (max(samples, ORACLE_SAMPLES), 8, 8, 1)
    x = (rng.integers(1, 256, shape) * (rng.random(shape) < 0.5)).astype(np.uint8)
    y = rng.integers(0, 10, len(x))

    def learn(learner: Engine, samples: int) -> None:
        learner.train(x[:samples], y[:samples], 0)

    with engine:
        ratio, seconds, _ = pairwise(
            lambda: learn(engine, samples), lambda: learn(oracle, ORACLE_SAMPLES), pairs
        )
    a_sample = ratio * samples / ORACLE_SAMPLES
    against, of_numpy = ("", None) if name == "numpy" else ("numpy engine", a_sample)
    title = f"{what}, 64-32-10, one sample at a time"
    return [Row(title, 1e6 * seconds / samples, "µs a sample", against, of_numpy, "", True)]


def torch_engine(python: str | None, pairs: int) -> list[Row]:
    """The rows of `experiments.benchmarks.bench_torch`, measured by the Python that has PyTorch."""
    if python is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "rows.json"
        words = ["-m", "experiments.benchmarks.bench_torch", "--pairs", str(pairs), "--output", str(output)]
        done = subprocess.run([python, *words], capture_output=True, text=True, check=False)
        if not output.exists():
            why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            print(f"torch engine: not measured, {why} (make torch)", file=sys.stderr)
            return []
        return [Row(**row) for row in json.loads(output.read_text())["rows"]]


class PeakMemory:
    """Peak of the proportional set size of this process and all that it has started, sampled."""

    def __init__(self) -> None:
        self.peak, self._done = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.peak = max(self.peak, sum(_proportional_size(pid) for pid in _family(os.getpid())))

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _family(root: int) -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family, new = {root}, {root}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - family
        family |= new
    return family


def _proportional_size(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


# --- the table ---------------------------------------------------------------------------------------


Measure = Callable[[list[Measured]], list[Row]]
"""Gives its rows, and appends the times behind them to its argument."""


def measures(quick: bool) -> dict[str, Measure]:
    """Everything that is measured, by name."""
    rounds, seconds = (3, 0.3) if quick else (15, 1.0)
    torch_python = sys.executable if find_spec("torch") else None
    pairs = 3 if quick else 31  # half a minute a row: shorter than that, a neighbour decides
    repeats = 3 if quick else 7
    return {
        **{
            f"{case.engine} engine, {case.title}": partial(kernels_against_float, case, rounds, seconds)
            for case in CASES
        },
        "compiled engine, 2 threads": partial(threads_against_one, THREADED, rounds, seconds),
        **{
            f"numpy engine, {case.title}": partial(numpy_against_float, case, rounds, seconds)
            for case in NUMPY_CASES
        },
        "Lava engine, LeNet, against numpy": lambda _: lava_against_numpy(8, pairs),
        "Lava engine, one lane": lambda _: [lava_one_lane(3, repeats)],
        "Lava engine, pipelined": lambda _: [lava_pipelined(repeats)],
        **{f"{what}, small network": partial(_small, what, pairs) for what in SMALL},
        "torch engine": lambda _: torch_engine(torch_python, min(pairs, 15)),
    }


def _small(what: str, pairs: int, _: list[Measured]) -> list[Row]:
    return one_by_one(what, pairs)


def busy_seconds() -> tuple[float, float]:
    """Processor time so far: of the machine (0 where it does not tell), of this process and its children."""
    own = sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    try:
        user, nice, system, _, _, irq, soft = map(int, Path("/proc/stat").read_text().split()[1:8])
    except OSError:
        return 0.0, own
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK"), own


def measured(measure: Measure) -> tuple[list[Row], list[Measured]]:
    """Rows with what the rest of the machine did meanwhile, and the times behind them."""
    details: list[Measured] = []
    (all_before, own_before), began = busy_seconds(), time.perf_counter()
    rows = measure(details)
    (all_after, own_after), wall = busy_seconds(), time.perf_counter() - began
    others = max(0.0, all_after - all_before - (own_after - own_before)) / wall
    return [replace(row, others=round(others, 2)) for row in rows], details


class Record:
    """The rows so far, each under the name of what it was measured by; written whole after every change."""

    def __init__(self, path: Path, found: dict[str, str]) -> None:
        self.path, self.commit = path, found["commit"]
        self.content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": []}
        self.content = {"versions": found, **{key: self.content.get(key, []) for key in ("rows", "kernels")}}

    def holds(self, name: str) -> bool:
        """Whether this very code has measured it already."""
        commits = {row.get("commit") for row in self.content["rows"] if row.get("of") == name}
        return commits == {self.commit} and not self.commit.endswith("-dirty")

    def put(self, name: str, names: Iterable[str], rows: list[Row], details: list[Measured]) -> None:
        """Put rows in the place of those of the same name; what no name of today has made goes."""
        for key, news in (("rows", rows), ("kernels", details)):
            lines = [line for line in self.content[key] if line.get("of") in {*names} - {name}]
            lines += [{"of": name, "commit": self.commit, **asdict(new)} for new in news]
            self.content[key] = sorted(lines, key=lambda line: [*names].index(line["of"]))
        write_json(self.path, self.content)


def line_of(row: Row) -> list[str]:
    """A row in words."""
    ratio = "" if row.ratio is None else f"{row.ratio:.2f} x"
    ours = f"{row.ours:,.2f}" if row.ours < 10 else f"{row.ours:,.0f}"
    met = ("yes" if row.met else "NO") if row.bar else ""
    others = "" if row.others is None else f"{row.others:.2f}"
    return [row.what, f"{ours} {row.unit}", row.against, ratio, row.bar, met, others]


def show(rows: list[Row]) -> None:
    """Print the table."""
    table = Table("what", "ours", "against", "ratio", "bar", "met", "busy besides")
    for row in rows:
        table.add_row(*line_of(row))
    show_table(table, Console(highlight=False))


def main() -> int:
    """Print every row and write it to the record, and say whether every bar is met."""
    if os.environ.pop(FORCED, None):  # it would slow numpy; it has been read already
        os.execv(sys.executable, [sys.executable, "-m", "experiments.benchmarks.bench", *sys.argv[1:]])
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="three pairs a row: a first impression, nothing to report"
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="TEXT",
        help="measure only what has TEXT in its name; may be repeated",
    )
    parser.add_argument("--list", action="store_true", help="list the names of what is measured")
    parser.add_argument(
        "--anew", action="store_true", help="measure again what this code has measured already"
    )
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON record (default: %(default)s)")
    options = parser.parse_args()
    every = measures(options.quick)
    if options.list:
        print(*every, sep="\n")
        return 0
    chosen = chosen_of(list(every), options.only)
    for text in options.only or ():
        if not chosen_of(list(every), [text]):
            parser.error(f"--only {text}: want a part of a name (--list shows them)")
    found = versions()
    print(f"measuring on {found['machine']}; rows with PyTorch need it here (make torch)", flush=True)
    check_writable(options.output)
    record, rows = Record(options.output, found), list[Row]()
    for name in chosen:
        if not options.quick and not options.anew and record.holds(name):
            print(f"{name}: measured already, by this code", flush=True)
            continue
        news, details = measured(every[name])
        rows += news
        for row in news:
            print(
                " | ".join(filter(None, line_of(row)[:-1])), f"(busy besides: {row.others:.2f})", flush=True
            )
        if not options.quick:
            record.put(name, every, news, details)
    show(rows)
    return 0 if all(row.met for row in rows) else 1


def chosen_of(names: Sequence[str], texts: Sequence[str] | None) -> list[str]:
    """Names that contain one of the texts, large or small letters alike; all of them without any.

    >>> chosen_of(["LeNet, batch 128", "MLP", "VGG"], ["lenet", "vgg"])
    ['LeNet, batch 128', 'VGG']
    """
    return [name for name in names if not texts or any(text.lower() in name.lower() for text in texts)]


if __name__ == "__main__":
    sys.exit(main())
