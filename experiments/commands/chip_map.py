"""`wage-neuro map`: does a network fit a chip, where does it go, what does a sample cost there."""

from __future__ import annotations

import json
import math
import re
import textwrap
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from experiments import datasets
from experiments.commands.command_line import console, show_table
from experiments.commands.options import Found, Where, command_of
from experiments.continual import study
from experiments.datasets import Dataset
from experiments.datasets.base import middle
from experiments.engines import PROTOTYPES, make_engine, make_read_out
from experiments.records.chip_picture import draw
from experiments.records.names import learning, short_name
from experiments.runs import run_folder
from experiments.runs.training import load_for
from mappings.chips.chip import CHIPS, GRADES, UNKNOWN, Chip, ChipError
from mappings.chips.cost import Activity, Cost, count_activity, published_of
from mappings.chips.limits import Limit, broken, broken_by_parts, no_room
from mappings.chips.memory_cost import NOTES, WHERE, MemoryCost
from mappings.chips.parts import axons_between_chips, cut_between_chips
from mappings.chips.placement import RESOURCES, DoesNotFit, Placement, Use, place
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.control import Control
from wage_neuro.errors import SettingError
from wage_neuro.eta import EtaSchedule
from wage_neuro.memory import Reservoir
from wage_neuro.network import Network
from wage_neuro.prototypes import Prototypes
from wage_neuro.rules import Rules
from wage_neuro.settings import DATA, NETWORK, OUTPUT, RULE, check_settings, setting
from wage_neuro.train import initial_state

FORMAT = 2
"""Version of the JSON report; it grows when a key changes its meaning or goes."""
CHIP = "Chip"
"""Group of the settings that are its own."""
MODES = ("inference", "training")
ONCHIP = Rules(batch=1, shift="held", update="ternary", loss="one-sided", margin=3)
"""How a network that is given by name would learn."""
ETA = 3
"""log2 of the step size where none is known."""
PROTOTYPE_NOTE = (
    "The nearest prototype is found off the neurocores: each sends its nearness to the host, which names the"
    " one that learns and writes a new one's codes; those writes are not published, not counted."
)

ZERO_NOTE = (
    "A weight of 0 that learns is stored and read like any other; elsewhere only other weights are met. The"
    " memory is that of full lists."
)


