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

from mappings.chips.placement import LABEL, PARTIAL, TRACK, Geometry, Link, Placement
from wage_neuro.control import Control
from wage_neuro.engine import Engine
from wage_neuro.network import Network

PUBLISHED: dict[str, Any] = {
    "source": "backpropagation on Loihi, 400-400-10, MNIST, measured:"
    " Renner et al., Nature Communications 15, 9691 (2024), table 1",
    "layers": [400, 400, 10],
    "training": {"energy_mJ": 0.59, "time_ms": 1.5},
    "inference": {"energy_mJ": 0.0025, "time_ms": 0.17},
}
"""What others measured on a chip, a sample; which part of the energy is static is not said."""


def published_of(network: Network) -> dict[str, Any] | None:
    """What was measured of a network of the same layers, if anything.

    >>> published_of(Network.parse("400FC-10FC", (400,))) is PUBLISHED
    True
    >>> published_of(Network.parse("512FC-10FC", (784,)))
    """
    layers = [network.layers[0].in_shape, *(layer.out_shape for layer in network.layers)]
    return PUBLISHED if layers == [(size,) for size in PUBLISHED["layers"]] else None


@dataclass(frozen=True)
class Activity:
    """How much of a layer is active, mean a sample.

    Attributes
    ----------
    inputs, outputs, errors : values that are not zero: activations in and out, error codes E
    pairs : (weight, place) pairs at which a nonzero input meets a nonzero error; with coincidence updates, at
        which two spikes meet
    changed : stored weights that an update changed
    effective, error_effective : weights other than 0 that the inputs meet forward and the errors backward
    reached, error_reached : synapses that they meet, also those of weight 0
        None, where the source does not count them, leaves them to the formula.
    """

    inputs: float
    outputs: float
    errors: float = 0.0
    pairs: float = 0.0
    changed: float = 0.0
    effective: float | None = None
    reached: float | None = None
    error_effective: float | None = None
    error_reached: float | None = None


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
        "synapses_reached",
        "error_operations",
        "error_synapses_reached",
    )
    return [Activity(*layer) for layer in zip(*map(counted.a_sample, fields), strict=True)]


# --- cost --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operations:
    """Operations of one sample.

    Attributes
    ----------
    synaptic : what the chip does: at all synapses that spikes reach where they learn, and so are kept when
        their weight is 0; at those of other weights elsewhere; and at those between neurons one to one
    effective, reached, dense : of the network's weights, forward and feedback, as NeuroBench counts: spikes
        that meet a weight other than 0; that meet a stored synapse; and what it would be if no value and no
        weight were 0
    active, inactive : updates of neurons
    hops_x, hops_y : between tiles
    """

    messages: float
    synaptic: float
    effective: float
    reached: float
    dense: float
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

    def reached(self, link: Link, geometry: Geometry, counted: bool = True) -> float:
        """Synapses of a link that spikes reach: as the activity's source counted, or by the mean fan-out."""
        n = self._counts(link)[1] if counted else None
        return self.share(link) * geometry.connections if n is None else n

    def effective(self, link: Link, geometry: Geometry, counted: bool = True) -> float:
        """Those of a weight other than 0; none is known to be 0 where the source did not count."""
        n = self._counts(link)[0] if counted else None
        return self.reached(link, geometry, counted) if n is None else n

    def _counts(self, link: Link) -> tuple[float | None, float | None]:
        """Effective and reached synapses of a link, where they are counted."""
        source, target = (self.placement.populations[t].layer for t in (link.source, link.target))
        if link.role == "forward":
            own = self.activity[target]
            return own.effective, own.reached
        if link.role == "feedback":
            direct = self.placement.use.rules.feedback == "direct"
            own = self.activity[target if direct else source]
            return own.error_effective, own.error_reached
        return None, None

    def synaptic(self, link: Link, geometry: Geometry, counted: bool = True) -> float:
        """What the chip does: synapses that learn are kept, and reached, when their weight is 0."""
        return (self.reached if link.learns else self.effective)(link, geometry, counted)

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
        pairs = list(zip(placement.links, placement.geometries, strict=True))
        weights = [pair for pair in pairs if pair[0].role in ("forward", "feedback")]
        synaptic = sum(self.synaptic(*pair, counted) for pair in pairs)
        synaptic += float(messages[np.isin(edges.link, (PARTIAL, LABEL, TRACK))].sum())
        neurons = placement.piece_resources["neurons"]
        active = float(neurons @ np.array([placement.steps[p.population] for p in placement.pieces]))
        chip_of = np.append(placement.core // placement.chip.cores, 0)
        across, down = self.distances
        return Operations(
            messages=float(messages.sum()),
            synaptic=synaptic,
            effective=sum(self.effective(*pair, counted) for pair in weights),
            reached=sum(self.reached(*pair, counted) for pair in weights),
            dense=sum(geometry.connections for _, geometry in weights),
            active=active,
            inactive=float(neurons.sum()) * self.steps - active,
            learning=sum(self.learning.values()),
            hops_x=float(messages @ across),
            hops_y=float(messages @ down),
            between_chips=float(messages[chip_of[edges.source] != chip_of[edges.target]].sum()),
            steps=self.steps,
        )

    def energy(self) -> dict[str, float]:
        """Energy by kind of operation, pJ, nan where it is unknown; `static` is drawn in a sample's time."""
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
        synaptic = sum(self.synaptic(link, g) for link, g in pairs if link.target == t)
        update = max(p.neurons for p in mine) * (chip.time_neuron_active - chip.time_neuron_inactive)
        work = synaptic * chip.time_synapse + self.learning.get(t, 0.0) * chip.time_learning
        return share * work + placement.steps[t] * update

    def to_json(self) -> dict[str, Any]:
        """Everything the report says of the cost."""
        energy = {name: value * 1e-9 for name, value in self.energy().items()}
        total = sum(energy.values())
        in_mJ = {"total": total, "dynamic": total - energy["static"], **energy}
        return {
            "activity": [asdict(a) for a in self.activity],
            "operations": {
                "counted": asdict(self.operations()),
                "formula": asdict(self.operations(counted=False)),
            },
            "energy_mJ": in_mJ if self.placement.chip.tells_energy else None,
            "time_ms": self.time() * 1e-6,
        }
