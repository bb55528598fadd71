"""A chip, and a dense network placed on it, as SANA-FE's architecture and network files (2.2.9).

SANA-FE simulates neuromorphic chips and counts messages, hops, energy and time in its own way. Its neurons
are not ours, so the network file replays one sample: the inputs that are not zero spike in the first step,
the neurons of layer i whose activation is not zero in step i + 2, driven by a bias that no sum reaches.
Synapses are the visible weights, those of 0 too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mappings.chips.chip import Chip, ChipError
from mappings.chips.placement import HOST, Placement
from wage_neuro.errors import NetworkError
from wage_neuro.kinds import Kind, kinds_of

_AXES = {"east": "x", "west": "x", "north": "y", "south": "y"}
DRIVE = 1e6  # a step, of a neuron that is to spike
NEVER = 1e30
PJ, NS = 1e-12, 1e-9


def architecture(chip: Chip, inputs: int) -> str:
    """YAML of a chip's mesh, with its energies and times, and as many input neurons a core beside its own.

    >>> architecture(Chip.load("loihi2"), 64).splitlines()[1:4]
    ['  name: Loihi 2', '  attributes:', '    topology: mesh']
    """
    if not chip.tells_energy:
        raise ChipError(f"chip {chip.name!r}: its energies are unknown, and SANA-FE wants them")
    neuron = {
        "energy_access_neuron": chip.energy_neuron_inactive * PJ,
        "energy_update_neuron": (chip.energy_neuron_active - chip.energy_neuron_inactive) * PJ,
        "latency_access_neuron": chip.time_neuron_inactive * NS,
        "latency_update_neuron": (chip.time_neuron_active - chip.time_neuron_inactive) * NS,
    }
    ways = {
        f"{what}_{way}_hop": getattr(chip, f"{name}_hop_{axis}") * scale
        for way, axis in _AXES.items()
        for what, name, scale in (("energy", "energy", PJ), ("latency", "time", NS))
    }
    nothing = dict.fromkeys((*neuron, "energy_spike_out", "latency_spike_out"), 0.0)
    parts = (
        ("axon_in", "axon_in", "", {"energy_message_in": 0.0, "latency_message_in": 0.0}),
        (
            "synapse",
            "synapse",
            "current_based",
            {
                "energy_process_spike": chip.energy_synapse * PJ,
                "latency_process_spike": chip.time_synapse * NS,
            },
        ),
        ("dendrite", "dendrite", "accumulator", {"energy_update": 0.0, "latency_update": 0.0}),
        ("soma", f"inputs[0..{inputs - 1}]", "input", nothing),
        ("", "lif", "leaky_integrate_fire", {**nothing, **neuron}),
        (
            "axon_out",
            "axon_out",
            "",
            {"energy_message_out": chip.energy_tile * PJ, "latency_message_out": chip.time_tile * NS},
        ),
    )
    lines = [
        "architecture:",
        f"  name: {chip.name}",
        "  attributes:",
        "    topology: mesh",
        f"    width: {chip.mesh_columns}",
        f"    height: {chip.mesh_rows}",
        "    link_buffer_size: 16",
        "    sync_model: fixed",
        f"    latency_sync: {chip.time_barrier * NS:.6e}",
        "  tile:",
        *_unit(f"tile[0..{chip.mesh_columns * chip.mesh_rows - 1}]", "", ways, 4),
        "      core:",
        f"        - name: core[0..{chip.tile_cores - 1}]",
        "          attributes:",
        "            buffer_position: soma",
        f"            max_neurons_supported: {chip.core_neurons + inputs}",
    ]
    for kind, name, model, numbers in parts:
        lines += [f"          {kind}:"] if kind else []
        lines += _unit(name, model, numbers, 12)
    return "\n".join(lines) + "\n"


def _unit(name: str, model: str, numbers: dict[str, float], indent: int) -> list[str]:
    space = " " * indent
    lines = [f"{space}- name: {name}", f"{space}  attributes:"]
    lines += [f"{space}    model: {model}"] if model else []
    return lines + [f"{space}    {key}: {value:.6e}" for key, value in numbers.items()]


def network(placement: Placement, V: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> str:
    """YAML of a placed dense network that replays one sample.

    Parameters
    ----------
    V : visible weights of each layer
    values : input codes of each layer, (fan_in,): what is not zero spikes

    Raises
    ------
    NetworkError
        If it has other than dense layers, is on more than one chip, or learns.
    """
    check(placement)
    sizes = [population.size for population in placement.populations]
    steps = len(sizes)
    lines = ["network:", f"  name: wage_neuro_{'_'.join(map(str, sizes))}", "  groups:"]
    for t, size in enumerate(sizes):
        lines += [f"    - name: p{t}", "      attributes: {log_spikes: true}", "      neurons:"]
        for j in range(size):
            sends = t < len(values) and bool(values[t][j])
            lines.append(f"        - {j}: {_neuron(t, sends, steps)}")
    lines.append("  edges:")
    for t, weights in enumerate(V):
        text = ", ".join(map(str, np.asarray(weights).reshape(sizes[t], sizes[t + 1]).reshape(-1).tolist()))
        lines.append(f"    - p{t} -> p{t + 1}: [type: dense, weight: [{text}]]")
    lines.append("mappings:")
    lines += [f'  - p0.{j}: [core: 0.0, soma: "inputs[{j}]"]' for j in range(sizes[0])]
    for piece, core in zip(placement.pieces, placement.core.tolist(), strict=True):
        low, high = piece.channels
        lines.append(
            f'  - p{piece.population}.{low}..{high - 1}: [core: {_place(placement, core)}, soma: "lif"]'
        )
    return "\n".join(lines) + "\n"


def _neuron(t: int, sends: bool, steps: int) -> str:
    if t == 0:
        return f"[spikes: [{', '.join(map(str, [int(sends)] + [0] * (steps - 1)))}]]"
    if not sends:
        return f"[soma: {{threshold: {NEVER:.1e}}}]"
    return f"[soma: {{threshold: {(t + 0.5) * DRIVE:.2e}, bias: {DRIVE:.1e}, reset: {-NEVER:.1e}}}]"


def _place(placement: Placement, core: int) -> str:
    """`tile.core`; SANA-FE numbers tiles down the columns of the mesh."""
    x, y = (int(place) for place in placement.xy(np.array(core)))
    return f"{x * placement.chip.mesh_rows + y}.{core % placement.chip.tile_cores}"


def check(placement: Placement) -> None:
    """Raise NetworkError unless SANA-FE's files can say a placement."""
    for layer in placement.network.layers:
        if kinds_of(layer) != {Kind.DENSE}:
            raise NetworkError(
                f"layer {layer.index} {layer}: SANA-FE's files are written of dense layers alone"
            )
    if placement.use.training:
        raise NetworkError("SANA-FE's neurons do not learn: want a placement for inference")
    if placement.chips > 1:
        raise NetworkError(f"{placement.chips} chips: want a placement on 1, SANA-FE simulates one mesh")
    if any(piece.first != index for index, piece in enumerate(placement.pieces)):
        raise NetworkError("inputs in slices: want a chip whose cores hear all inputs (axons_in)")


def messages_and_hops(placement: Placement, values: Sequence[np.ndarray]) -> tuple[int, int, int]:
    """Messages between pieces, and hops along rows and columns, of one sample: by our own placement."""
    x, y = (np.append(places, 0) for places in placement.xy(placement.core))  # the host: the first tile
    total = np.zeros(3, np.int64)
    for source, target, link in _edges(placement):
        sent = values[placement.links[link].source]
        if source != HOST:
            sent = sent[slice(*placement.pieces[source].channels)]
        way = (1, abs(x[source] - x[target]), abs(y[source] - y[target]))
        total += np.count_nonzero(sent) * np.array(way)
    return int(total[0]), int(total[1]), int(total[2])


def _edges(placement: Placement) -> Iterator[tuple[int, int, int]]:
    edges = placement.edges
    for source, target, link in zip(
        edges.source.tolist(), edges.target.tolist(), edges.link.tolist(), strict=True
    ):
        if link >= 0:
            yield source, target, link
