"""What a method costs a new sample on a chip: energy and time from the counts of committed records.

Every learned sample is counted, recalled ones too. The chip's own numbers are those of `mappings.chips`, with
their grades: for Loihi 2 they are Loihi 1's. What a memory off the neurocores draws is not published and not
counted.

The sums of a discriminant are taken for synapses that learn, a neuron for each feature and each class, though
no synapse is as wide; what solves them for a read-out, once an answer is wanted, is not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.continual import records
from experiments.continual.records import Record
from experiments.continual.study import Config
from experiments.records.figure import picture
from experiments.records.names import table
from experiments.records.style import MUTED, OTHERS, SERIES, series
from mappings.chips.chip import Chip, ChipError
from mappings.chips.cost import Activity, Cost
from mappings.chips.limits import Limit, broken, broken_by_parts
from mappings.chips.placement import DoesNotFit, Placement, Use, place
from wage_neuro.discriminant import SUM_BITS, Discriminant
from wage_neuro.errors import DataError
from wage_neuro.network import Network

CHIP = "loihi2"
CLP_MS, CLP_MJ = 0.33, 0.05
CLP = (
    "CLP-SNN on Loihi 2, measured: an update of another network on another task (OpenLORIS), arXiv:2511.01553"
)
SHAPES = {
    **dict.fromkeys(("mnist", "fmnist", "fashion-mnist"), (28, 28, 1)),
    "digits": (8, 8, 1),
    "cifar-10": (32, 32, 3),
}
"""Of images, by the name of the data in a stream's."""
MARKS_MJ, MARKS_ERROR = (0.03, 0.05, 0.1, 0.2, 0.5), (2, 3, 5, 10, 20, 50, 100)
"""Ticks of the picture."""
FIELDS = {
    "inputs": "inputs",
    "outputs": "spikes",
    "errors": "errors",
    "pairs": "learning_operations",
    "changed": "updates",
    "effective": "synaptic_operations",
    "reached": "synapses_reached",
    "error_effective": "error_operations",
    "error_reached": "error_synapses_reached",
}
"""What a cost calls the counts of a record; those that an older record has not are left to the formula."""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A record in a chip's terms.

    Attributes
    ----------
    accuracy : ACC, %, mean over the seeds
    ms, dynamic_mJ, mJ : of a new sample with all that is recalled beside it; without static power, with it
    memory_bytes : off the neurocores
    limits : of the chip that it breaks; the costs are those that it would have if they were met
    """

    record: Record
    accuracy: float
    ms: float
    dynamic_mJ: float
    mJ: float
    chips: int
    memory_bytes: int
    limits: tuple[str, ...]

    @classmethod
    def of(cls, record: Record, chip: Chip) -> Learned:
        """Cost a record, the mean of its seeds.

        Raises
        ------
        DataError
            If it has no counts, or its images are not known here.
        ChipError
            If the chip's energies are unknown.
        DoesNotFit
            If not even one neuron of a layer fits a core.
        """
        if not chip.tells_energy:
            raise ChipError(f"chip {chip.name!r}: its energies are unknown, so none can be told of a method")
        costs = [_cost(run, chip) for run in record.runs]
        each = [run["samples_learned"] / run["samples"] for run in record.runs]
        found = [cost.to_json() for cost in costs]
        mJ = [n * cost["energy_mJ"]["total"] for n, cost in zip(each, found, strict=True)]
        dynamic = [n * cost["energy_mJ"]["dynamic"] for n, cost in zip(each, found, strict=True)]
        return cls(
            record=record,
            accuracy=mean(run["ACC"] for run in record.runs),
            ms=mean(n * cost["time_ms"] for n, cost in zip(each, found, strict=True)),
            dynamic_mJ=mean(dynamic),
            mJ=mean(mJ),
            chips=costs[0].placement.chips,
            memory_bytes=record.runs[0]["memory_bytes"],
            limits=tuple(map(str, _limits(record.runs[0]["config"]["method"], costs[0].placement))),
        )


def _cost(run: records.Row, chip: Chip) -> Cost:
    config = Config.from_json(run["config"])
    data = config.stream.partition("-")[2]
    if data not in SHAPES or "activity" not in run:
        raise DataError(f"{config.title}: want counts of activity, and images of {', '.join(SHAPES)}")
    network = Network.parse(run["network"], SHAPES[data], bits=config.bits)
    assert network.n_weights == run["weights"], run["network"]
    method = config.kind(config, network)
    frozen, held = method.frozen_layers(), method.memory
    rows = sum(held.sums.shape) if isinstance(held, Discriminant) else run.get("prototypes", 0)
    use = Use(True, config.rules, frozen, rows)
    counts = run["activity"]
    layers = [
        Activity(**{name: counts[field][i] for name, field in FIELDS.items() if field in counts})
        for i in range(len(network.layers))
    ]
    return Cost(place(network, chip, use), layers)


def _limits(method: str, placed: Placement) -> list[Limit]:
    found = [*broken(placed.network, placed.chip, placed.use), *broken_by_parts(placed)]
    if method != "discriminant":
        return found
    way_out = "a processor beside the cores, with a memory of its own"
    wide = Limit("discriminant", "sum in a synapse", SUM_BITS + 1, placed.chip.weight_bits, "bits", way_out)
    return [wide, *(limit for limit in found if limit.where != "prototypes")]


def learned(folder: Path, chip: Chip | None = None) -> list[Learned]:
    """Every record of `folder`/continual that was measured on test images and whose counts are there."""
    chip, found = chip or Chip.load(CHIP), []
    for path in sorted((folder / "continual").glob("*.jsonl")):
        record = records.read(path)
        if record.runs[0]["measured_on"] != "test":
            continue
        try:
            found.append(Learned.of(record, chip))
        except (DataError, DoesNotFit):
            continue  # the table of accuracies has it
    return found


def of_stream(folder: Path, stream: str = "split-mnist, class") -> list[Learned]:
    """Those of one stream, as the table calls it."""
    return [point for point in learned(folder) if point.record.stream == stream]


def pareto(points: Iterable[Learned]) -> list[Learned]:
    """Those that no other one beats in energy and accuracy at once, the cheapest first.

    Of equal accuracy the cheaper one. Joint training, which learns no stream, is none of them.
    """
    best: list[Learned] = []
    for point in sorted(points, key=lambda p: (p.mJ, -p.accuracy)):
        mixed = Config.from_json(point.record.runs[0]["config"]).mixed
        if not mixed and (not best or point.accuracy > best[-1].accuracy):
            best.append(point)
    return best


def learning_cost_table(folder: Path) -> str:
    """A row a record: accuracy, time and energy of a new sample; the published mark last."""
    points = learned(folder)
    on_front = {
        id(point)
        for stream in {point.record.stream for point in points}
        for point in pareto(p for p in points if p.record.stream == stream)
    }
    rows: list[tuple[str, ...]] = []
    for p in sorted(points, key=lambda p: (p.record.stream, p.mJ)):
        config, star = p.record.runs[0]["config"], " *" if id(p) in on_front else ""
        star += " †" if p.limits else ""
        what = p.record.stream, p.record.method + star, config["network"], f"{p.accuracy:.2f}"
        cost = f"{p.ms:.3f}", f"{p.dynamic_mJ:.4f}", f"{p.mJ:.4f}", f"{p.memory_bytes / 1024:,.0f} KiB"
        rows.append((*what, *cost))
    rows.append(("", CLP, "", "", str(CLP_MS), "", str(CLP_MJ), ""))
    said = ["\\* no other row of the stream is as accurate for as little energy (static included)."]
    if past := sorted({limit for p in points for limit in p.limits}):
        said.append(f"† past a limit of the chip: {'; '.join(past)}.")
    return table(
        "stream | method | hidden layers | ACC, % | ms | mJ, dynamic | mJ, with static | memory", rows, *said
    )


def draw(path: Path, points: Sequence[Learned]) -> None:
    """Accuracy against energy of a new sample, the best of both joined, beside the published mark."""
    with picture(path, 8.8, 5) as figure:
        _draw(figure.subplots(), points)


def _draw(axes: Any, points: Sequence[Learned]) -> None:
    for i, point in enumerate(points):
        style, config = series(i), point.record.runs[0]["config"]
        apart = " (no stream: all tasks mixed)" if Config.from_json(config).mixed else ""
        look = ("full", "none", "left")[i // len(SERIES) % 3]
        label = (
            f"{point.record.method}{apart}, {config['network']}: {point.accuracy:.1f} %, {point.ms:.2f} ms"
        )
        axes.plot(
            [point.mJ], [100 - point.accuracy], marker=style.marker, linestyle="",
            color=style.colour, fillstyle=look, markersize=8, label=label,
        )  # fmt: skip
    front = pareto(points)
    steps = [point.mJ for point in front], [100 - point.accuracy for point in front]
    axes.step(*steps, where="post", color=MUTED, linestyle="-", marker="", linewidth=1, zorder=0)
    label = f"CLP-SNN on Loihi 2, measured, another task:\n{CLP_MJ} mJ, {CLP_MS} ms an update"
    axes.axvline(CLP_MJ, color=OTHERS, linestyle="--", linewidth=1.2, label=label)
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(MARKS_MJ, [f"{mark:g}" for mark in MARKS_MJ])
    axes.set_yticks(MARKS_ERROR, [f"{mark:g}" for mark in MARKS_ERROR])
    axes.minorticks_off()
    axes.set(
        xlabel="mJ a new sample, estimated with Loihi 1's energies, static power included",
        ylabel="test error after the last task (%), mean of the tasks",
        title=f"{points[0].record.stream}-incremental, as if learned on Loihi 2",
    )
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
