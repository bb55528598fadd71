"""What a placed network costs a sample: operations, energy, time.

Operations follow from `Activity`: how many inputs, outputs and errors of each layer are not zero. An engine
counts them while it runs: the Lava simulation and the others count the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mappings.placement import LABEL, PARTIAL, TRACK, Geometry, Link, Placement
from wage_neuro.control import Control
from wage_neuro.engine import Engine

PUBLISHED = {
    "source": "backpropagation on Loihi, 400-400-10, MNIST, measured:"
    " Renner et al., Nature Communications 15, 9691 (2024), table 1",
    "training": {"energy_mJ": 0.59, "time_ms": 1.5},
    "inference": {"energy_mJ": 0.0025, "time_ms": 0.17},
}
"""What others measured on a chip, a sample."""


@dataclass(frozen=True)
class Activity:
    """How much of a layer is active, mean a sample.

    Attributes
    ----------
    inputs, outputs, errors : values that are not zero: activations in and out, error codes E
    pairs : (weight, place) pairs at which a nonzero input meets a nonzero error; with coincidence updates, at
        which two spikes meet
    changed : stored weights that an update changed
    synapses, error_synapses : synapses that the inputs pass forward and the errors backward, where the source
        counts them; None leaves them to the formula
    """

    inputs: float
    outputs: float
    errors: float = 0.0
    pairs: float = 0.0
    changed: float = 0.0
    synapses: float | None = None
    error_synapses: float | None = None


# --- activity of an engine ---------------------------------------------------------------------------


def count_activity(
    engine: Engine, images: np.ndarray, labels: np.ndarray | None = None, control: int | Control = 0
) -> list[Activity]:
    """Let an engine answer images, or learn them where labels are given, and count what its layers do.

    Parameters
    ----------
    images : (n, ...) uint8; n a multiple of the batch where they are learned
    labels : (n,) or None

    Returns
    -------
    One Activity a layer, the mean of a sample.
    """
    engine.watch(1)
    if labels is None:
        engine.predict(images)
    else:
        engine.train(images, labels, control)
    counted = engine.activity()
    engine.watch(0)
    fields = (
        "inputs",
        "spikes",
        "errors",
        "learning_operations",
        "updates",
        "synaptic_operations",
        "error_operations",
    )
    return [Activity(*layer) for layer in zip(*map(counted.a_sample, fields), strict=True)]


# --- cost --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operations:
    """Operations of one sample. `active` and `inactive` are updates of neurons; hops are between tiles."""

    messages: float
    synaptic: float
    active: float
    inactive: float
    learning: float
    hops_x: float
    hops_y: float
    between_chips: float
    steps: int


class Cost:
    """Operations, energy and time of one sample that is alone in the network.

    Parameters
    ----------
    activity : one a layer
    """

    def __init__(self, placement: Placement, activity: Sequence[Activity]) -> None:
        self.placement, self.activity = placement, activity

    def share(self, link: Link) -> float:
        """Share of a link's source neurons that send in a sample, 0 to 1."""
        populations = self.placement.populations
        source, own = populations[link.source], self.activity[populations[link.target].layer]
        sent = {
            "forward": own.inputs,
            "mask": own.outputs,
            "third factor": own.errors,
            "feedback": self.activity[source.layer].errors,
        }
        return sent.get(link.role, source.size) / source.size  # every product goes to pool and loss

    def synaptic(self, link: Link, geometry: Geometry, counted: bool) -> float:
        """Synaptic operations of a link: as the activity's source counted them, or by the mean fan-out."""
        populations = self.placement.populations
        n = None
        if counted and link.role == "forward":
            n = self.activity[populations[link.target].layer].synapses
        elif counted and link.role == "feedback" and self.placement.use.feedback != "direct":
            n = self.activity[populations[link.source].layer].error_synapses
        return self.share(link) * geometry.connections if n is None else n

    @cached_property
    def edge_messages(self) -> np.ndarray:
        """Messages a sample on each of the placement's edges."""
        placement, edges = self.placement, self.placement.edges
        share = np.ones(len(edges.link))
        shares = np.array([self.share(link) for link in placement.links])
        share[edges.link >= 0] = shares[edges.link[edges.link >= 0]]
        labels = edges.link == LABEL
        share[labels] = 1 / max(1, edges.count[labels].sum())  # only the right class has one
        for index in np.flatnonzero(edges.link == TRACK):
            population = placement.populations[placement.pieces[edges.source[index]].population]
            share[index] = self.activity[population.layer].errors / population.size
        return edges.count * share

    @cached_property
    def distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Hops of each edge along the rows and along the columns of the mesh, X first, then Y."""
        placement, edges = self.placement, self.placement.edges
        x, y = (np.append(a, 0) for a in placement.xy(placement.core))  # the host, -1, sits at the first tile
        return np.abs(x[edges.source] - x[edges.target]), np.abs(y[edges.source] - y[edges.target])

    @cached_property
    def steps(self) -> int:
        """Time steps from a sample's first message to its last: layer after layer, then back."""
        placement = self.placement
        return sum(placement.steps) + 1 + placement.use.training

    @cached_property
    def learning(self) -> dict[int, float]:
        """Learning updates into each population: its own weights, and a copy of those above."""
        populations = self.placement.populations
        return {
            link.target: self.activity[populations[link.target].layer + (link.role == "feedback")].pairs
            for link in self.placement.links
            if link.learns
        }

    def operations(self, counted: bool = True) -> Operations:
        """All operations; `counted` as in `synaptic`."""
        placement, edges, messages = self.placement, self.placement.edges, self.edge_messages
        pairs = zip(placement.links, placement.geometries, strict=True)
        synaptic = sum(self.synaptic(link, geometry, counted) for link, geometry in pairs)
        synaptic += float(messages[np.isin(edges.link, (PARTIAL, LABEL, TRACK))].sum())
        neurons = placement.piece_resources["neurons"]
        active = float(neurons @ np.array([placement.steps[p.population] for p in placement.pieces]))
        chip_of = np.append(placement.core // placement.chip.cores, 0)
        across, down = self.distances
        return Operations(
            messages=float(messages.sum()),
            synaptic=synaptic,
            active=active,
            inactive=float(neurons.sum()) * self.steps - active,
            learning=sum(self.learning.values()),
            hops_x=float(messages @ across),
            hops_y=float(messages @ down),
            between_chips=float(messages[chip_of[edges.source] != chip_of[edges.target]].sum()),
            steps=self.steps,
        )

    def energy(self) -> dict[str, float]:
        """Energy by kind of operation, pJ; `static` is what the chips draw in a sample's time."""
        chip, o = self.placement.chip, self.operations()
        hops = o.hops_x * chip.energy_hop_x + o.hops_y * chip.energy_hop_y
        return {
            "synaptic operations": o.synaptic * chip.energy_synapse,
            "active neurons": o.active * chip.energy_neuron_active,
            "inactive neurons": o.inactive * chip.energy_neuron_inactive,
            "learning": o.learning * chip.energy_learning,
            "messages": o.messages * chip.energy_tile + hops,
            "static": chip.static_power * self.placement.chips * self.time(),  # mW * ns
        }

    def time(self) -> float:
        """Time, ns, without traffic jams and without a barrier over several chips.

        Populations work one after another and their cores side by side: each takes as long as its busiest
        piece. A step ends when every core has updated all its neurons, the farthest message is there, and a
        barrier.
        """
        chip, placement = self.placement.chip, self.placement
        across, down = self.distances
        far = float((across * chip.time_hop_x + down * chip.time_hop_y).max()) + chip.time_tile
        neurons = int(placement.core_resources["neurons"].max())
        step = chip.time_barrier + neurons * chip.time_neuron_inactive + far
        return self.steps * step + sum(self._busy(t) for t in range(1, len(placement.populations)))

    def _busy(self, t: int) -> float:
        """Time of the busiest piece of a population beyond its idle updates, ns."""
        chip, placement = self.placement.chip, self.placement
        mine = [piece for piece in placement.pieces if piece.population == t]
        share = max(p.synapses for p in mine) / sum(p.synapses for p in mine)
        pairs = zip(placement.links, placement.geometries, strict=True)
        synaptic = sum(self.synaptic(link, g, True) for link, g in pairs if link.target == t)
        update = max(p.neurons for p in mine) * (chip.time_neuron_active - chip.time_neuron_inactive)
        work = synaptic * chip.time_synapse + self.learning.get(t, 0.0) * chip.time_learning
        return share * work + placement.steps[t] * update

    def to_json(self) -> dict[str, Any]:
        """Everything the report says of the cost."""
        energy = {name: value * 1e-9 for name, value in self.energy().items()}
        dynamic = sum(value for name, value in energy.items() if name != "static")
        return {
            "activity": [asdict(a) for a in self.activity],
            "operations": {
                "counted": asdict(self.operations()),
                "formula": asdict(self.operations(counted=False)),
            },
            "energy_mJ": {**energy, "dynamic": dynamic},
            "time_ms": self.time() * 1e-6,
        }
