"""Training on several ranks: bytes, speed, and what larger clusters would give.

    python -m experiments.benchmarks.scaling                        # what its record lacks
    python -m experiments.benchmarks.scaling --parts ranks,seeds    # these, anew

writes its record after every row and prints each; a part that was stopped is begun anew.

bytes: what a rank sends in an update.
chips: axons between the chips of a network, or its FPGAs, as they follow each other and as METIS cuts them.
local: the work of one rank of so many, in processor time, with nobody at the other end.
data: an epoch of MNIST, and of 100 times as many images in a file (4.7 GB under $TMPDIR), on one and two
    ranks: memory, and what each reads.
ranks: one and two ranks here, wall time (a quiet machine with as many cores is needed).
seeds: four networks in turn, with one thread and with two, and two at a time in threads of one process.
    Where a batch is too small for two threads, in turn leaves a core idle; where it is not, both are busy.
links: two ranks on TCP within this machine, and in network namespaces whose link is slowed (root is needed).
draw: the model, fitted to `links`, and its picture.

The model: an update takes a rank's own work, measured, and its messages (`mappings.cluster.cost`). What these
take on a link of stated latency and bandwidth is fitted; each link is also predicted from all others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from experiments import datasets
from experiments.benchmarks.bench_worker import samples
from experiments.benchmarks.slow_links import BY_TCP, slow_link
from experiments.engines import FASTEST, make_engine
from experiments.records.figure import logarithmic, picture
from experiments.records.style import OTHERS, series
from experiments.runs import run_folder
from experiments.runs.ranks import join
from experiments.runs.training import Config, Run
from mappings.chips.chip import Chip
from mappings.chips.parts import axons_between_chips, cut_between_chips
from mappings.chips.placement import Use, place
from mappings.cluster.cost import Link, Load, float_load_of, load_of, traffic_of
from mappings.cluster.team import Wire, WiredTeam, float_bytes
from wage_neuro import Network, Rules, initial_state
from wage_neuro.engine import Engine
from wage_neuro.errors import EngineError, SettingError, WageError
from wage_neuro.kernels.numpy_kernels import set_threads
from wage_neuro.team import ALONE, Team

RESULT = Path("experiments/results/scaling.json")
SHAPES = {"mlp": (28, 28, 1), "lenet": (28, 28, 1), "vgg": (32, 32, 3)}
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BATCH = 256  # of strong scaling: one sample for each of 256 ranks
A_RANK = 32  # samples of each rank in weak scaling
LINKS = {"10 Gb/s": Link(30e-6, 1.25e9, 2e-6), "100 Gb/s": Link(5e-6, 12.5e9, 1e-6)}
"""Stated, of Ethernet's switches and cards; what an update takes on them is fitted, but for what a processor
takes for each of many messages at once, which two ranks cannot tell."""
HERE = Link(0.0, float("inf"))
"""TCP within this machine: the processors' work alone."""
SLOWED = tuple(Link(ms / 1e3, megabits * 1e6 / 8) for ms, megabits in product((1, 5, 20), (20, 100, 500)))
ON_LINKS = tuple(product(("mlp", "lenet"), ("ternary", "wide")))
ON_CHIP = Rules(batch=1, shift="held", update="ternary", loss="one-sided")
SEEDS = (
    ("400FC", ON_CHIP, 4000),
    ("400FC", Rules(batch=1), 4000),
    ("400FC", Rules(batch=8), 6400),
    ("400FC", Rules(batch=32), 16_000),
    ("400FC", Rules(batch=128), 25_600),
    ("lenet", Rules(batch=128), 1280),
)
"""Networks of MNIST that learn side by side, their rules, and samples of each."""
PARTS = ("bytes", "chips", "local", "data", "ranks", "seeds", "links", "draw")


def network_of(name: str) -> Network:
    """MNIST's or CIFAR-10's."""
    return Network.parse(name, SHAPES[name], 10)


def rules_of(update: str, batch: int) -> Rules:
    """The paper's, or the chip's with a maximum over the batch."""
    return Rules(batch=batch, update=update)