@dataclass(frozen=True)
class Report:
    """A mapped network: `placement` and `cost` are None where not even one neuron of a layer fits a core."""

    network: Network
    chip: Chip
    use: Use
    limits: list[Limit]
    placement: Placement | None
    cost: Cost | None
    counted_on: str
    memory: MemoryCost | None = None

    @property
    def fits(self) -> bool:
        return not self.limits

    @property
    def mode(self) -> str:
        return MODES[self.use.training]

    @property
    def published(self) -> dict[str, Any] | None:
        """What was measured of the same layers in the same mode, if anything."""
        return None if self.use.prototypes or self.use.frozen else published_of(self.network)

    @property
    def title(self) -> str:
        use, name = self.use, short_name(str(self.network), self.use.prototypes)
        mode = self.mode
        if use.training and use.frozen:
            mode += f", {_many(use.frozen, 'layer')} frozen"
        elif use.training and not use.prototypes:
            mode += f", {use.rules.feedback} feedback"
        shape = " x ".join(map(str, self.network.input_shape))
        return f"{shape}: {name} on {self.chip.name}, {mode}"

    @property
    def notes(self) -> list[str]:
        """What a reader of the numbers must know."""
        notes = [self.chip.note] if self.chip.note else []
        if self.placement:
            notes += [ZERO_NOTE, *_placement_notes(self.placement)]
        if not self.fits:
            notes.append("Places and costs are those it would have if the broken limits were met.")
        if not self.chip.payload_bits and any("payload" in limit.quantity for limit in self.limits):
            notes.append("Binary spikes: a value is counted as one spike, so the costs are lower bounds.")
        notes += [PROTOTYPE_NOTE] if self.use.prototypes else []
        return [*notes, *(NOTES if self.memory else ())]

    def to_json(self) -> dict[str, Any]:
        """The report; its keys are the same whatever the network."""
        return {
            "format": FORMAT,
            "network": {
                "layers": str(self.network),
                "input_shape": self.network.input_shape,
                "bits": str(self.network.bits),
                "signed_input": self.network.signed_input,
                "weights": self.network.n_weights,
            },
            "mode": self.mode,
            "frozen_layers": self.use.frozen,
            "prototypes": self.use.prototypes,
            "rules": asdict(self.use.rules),
            "fits": self.fits,
            "limits": [asdict(limit) for limit in self.limits],
            "notes": self.notes,
            "placement": _placement_json(self.placement) if self.placement else None,
            "activity_counted_on": self.counted_on,
            "cost": self.cost.to_json() if self.cost else None,
            "memory": self.memory.to_json() if self.memory else None,
            "published": self.published,
            "chip": self.chip.to_json(),
        }

    @classmethod
    def from_json(cls, report: dict[str, Any]) -> Report:
        """Build what a report of this format says, without its memory; the network is placed anew."""
        described = report["network"]
        network = Network.parse(
            described["layers"],
            tuple(described["input_shape"]),
            bits=described["bits"],
            signed_input=described["signed_input"],
        )
        chip = Chip.from_json(report["chip"])
        rules, training = Rules(**report["rules"]), report["mode"] == MODES[True]
        use = Use(training, rules, report["frozen_layers"], report["prototypes"])
        limits, placement, cost = [Limit(**limit) for limit in report["limits"]], None, None
        if report["cost"]:
            cores = [row[1] for row in report["placement"]["pieces"]["rows"]]
            placement = replace(place(network, chip, use), core=np.array(cores))
            cost = Cost(placement, [Activity(**layer) for layer in report["cost"]["activity"]])
        return cls(network, chip, use, limits, placement, cost, report["activity_counted_on"])

    def cut(self) -> Report:
        """The same with its cores on other chips, where that takes fewer messages between them."""
        if self.placement is None or self.cost is None:
            return self
        placement = cut_between_chips(self.placement)
        return replace(self, placement=placement, cost=Cost(placement, self.cost.activity))

    def draw(self, path: Path) -> None:
        """Draw the picture of a network that was placed, and the same as SVG beside it."""
        assert self.placement is not None
        assert self.cost is not None
        draw(path, self.placement, self.cost, self.title, _picture_lines(self))


def _placement_notes(placement: Placement) -> list[str]:
    notes = []
    parts = [
        f"{population}: {placement.steps[t]}"
        for t, population in enumerate(placement.populations)
        if population.role in ("forward", "error", "prototypes") and placement.steps[t] > 1
    ]
    if parts:
        notes.append(
            f"Sums wider than the accumulator of {placement.chip.accumulator_bits} bits are taken in parts,"
            f" a time step each, added in the neuron's state ({'; '.join(parts)} steps)."
        )
    if placement.chips > 1:
        notes.append(
            "Energy of links between chips and barriers over several chips are not published, not counted."
        )
    return notes


def _placement_json(placement: Placement) -> dict[str, Any]:
    return {
        "chips": placement.chips,
        "cores": placement.cores,
        "neurons": int(placement.piece_resources["neurons"].sum()),
        "synapses": sum(piece.synapses for piece in placement.pieces),
        "memory_bits": int(placement.piece_resources["memory"].sum()),
        "populations": [_population_json(placement, t) for t in range(1, len(placement.populations))],
        "pieces": {
            "keys": ["population", "core", "rows", "columns", "channels", "inputs"],
            "rows": [
                [p.population - 1, int(core), *p.rows, *p.columns, *p.channels, *p.inputs]
                for p, core in zip(placement.pieces, placement.core, strict=True)
            ],
        },
    }