class HollowWire(Wire):
    """Nobody at the other end: the others are taken to send what this rank sends."""

    def __init__(self, size: int) -> None:
        self.rank, self.size = 0, size

    def exchange(self, to: Sequence[np.ndarray], sizes: Sequence[int]) -> Any:
        np.concatenate(to)  # as a wire that copies
        return np.resize(to[self.rank], sum(sizes))

    def arrived(self, sent: Any) -> np.ndarray:
        return np.asarray(sent)

    def gather(self, own: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
        return np.resize(own, sum(sizes))

    def most(self, values: np.ndarray) -> np.ndarray:
        return values

    def total(self, values: np.ndarray) -> np.ndarray:
        return values

    def objects(self, own: Any) -> list[Any]:
        return [own] * self.size


def learner(name: str, update: str, batch: int, team: Team, steps: int) -> Callable[[], None]:
    """What lets one rank learn so many batches."""
    set_threads(1)
    network, rules = network_of(name), rules_of(update, batch)
    more = {"team": team} if team.size > 1 else {}
    engine = make_engine(FASTEST, network, rules, initial_state(network), **more)
    rows = team.rows(batch)
    images, labels = samples(network, steps * (rows.stop - rows.start))

    def learn() -> None:
        engine.train(images, labels, 0)  # labels are drawn: a larger step would silence a layer

    return learn


def best_of(
    work: Callable[[], object], repeats: int, clock: Callable[[], float], first: Callable[[], None]
) -> float:
    """Seconds of the fastest of some repeats, after one that is not counted."""
    work()
    found = []
    for _ in range(repeats):
        first()
        began = clock()
        work()
        found.append(clock() - began)
    return min(found)


# --- the parts ---------------------------------------------------------------------------------------


def bytes_rows() -> Iterator[dict[str, Any]]:
    """Bytes that the first rank sends in an update of 128 samples, beside float32."""
    for name in SHAPES:
        network = network_of(name)
        for size in SIZES[1:8]:
            found = {u: traffic_of(network, rules_of(u, 128), size).learning for u in ("ternary", "wide")}
            floats = float_bytes(network.n_weights, size)
            yield {"network": name, "weights": network.n_weights, "ranks": size, **found, "float32": floats}


LEARNS = Use(training=True)
LEARNS_DIRECTLY = Use(training=True, rules=replace(LEARNS.rules, feedback="direct"))
SEVERAL = (
    ("loihi2", "vgg", (32, 32, 3), Use()),
    ("loihi2", "2048FC-2048FC-2048FC", (28, 28, 1), LEARNS),
    ("fpga", "512FC-512FC", (28, 28, 1), LEARNS_DIRECTLY),
    ("fpga", "1024FC-1024FC-1024FC", (28, 28, 1), LEARNS_DIRECTLY),
)
"""Networks that take several chips."""


def fpga() -> Chip:
    """Four cores of an LFE5U-85F, each with a quarter of its block RAM, as the placer sees them."""
    more: dict[str, Any] = {
        "list_header": 0,
        "list_synapses": 1 << 16,
        "axons_in": 1 << 16,
        "axons_out": 1 << 16,
    }
    memory = {"core_memory": 208 // 4 * 18_432, "word": 144, "weight_bits": 9, "tag_bits": 0}
    mesh = {"cores": 4, "mesh_columns": 2, "mesh_rows": 2}
    return replace(Chip.load("loihi2"), name="LFE5U-85F, four cores", **{**more, **memory, **mesh})


def chips_rows() -> Iterator[dict[str, Any]]:
    """Axons that cross from one chip to another, of networks that take several."""
    for name, network, shape, use in SEVERAL:
        chip = fpga() if name == "fpga" else Chip.load(name)
        before = place(Network.parse(network, shape, 10), chip, use)
        after = cut_between_chips(before)
        yield {
            "chip": chip.name,
            "network": network,
            "training": use.training,
            "feedback": use.rules.feedback if use.training else None,
            "chips": before.chips,
            "cores": before.cores,
            "axons in order": axons_between_chips(before),
            "axons as cut": axons_between_chips(after),
        }


def local_rows(repeats: int) -> Iterator[dict[str, Any]]:
    """Processor time of one rank's own work in an update."""
    for name in SHAPES:
        for scaling, a_batch in (("strong", lambda size: BATCH), ("weak", lambda size: A_RANK * size)):
            for size in SIZES:
                team: Team = WiredTeam(HollowWire(size)) if size > 1 else ALONE
                batch = a_batch(size)
                steps = max(1, min(8, 256 * size // batch))
                work = learner(name, "ternary", batch, team, steps)
                seconds = best_of(work, repeats, time.process_time, lambda: None) / steps
                yield {"network": name, "scaling": scaling, "ranks": size, "batch": batch, "seconds": seconds}


def data_rows(times: Sequence[int] = (1, 100)) -> Iterator[dict[str, Any]]:
    """Peak memory and bytes read of ranks that learn an epoch of MNIST, or of a file of it many times."""
    mnist = datasets.load("mnist")
    for many in times:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data"
            repeated(mnist, many, path)
            for ranks in (1, 2):
                run = Path(folder) / f"run-{ranks}"
                run.mkdir()
                words = ["--data-worker", str(path), str(run)]
                found = _said([_mpiexec(), "-n", str(ranks)], words)
                yield {
                    "times MNIST": many,
                    "images": many * len(mnist.train_labels),
                    "bytes of images": many * mnist.train_images.size,
                    "ranks": ranks,
                    **found,
                }


def repeated(data: datasets.Dataset, times: int, path: Path) -> None:
    """Write a data set whose training images stand in it so many times, as a folder of arrays."""
    path.mkdir()
    shape = (times * len(data.train_images), *data.train_images.shape[1:])
    file = np.lib.format.open_memmap(path / "train_images.npy", "w+", np.uint8, shape)
    for i in range(times):
        file[i * len(data.train_images) : (i + 1) * len(data.train_images)] = data.train_images
        file.flush()
    labels = np.tile(data.train_labels, times)
    rest = {"train_labels": labels, "test_images": data.test_images, "test_labels": data.test_labels}
    for name, array in rest.items():
        np.save(path / f"{name}.npy", array)


def data_worker(data: str, folder: Path) -> None:
    """Learn an epoch on the ranks that are here; the first says what each took, as JSON."""
    team = join()
    config = Config(data=data, network="256FC", epochs=1, rules=Rules(batch=1024, update="ternary"))
    run = Run.start(config, folder, team=team)
    with run.engine(FASTEST) as engine:
        run.check_ranks()
        run.data_sum  # noqa: B018 - read here and not in the epoch
        before = _read_so_far()
        run.fit(engine)
    status = Path("/proc/self/status").read_text()
    peak = 1024 * int(status.partition("VmHWM:")[2].split()[0])  # ru_maxrss would have the launcher's
    found = team.objects({"peak bytes": peak, "bytes read in the epoch": _read_so_far() - before})
    if team.rank == 0:
        print(json.dumps({name: [each[name] for each in found] for name in found[0]}))


def _read_so_far() -> int:
    """Bytes that this process has read, from files or their cache."""
    return int(Path("/proc/self/io").read_text().partition("rchar:")[2].split()[0])


def ranks_rows(repeats: int) -> Iterator[dict[str, Any]]:
    """Wall time of an update on one and two ranks of this machine, in turn."""
    for name in SHAPES:
        for update in ("ternary", "wide"):
            found = {n: _measured([_mpiexec(), "-n", str(n)], name, update, repeats) for n in (1, 2)}
            seconds = {n: row["seconds"] for n, row in found.items()}
            yield {
                "network": name,
                "update": update,
                "batch": 128,
                "seconds": seconds[1],
                "seconds of 2": seconds[2],
                "speed-up": seconds[1] / seconds[2],
                "bytes sent": found[2]["bytes sent"],
            }


def seeds_rows(repeats: int) -> Iterator[dict[str, Any]]:
    """Time of four seeds of a network in turn, on one thread or two, and side by side in two threads."""
    for name, rules, count in SEEDS:
        network = Network.parse(name, SHAPES["mlp"], 10)
        learn = partial(_learn, *samples(network, count))
        wall, own = {}, {}
        with ThreadPoolExecutor(2) as pool:
            ways = (("in turn", 1, map), ("in turn, two threads each", 2, map), ("side by side", 1, pool.map))
            for how, threads, apply in ways:
                set_threads(threads)
                states = [initial_state(network, seed) for seed in range(4)]
                engines = [make_engine(FASTEST, network, rules, state) for state in states]
                work = partial(_all, apply, learn, engines)
                wall[how] = best_of(work, repeats, time.perf_counter, _nothing)
                own[how] = best_of(work, repeats, time.process_time, _nothing)
        yield {
            "network": name,
            "batch": rules.batch,
            "shift": rules.shift,
            "seeds": len(engines),
            "samples": count,
            **{f"seconds {how}": seconds for how, seconds in wall.items()},
            **{f"processor seconds {how}": seconds for how, seconds in own.items()},
            "speed-up": wall["in turn"] / wall["side by side"],
            "speed-up over two threads each": wall["in turn, two threads each"] / wall["side by side"],
        }


def _learn(images: np.ndarray, labels: np.ndarray, engine: Engine) -> None:
    engine.train(images, labels, 0)


def _all(apply: Callable[..., Iterator[Any]], work: Callable[..., None], items: Sequence[Any]) -> None:
    list(apply(work, items))


def _nothing() -> None:
    pass


def links_rows(repeats: int) -> Iterator[dict[str, Any]]:
    """Wall time of an update of two ranks on links, and of their own work at the same time."""
    for link in (HERE, *SLOWED):
        here = nullcontext([_mpiexec(), "-n", "2", *BY_TCP])
        with here if link == HERE else slow_link(link, _mpiexec()) as prefix:
            for name, update in ON_LINKS:
                found = _measured(prefix, name, update, repeats)
                megabits = None if link == HERE else link.bandwidth * 8 / 1e6
                stated = {"latency": link.latency, "Mb/s": megabits}
                yield {"network": name, "update": update, "batch": 128, **stated, **found}


def _mpiexec() -> str:
    return str(Path(sys.executable).with_name("mpiexec"))


def _measured(prefix: Sequence[str], name: str, update: str, repeats: int) -> dict[str, Any]:
    """What `worker` says on several ranks."""
    return _said(prefix, ["--worker", name, update, "--repeats", str(repeats)])


def _said(prefix: Sequence[str], words: Sequence[str]) -> dict[str, Any]:
    """What this module says as JSON where it is run by `prefix`."""
    command = [*prefix, sys.executable, "-m", "experiments.benchmarks.scaling", *words]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"{' '.join(command[:4])} ...: {' '.join(done.stderr.split()[-30:])}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def worker(name: str, update: str, repeats: int) -> None:
    """Time updates of 128 samples on the ranks that are here; the first one says what it found, as JSON."""
    team, steps = join(), 4

    def barrier() -> None:
        team.agree([0])

    work = learner(name, update, 128, team, steps)
    before = _sent_by_interfaces()
    seconds = best_of(work, repeats, time.perf_counter, barrier) / steps
    on_wire = (_sent_by_interfaces() - before) / (steps * (repeats + 1))
    sent, own = 0.0, seconds
    if isinstance(team, WiredTeam):
        sent = team.traffic.learning / (steps * (repeats + 1))
        work = learner(name, update, 128, WiredTeam(HollowWire(team.size)), steps)
        own = best_of(work, repeats, time.perf_counter, barrier) / steps
    slowest = int(team.agree([int(1e9 * own)])[0]) / 1e9
    if team.rank == 0:
        row = {"seconds": seconds, "own seconds": slowest}
        print(json.dumps({**row, "bytes sent": sent, "bytes on the wire": on_wire}))


def _sent_by_interfaces() -> int:
    """Bytes that have left by all network interfaces but the machine's own loop."""
    found = Path("/sys/class/net").glob("*/statistics/tx_bytes")
    return sum(int(path.read_text()) for path in found if path.parts[-3] != "lo")


# --- the model and its picture -----------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """What messages take on a link of stated latency and bandwidth.

    Attributes
    ----------
    latencies : that a round waits
    bytes : on the link, for each that is sent
    round_seconds : that each round takes besides, whatever the link: programs, and who waits for whom
    byte_seconds : the same of each byte
    """

    latencies: float = 1.0
    bytes: float = 1.0
    round_seconds: float = 0.0
    byte_seconds: float = 0.0

    def of(self, link: Link) -> Link:
        """The link as messages find it.

        >>> Fit(latencies=2, bytes=2, round_seconds=1e-5).of(Link(1e-3, 1e6))
        Link(latency=0.00201, bandwidth=500000.0, overhead=0.0)
        """
        a_byte = self.bytes / link.bandwidth + self.byte_seconds
        bandwidth = 1 / a_byte if a_byte else float("inf")
        return Link(self.latencies * link.latency + self.round_seconds, bandwidth, link.overhead)

    def seconds(self, row: dict[str, Any]) -> float:
        """Time of an update of a row of `links`, from its own work and its link's stated numbers."""
        return float(row["own seconds"] + self.of(_link_of(row)).seconds(_load_of(row)))


def fitted(rows: Sequence[dict[str, Any]]) -> Fit:
    """Least squares of the relative errors of some rows of `links`, no number below 0."""
    terms, wanted = [], []
    for row in rows:
        link, load, seconds = _link_of(row), _load_of(row), row["seconds"]
        each = (load.rounds * link.latency, load.sent / link.bandwidth, load.rounds, load.sent)
        terms.append([value / seconds for value in each])
        wanted.append((seconds - row["own seconds"]) / seconds)
    return Fit(*(float(value) for value in nnls(np.array(terms), np.array(wanted))[0]))


def fit_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A fit to all rows of `links` with its relative errors; also each link foretold from all others."""
    whole, links = fitted(rows), dict.fromkeys(map(_link_of, rows))
    others = {link: fitted([row for row in rows if _link_of(row) != link]) for link in links}
    found = {
        "seconds of the model": [whole.seconds(row) for row in rows],
        "seconds foretold": [others[_link_of(row)].seconds(row) for row in rows],
    }
    measured = np.array([row["seconds"] for row in rows])
    errors = {name: np.abs(np.array(seconds) / measured - 1) for name, seconds in found.items()}
    told = [dict(zip(found, each, strict=True)) for each in zip(*found.values(), strict=True)]
    return {
        **asdict(whole),
        "relative errors": {
            name: {"median": float(np.median(each)), "largest": float(each.max())}
            for name, each in errors.items()
        },
        "rows": [{**row, **each} for row, each in zip(rows, told, strict=True)],
    }


def _link_of(row: dict[str, Any]) -> Link:
    return HERE if row["Mb/s"] is None else Link(row["latency"], row["Mb/s"] * 1e6 / 8)


def _load_of(row: dict[str, Any]) -> Load:
    return load_of(network_of(row["network"]), rules_of(row["update"], row["batch"]), 2)


def modelled(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Images a second of larger clusters, from a rank's own work and the messages; also with float32's."""
    rows = []
    fit = Fit(**{name: record["fit"][name] for name in asdict(Fit())}) if "fit" in record else Fit()
    for row in record.get("local", ()):
        network, size, own = network_of(row["network"]), row["ranks"], row["seconds"]
        rules = rules_of("ternary", row["batch"])
        for name, stated in LINKS.items():
            link = fit.of(stated)
            ours = own + link.seconds(load_of(network, rules, size))
            floats = own + link.seconds(float_load_of(network, size))
            speeds = {"images/s": row["batch"] / ours, "images/s with float32": row["batch"] / floats}
            rows.append({**row, "link": name, **speeds})
    return rows


def draw(path: Path, record: dict[str, Any]) -> None:
    """Draw speed-up against ranks, for strong and for weak scaling, and what the model was fitted to."""
    rows = modelled(record)
    names = [name for name in SHAPES if any(row["network"] == name for row in rows)]
    columns = max(len(names), len({network for network, _ in ON_LINKS}))
    fit = record.get("fit")
    lines = 3 if fit else 2
    with picture(path, 4 * columns, 3.5 * lines) as figure:
        axes = figure.subplots(lines, columns, squeeze=False)
        if fit:
            _draw_fit(axes[2], fit)
        for line, scaling in zip(axes, ("strong", "weak"), strict=False):
            for panel, name in zip(line, names, strict=False):
                for i, (link, what) in enumerate(product(LINKS, ("images/s", "images/s with float32"))):
                    mine = [
                        r for r in rows if (r["network"], r["scaling"], r["link"]) == (name, scaling, link)
                    ]
                    if mine:
                        sent = "ternary steps" if what == "images/s" else "float32 all-reduce"
                        speed = [row[what] / mine[0]["images/s"] for row in mine]
                        look = {"color": series(i).colour, "linestyle": series(i).dash}
                        sizes = [row["ranks"] for row in mine]
                        panel.plot(sizes, speed, marker=series(i).marker, label=f"{link}, {sent}", **look)
                panel.plot(SIZES, SIZES, color=OTHERS, linestyle="-", marker="", linewidth=0.8, label="ideal")
                panel.set(xlabel="ranks", ylabel="speed-up, modelled")
                logarithmic(panel.xaxis, SIZES)
                logarithmic(panel.yaxis, [float(v) for each in panel.lines for v in each.get_ydata()])
                batch = f"batch {BATCH}" if scaling == "strong" else f"{A_RANK} samples a rank"
                panel.set_title(f"{name}, {scaling} scaling, {batch}", fontsize=10)
        if names:
            axes[0][0].legend(fontsize=7)


def _draw_fit(line: Sequence[Any], fit: dict[str, Any]) -> None:
    """An update of two ranks as measured beside the model's, a panel for each network."""
    names = sorted({row["network"] for row in fit["rows"]})
    for panel in line[len(names) :]:
        panel.set_axis_off()
    for panel, name in zip(line, names, strict=False):
        mine = [row for row in fit["rows"] if row["network"] == name]
        latencies = sorted({row["latency"] for row in mine})
        every = [1e3 * row[key] for row in mine for key in ("seconds", "seconds of the model")]
        for i, latency in enumerate(latencies):
            both = [
                (1e3 * r["seconds"], 1e3 * r["seconds of the model"]) for r in mine if r["latency"] == latency
            ]
            label = f"{1e3 * latency:g} ms" if latency else "TCP in this machine"
            panel.plot(*zip(*both, strict=True), series(i).marker, color=series(i).colour, label=label)
        ends = [min(every), max(every)]
        panel.plot(ends, ends, color=OTHERS, linestyle="-", marker="", linewidth=0.8, label="equal")
        logarithmic(panel.xaxis, every)
        logarithmic(panel.yaxis, every)
        panel.set(xlabel="measured, ms an update", ylabel="model, ms an update")
        panel.set_title(f"{name}, two ranks, 20 to 500 Mb/s", fontsize=10)
        panel.legend(fontsize=7)


# --- the command -------------------------------------------------------------------------------------


def measure(output: Path, parts: Sequence[str], repeats: int) -> dict[str, Any]:
    """Measure some parts; those that are in the record already and not asked for stay."""
    record: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {}
    record.pop("links assumed", None)
    record["links stated"] = {name: asdict(link) for name, link in LINKS.items()}
    record.setdefault("versions", {})
    rows: dict[str, Callable[[], Iterable[dict[str, Any]]]] = {
        "bytes": bytes_rows,
        "chips": chips_rows,
        "local": partial(local_rows, repeats),
        "data": data_rows,
        "ranks": partial(ranks_rows, repeats),
        "seeds": partial(seeds_rows, repeats),
        "links": partial(links_rows, repeats),
        "draw": lambda: modelled(record),
    }

    def keep(part: str, found: Iterable[dict[str, Any]]) -> None:
        record[part] = []
        record["versions"].pop(part, None)
        for row in found:
            print(f"{part}: " + ", ".join(f"{k} {_short(v)}" for k, v in row.items()), flush=True)
            record[part].append(row)
            run_folder.write_text(output, json.dumps(record, indent=1) + "\n")
        record["versions"][part] = run_folder.versions()
        run_folder.write_text(output, json.dumps(record, indent=1) + "\n")

    for part in parts:
        if part == "draw" and "links" in record["versions"]:
            record["fit"] = fit_of(record["links"])
            print("fit: " + ", ".join(f"{k} {_short(record['fit'][k])}" for k in asdict(Fit())), flush=True)
            for name, error in record["fit"]["relative errors"].items():
                print(f"fit: {name}: {_told(error)}", flush=True)
        keep("model" if part == "draw" else part, rows[part]())
    if "draw" in parts:
        draw(output.with_suffix(".png"), record)
    return record


def lacking(output: Path) -> list[str]:
    """Parts that a record has not whole; the picture is always drawn anew.

    >>> lacking(Path("no such file")) == list(PARTS)
    True
    """
    whole = json.loads(output.read_text())["versions"] if output.exists() else {}
    return [part for part in PARTS if part not in whole]


def _told(errors: dict[str, float]) -> str:
    median, largest = (100 * errors[name] for name in ("median", "largest"))
    return f"{median:.1f} % from the measured in the median, {largest:.1f} % at most"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(words: Sequence[str] | None = None) -> None:
    """Measure as the words say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--worker", nargs=2, metavar=("NETWORK", "UPDATE"), help=argparse.SUPPRESS)
    parser.add_argument("--data-worker", nargs=2, metavar=("DATA", "RUN"), help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.data_worker:
        data_worker(given.data_worker[0], Path(given.data_worker[1]))
        return
    if given.worker:
        worker(given.worker[0], given.worker[1], given.repeats)
        return
    parts = given.parts.split(",") if given.parts else lacking(given.output)
    for part in parts:
        if part not in PARTS:
            raise SettingError(f"part {part!r}: want {', '.join(PARTS)}")
    run_folder.check_writable(given.output)
    measure(given.output, parts, given.repeats)


if __name__ == "__main__":
    try:
        main()
    except WageError as error:
        sys.exit(f"scaling: {error}")