def _population_json(placement: Placement, t: int) -> dict[str, Any]:
    population = placement.populations[t]
    mine = np.array([piece.population == t for piece in placement.pieces])
    return {
        "layer": population.layer,
        "role": population.role,
        "neurons": population.size,
        "synapses": sum(g.connections for g in placement.geometries if g.link.target == t),
        "memory_bits": int(placement.piece_resources["memory"][mine].sum()),
        "pieces": int(mine.sum()),
        "cores": len(np.unique(placement.core[mine])),
        "steps": placement.steps[t],
        "largest_piece": {
            name: {"value": int(placement.piece_resources[name][mine].max()), "limit": placement.limit(name)}
            for name in RESOURCES
        },
    }


def map_checkpoint(
    saved: Checkpoint,
    chip: Chip,
    use: Use,
    images: np.ndarray,
    labels: np.ndarray,
    control: int | Control,
    counted_on: str,
    engine: str = "numpy",
    memory: MemoryCost | None = None,
    prototypes: Prototypes | None = None,
) -> Report:
    """Check, place and cost a network; its activity is counted on the images.

    A network that was never trained holds no exponents yet: they are taken from each image itself.
    """
    network, limits = saved.network, broken(saved.network, chip, use)
    try:
        placement = place(network, chip, use)
    except DoesNotFit as error:
        limits = [*limits, no_room(network, error)]
        return Report(network, chip, use, limits, None, None, counted_on, memory)
    limits += broken_by_parts(placement)
    rules = _counting_rules(use, saved, len(images))
    if prototypes:
        built = make_read_out(PROTOTYPES, engine, network, rules, saved.state, prototypes)
    else:
        built = make_engine(engine, network, rules, saved.state)
    with built as machine:
        activity = count_activity(machine, images, labels if use.training else None, control)
    return Report(network, chip, use, limits, placement, Cost(placement, activity), counted_on, memory)


def _counting_rules(use: Use, saved: Checkpoint, images: int) -> Rules:
    rules = use.rules
    if not saved.state.step:
        rules = replace(rules, shift="batch", pipelined=False)
    return replace(rules, batch=images) if rules.pipelined or not use.training else rules


def refuse_unmapped(config: study.Config) -> None:
    """Raise SettingError if a learner holds what no population of neurons stands for."""
    if not config.kind.mapped:
        raise SettingError(f"map of method {config.method!r}: nothing on a chip stands for what it holds")


# --- what a run is, for the map ----------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """What is mapped, with the images that its activity can be counted on.

    Attributes
    ----------
    control : step size of each layer at the end of its training, None of a frozen one
    stream : the continual run that it comes from, if it does
    """

    saved: Checkpoint
    control: int | Control
    data: Dataset | None = None
    stream: study.Run | None = None

    @classmethod
    def of_run(cls, run: Path, data: str | None, data_dir: Path | None) -> Subject:
        """A run's folder, a folder of continual runs (their first seed), or a checkpoint file."""
        place = run
        if run.is_dir() and not (run / run_folder.CHECKPOINT).exists():
            place = min(run.glob("seed-*"), default=run)
        saved = run_folder.load(place)
        if "stream" not in saved.extra:
            config = saved.extra.get("config", {})
            found = load_for(saved, data or config.get("data", "digits"), data_dir)
            return cls.of_checkpoint(saved, found)
        if data or place.is_file():
            raise SettingError("map of a continual run: want its folder, and no --data: it has its own")
        stream = study.Run.resume(place, data_dir)
        refuse_unmapped(stream.config)
        return cls(saved, stream.control_at(max(0, stream.progress.place - 1)), stream=stream)

    @classmethod
    def of_checkpoint(cls, saved: Checkpoint, data: Dataset) -> Subject:
        """A trained network and its data."""
        return cls(saved, _log2_eta(saved), data)

    @property
    def frozen(self) -> int:
        """Layers that never learn."""
        return self.stream.frozen_layers if self.stream else 0

    @property
    def prototypes(self) -> Prototypes | None:
        """Those that answer in the last layer's place, if any."""
        memory = self.stream and self.stream.method.memory
        return memory if isinstance(memory, Prototypes) else None

    def use(self, mode: str, rules: Rules | None = None) -> Use:
        """What the chip shall do; with the rules that it learned with, or others."""
        room = len(self.prototypes.labels) if self.prototypes else 0
        return Use(mode == MODES[True], rules or self.saved.rules, self.frozen, room)

    def mapped(self, chip: Chip, use: Use, images: int | None = None, engine: str = "numpy") -> Report:
        """Map it, its activity counted on as many images, or on what takes a second."""
        x, y, counted_on = self.counted(use, images)
        memory = self.memory(chip)
        return map_checkpoint(
            self.saved, chip, use, x, y, self.control, counted_on, engine, memory, self.prototypes
        )

    def counted(self, use: Use, images: int | None = None) -> tuple[np.ndarray, np.ndarray, str]:
        """Images and labels that activity is counted on, in whole updates, and what they are."""
        some = images or _a_second(self.saved.network)
        if use.training and not use.rules.pipelined:
            some = -(-some // use.rules.batch) * use.rules.batch
        x, y, what = self.samples(use.training, some)
        state = f"after {self.saved.state.step:,} updates" if self.saved.state.step else "never trained"
        return x, y, f"{what}, {state}"

    def samples(self, training: bool, n: int) -> tuple[np.ndarray, np.ndarray, str]:
        """Images, labels, and what they are; of a stream, n images of all its tasks in equal parts."""
        part = "train" if training else "test"
        if self.data:
            x, y = (getattr(self.data, f"{part}_{what}")[:n] for what in ("images", "labels"))
            x = np.asarray(middle(x, self.data.window) if self.data.window else x)
            return x, y, f"{len(x)} {part} images of {self.data.name}"
        assert self.stream
        each = -(-n // len(self.stream.tasks))
        parts = [
            task.training_samples(np.arange(each) % len(task.train)) if training else task.test_samples(each)
            for task in self.stream.tasks
        ]
        x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        place = np.concatenate([np.arange(len(labels)) for _, labels in parts])
        in_turn = np.argsort(place, kind="stable")[:n]
        what = f"{len(in_turn)} {part} images of {self.stream.config.stream}, all its tasks in turn"
        return x[in_turn], y[in_turn], what

    def memory(self, chip: Chip) -> MemoryCost | None:
        """Cost of the memory that replays, if there is one."""
        if not self.stream or not isinstance(self.stream.method.memory, Reservoir):
            return None
        labels = self.stream.stream.labels(0, len(self.stream.stream))
        memory, k_A = self.stream.method.memory, self.saved.network.bits.k_A
        return MemoryCost.of(memory, chip, k_A, labels, self.stream.config.recalled)


# --- the command -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is mapped, and how."""

    chip: str = setting(
        "loihi2", f"{', '.join(CHIPS)}, or a chip of your own: a `.toml` file.", CHIP, complete=tuple(CHIPS)
    )
    mode: str | None = setting(
        None,
        "`inference`, or `training`: learning on the chip.",
        CHIP,
        shown="inference; of a continual run training",
        complete=MODES,
    )
    cut: str = setting(
        "order",
        "Which cores share a chip, where it takes several: as they follow each other, `order`, or with fewest"
        " messages between chips, `metis`.",
        CHIP,
        choices=("order", "metis"),
    )
    numbers: bool = setting(False, "Print the chip's numbers with their sources.", CHIP, flag="--numbers")
    feedback: str | None = setting(
        None,
        "How errors come back in training: transposed, random or direct.",
        RULE,
        shown="as the run learned; transposed",
    )
    network: str | None = setting(
        None, "A network before it is trained, as `train` takes it; wants --data.", NETWORK
    )
    bits: str = setting("2888", "Of --network: k_W k_A k_G k_E.", NETWORK)
    data: str | None = setting(None, "Data set that its activity is counted on.", DATA, shown="the run's own")
    images: int | None = setting(
        None,
        "Images that its activity is counted on.",
        DATA,
        least=1,
        shown="what takes a second, 2 to 64",
    )
    output: Path | None = setting(None, "Folder for the pictures and the report.", OUTPUT, shown="the run's")

    def __post_init__(self) -> None:
        check_settings(self)


def map_command(
    asked: Asked,
    found: Found,
    machine: Where,
    run: Annotated[
        Path | None,
        typer.Argument(help="Folder of a run, or a checkpoint file; or give --network.", show_default=False),
    ] = None,
) -> None:
    """Map a network onto a chip: does it fit, where does it go, what does a sample cost (an estimate)."""
    described = Chip.load(asked.chip)
    if asked.numbers:
        _print_numbers(described)
        if run is None and asked.network is None:
            return
    if (run is None) == (asked.network is None):
        raise SettingError("map: want a run, or --network with --data, and not both")
    if asked.mode not in (None, *MODES):
        raise SettingError(f"mode {asked.mode!r}: want {' or '.join(MODES)}")
    if asked.network and asked.data is None:
        raise SettingError("map --network: want --data too, for the shape of its input")
    rules_asked = (
        replace(ONCHIP, feedback=asked.feedback) if asked.feedback else None
    )  # refused before data are read
    console.print(f"reading {run or asked.data}")
    if run:
        subject = Subject.of_run(run, asked.data, found.data_dir)
    else:
        images = datasets.load(asked.data or "", found.data_dir)
        subject = Subject(_untrained(asked.network or "", images, asked.bits), ETA, images)
    saved = subject.saved
    mode = asked.mode or MODES[subject.stream is not None]
    rules = replace(saved.rules, feedback=rules_asked.feedback) if rules_asked else saved.rules
    use = subject.use(mode, rules)
    folder = asked.output or (run if run and run.is_dir() else Path())
    words = re.findall("[a-z0-9]+", described.name.lower())
    name = f"map-{''.join(words)}-{mode}"
    name += f"-{rules.feedback}" if use.training and rules.feedback != saved.rules.feedback else ""
    if asked.output:
        run_folder.prepare(asked.output, new=False)
    run_folder.check_writable(folder / f"{name}.json")
    name_of_it = short_name(str(saved.network), use.prototypes)
    console.print(f"placing {name_of_it}, counting on {subject.counted(use, asked.images)[2]}")
    report = subject.mapped(described, use, asked.images, machine.engine)
    in_order, report = report.placement, report.cut() if asked.cut == "metis" else report
    _print(report)
    if in_order and report.placement and in_order.chips > 1:
        console.print(_between_chips(in_order, report.placement))
    written = [folder / f"{name}.json"]
    if report.placement and report.cost:
        written += [folder / f"{name}.png", folder / f"{name}.svg"]
        report.draw(written[1])
    run_folder.write_text(written[0], as_text(report.to_json()))
    console.print(f"written: {', '.join(map(str, written))}")
    if not report.fits:
        raise ChipError(
            f"{report.title}: does not fit, {_many(len(report.limits), 'limit')} broken ({written[0]})"
        )


MAP = command_of(map_command)


def as_text(report: dict[str, Any]) -> str:
    """JSON with lists of numbers on one line."""
    text = json.dumps(report, indent=1)
    return re.sub(r"\[\s+(-?\d[-\d,\s]*?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text) + "\n"


def _a_second(network: Network) -> int:
    products = sum(layer.n_weights * layer.positions for layer in network.layers)
    return max(2, min(64, 2 * 10**9 // products))


def _log2_eta(saved: Checkpoint) -> int:
    """Step size of the last epoch that was trained."""
    epoch = max(0, saved.extra.get("progress", {}).get("epoch", 0) - 1)
    return EtaSchedule.parse(saved.extra.get("config", {}).get("eta", str(2**ETA))).log2_at(epoch)


def _untrained(network: str, data: Dataset, bits: str) -> Checkpoint:
    built = Network.parse(network, data.train_images.shape[1:], data.classes, bits, data.signed)
    return Checkpoint(built, ONCHIP, initial_state(built))


# --- what is printed ---------------------------------------------------------------------------------


def _print(report: Report) -> None:
    console.print(report.title, style="bold")
    if report.use.training and not report.use.prototypes:
        console.print(f"learns {learning(asdict(report.use.rules))}")
    for line in summary(report) if report.cost else ():
        console.print(line)
    if report.limits:
        table = Table("where", "quantity", "wanted", "the chip has", "way out", title="limits that it breaks")
        for limit in report.limits:
            values = (
                ("yes", "no")
                if limit.unit == "ability"
                else (f"{limit.value:,}", f"{limit.limit:,} {limit.unit}")
            )
            table.add_row(limit.where, limit.quantity, *values, limit.way_out)
        show_table(table)
    if report.placement and report.cost:
        show_table(_placement_table(report.placement))
        show_table(_cost_table(report))
    for line in memory_lines(report):
        console.print(line)
    for note in report.notes:
        console.print(f"note: {note}")


def _between_chips(in_order: Placement, placement: Placement) -> str:
    axons = axons_between_chips(placement)
    cut = f"{axons:,} axons go from chip to chip"
    if placement is in_order:
        return f"{cut}; --cut metis looks for fewer"
    return f"{cut}, {axons_between_chips(in_order):,} if the cores follow each other"


def _placement_table(placement: Placement) -> Table:
    columns = (
        "layer",
        "role",
        "neurons",
        "synapses",
        "cores",
        "steps",
        "neurons",
        "memory",
        "axons in",
        "axons out",
    )
    room = f"{_many(placement.cores, 'core')} of {_many(placement.chips, 'chip')}"
    table = Table(title=f"{room}; right: the fullest piece, of its core")
    for column in columns:
        table.add_column(column, justify="left" if column in ("layer", "role") else "right")
    for t in range(1, len(placement.populations)):
        row = _population_json(placement, t)
        layer = "" if row["role"] == "prototypes" else placement.network.layers[row["layer"]]
        fills = (f"{100 * v['value'] / v['limit']:.0f} %" for v in row["largest_piece"].values())
        counts = (f"{row[name]:,}" for name in ("neurons", "synapses", "cores", "steps"))
        table.add_row(f"{row['layer']} {layer}", row["role"], *counts, *fills)
    return table


COST_ROWS = (
    ("synaptic operations", "synaptic", "energy_synapse", "synaptic operations"),
    ("  weights other than 0 met (effective)", "effective", "", ""),
    ("  synapses reached, weights of 0 too", "reached", "", ""),
    ("  if nothing were 0 (dense)", "dense", "", ""),
    ("neuron updates, active", "active", "energy_neuron_active", "active neurons"),
    ("neuron updates, inactive", "inactive", "energy_neuron_inactive", "inactive neurons"),
    ("learning updates", "learning", "energy_learning", "learning"),
    ("messages", "messages", "energy_tile", "messages"),
    ("  hops along X", "hops_x", "energy_hop_x", ""),
    ("  hops along Y", "hops_y", "energy_hop_y", ""),
    ("  between chips", "between_chips", "", ""),
    ("time steps", "steps", "", ""),
)
"""Rows of the cost: a name, the operation, the chip's number of its energy, the kind of energy it sums to."""


def _cost_table(report: Report) -> Table:
    assert report.cost
    chip, energy = report.chip, report.cost.energy()
    operations = asdict(report.cost.operations())
    table = Table(title=f"operations of one sample, alone in the network; activity of {report.counted_on}")
    for column in ("operation", "a sample", "pJ each", "µJ"):
        table.add_column(column, justify="left" if column == "operation" else "right")
    for name, key, number, kind in COST_ROWS:
        each = known(getattr(chip, number), "g") if number else ""
        told = known(energy[kind] * 1e-6, ",.3f") if kind else ""
        table.add_row(name, f"{operations[key]:,.0f}", each, told)
    table.add_row("at rest meanwhile", "", "", known(energy["static"] * 1e-6, ",.3f"))
    table.add_row("total", "", "", known(sum(energy.values()) * 1e-6, ",.3f"))
    return table


def known(number: float, form: str) -> str:
    """A number in its form, or that it is unknown.

    >>> known(2.5, "g"), known(float("nan"), "g")
    ('2.5', 'unknown')
    """
    return UNKNOWN if math.isnan(number) else format(number, form)


def summary(report: Report) -> list[str]:
    """Energy and time of a sample, beside what was measured on a chip if that was of the same layers."""
    assert report.cost
    cost, published = report.cost.to_json(), report.published
    energy = cost["energy_mJ"]
    if energy is None:
        time = f"{cost['time_ms']:.3g} ms {_a_sample(report.mode)}"
        return [f"estimate: {time}; no energies of {report.chip.name} are known"]
    lines = [
        f"estimate: {energy['total']:.3g} mJ and {cost['time_ms']:.3g} ms {_a_sample(report.mode)}:"
        f" {energy['dynamic']:.3g} mJ of operations, {energy['static']:.3g} mJ that"
        f" {_many(report.cost.placement.chips, 'chip')} at rest would draw in that time"
    ]
    if published:
        measured = published[report.mode]
        lines.append(
            f"measured, the same layers: {measured['energy_mJ']} mJ and {measured['time_ms']} ms"
            f" {_a_sample(report.mode)}: {published['source']}"
        )
    return lines


def memory_lines(report: Report) -> list[str]:
    """Where the memory is, and what a new sample costs with those that are recalled beside it."""
    memory = report.memory
    if not memory:
        return []
    lines = [
        f"memory: {memory.samples:,} samples of {memory.bits} bits a pixel, {memory.bytes:,} bytes, {WHERE};"
        f" {memory.read:,.0f} bytes read and {memory.written:,.0f} written a new sample",
        f"as synapses, an axon an image, it would fill {_many(memory.synapse_cores, 'core')}",
    ]
    if report.cost and report.use.training:
        cost, learned = report.cost.to_json(), 1 + memory.recalled
        energy = f"{learned * cost['energy_mJ']['total']:.3g} mJ and " if cost["energy_mJ"] else ""
        told = f"{energy}{learned * cost['time_ms']:.3g} ms, estimated"
        lines.append(f"a new sample and {memory.recalled} recalled: {told}")
    return lines


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _a_sample(mode: str) -> str:
    return "a training sample" if mode == "training" else "an inference"


def _picture_lines(report: Report) -> list[str]:
    assert report.cost
    cost, published = report.cost.to_json(), report.published
    energy, time = cost["energy_mJ"], f"{cost['time_ms']:.3g} ms"
    lines = [f"{_a_sample(report.mode)}, estimated".capitalize()]
    if energy is None:
        lines += [f"   {time}", "   (energies are unknown)"]
    else:
        lines += [
            f"   {energy['total']:.3g} mJ   {time}",
            f"   ({energy['dynamic']:.3g} mJ operations, {energy['static']:.3g} mJ at rest)",
        ]
    if published:
        measured = published[report.mode]
        lines += [
            "measured by others, backpropagation on Loihi",
            f"   {measured['energy_mJ']:g} mJ   {measured['time_ms']:g} ms   (the same layers)",
        ]
    if not report.fits:
        lines += ["", f"does not fit: {_many(len(report.limits), 'limit')} broken", "(drawn as if met)"]
    return [*lines, "", *textwrap.wrap(report.chip.note, 46)]


def _print_numbers(chip: Chip) -> None:
    table = Table("number", "value", "unit", "grade", "source", title=chip.name)
    for name, entry in chip.to_json().items():
        if isinstance(entry, dict):
            table.add_row(name, str(entry["value"]), entry["unit"], entry["grade"], entry["source"])
    show_table(table)
    console.print("grades: " + ", ".join(f"{grade} {words}" for grade, words in GRADES.items()))
    console.print(f"note: {chip.note}")
