"""Network <-> NIR graph, for inference; exact, from NIR's own primitives alone. A second form: `nir_if`.

NIR 1.0.8 has no ReLU, no rounding, no saturation and no max-pooling, but it has thresholds and sums. An
activation of k_A bits is a count of levels: level j (1 .. 2**(k_A-1) - 1) is reached where Z exceeds

    (j - 1/2) 2**z_shift,  ties to even: a tie reaches even levels only

and A is the number of levels reached. So a layer is one Linear or Conv2d with whole-number weights, then a
Threshold a level, all of which send to the next layer, whose inputs are summed. A threshold lies half a unit
of Z beside its tie, so it never meets a value; the scale 2**-(k_W-1) 2**-s of the layer is in it. A window's
maximum reaches a level where any of its places does, so max-pooling is, a level: Threshold, SumPool2d,
Threshold at 1/2.

The graph takes the input codes of `Network.encode` and answers with the products Z of the last layer; every
value in it is a whole number, exact in float32. Images are (channels, height, width), as in PyTorch. The
graph's metadata holds `wage_neuro`, a JSON text that names the network, and `input_codes`, the code of each
grey level.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nir
import numpy as np

from mappings.formats import hdf5
from mappings.formats.inference import (
    Inference,
    channels_first,
    channels_first_shape,
    channels_last,
    flattens,
    reading,
    source_shape,
    symmetric_padding,
)
from mappings.formats.nir_if import thresholds, to_nir_if, weights_of, write_graph
from mappings.formats.nir_import import from_others
from wage_neuro.errors import CheckpointError, NetworkError
from wage_neuro.kinds import Kind
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.specs import Conv, Dense, assert_never, max_pool
from wage_neuro.support import Support

TAKES = Support(who="a NIR graph", kinds=frozenset({Kind.DENSE, Kind.CONV, Kind.MAX_POOL}))
K_A_MAX = 8  # a Threshold a level: 127 a layer; twice as many with every bit more
EXACT = 2**24  # whole numbers that float32 holds


def to_nir(inference: Inference) -> nir.NIRGraph:
    """Build the NIR graph of a network.

    Raises
    ------
    NetworkError
        If k_A is too wide to count its levels, or a sum could pass what float32 holds exactly.

    >>> from wage_neuro import Network, initial_state
    >>> from wage_neuro.checkpoint import Checkpoint
    >>> from wage_neuro.rules import Rules
    >>> net = Network.parse("2C3-MP2-F-3FC", (6, 6, 1), bits="2288")
    >>> graph = to_nir(Inference.of(Checkpoint(net, Rules(), initial_state(net))))
    >>> list(graph.nodes)
    ['input', 'layer0', 'layer0.level1', 'layer0.pool1', 'layer0.max1', 'flatten', 'layer1', 'output']
    """
    network = inference.network
    _check(network)
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input(np.array(channels_first_shape(network.input_shape)))}
    edges: list[tuple[str, str]] = []

    def add(name: str, node: nir.NIRNode, *senders: str) -> str:
        nodes[name] = node
        edges.extend((sender, name) for sender in senders)
        return name

    senders = ["input"]
    for layer, V in zip(network.layers, inference.V, strict=True):
        if flattens(network, layer):
            shape = channels_first_shape(source_shape(network, layer))
            senders = [add("flatten", nir.Flatten({"input": np.array(shape)}, 0, -1), *senders)]
        name = add(f"layer{layer.index}", _weights(network, layer, V), *senders)
        senders = [name]
        if not layer.is_last:
            senders = [
                _level(add, layer, name, j, theta) for j, theta in enumerate(thresholds(layer), start=1)
            ]
    add("output", nir.Output(np.array(network.layers[-1].out_shape)), *senders)
    metadata = {"wage_neuro": inference.header(), "input_codes": network.input_codes}
    return nir.NIRGraph(nodes, edges, metadata)


def _weights(network: Network, layer: Layer, V: np.ndarray) -> nir.NIRNode:
    W = np.ascontiguousarray(channels_first(network, layer, V), np.float32)
    metadata = {"z_shift": layer.z_shift}
    match layer.spec:
        case Dense():
            return nir.Linear(W, metadata=metadata)
        case Conv(stride=stride):
            bias, padding = np.zeros(len(W), np.float32), symmetric_padding(layer)
            return nir.Conv2d(
                layer.in_shape[:2], W, (stride, stride), padding, (1, 1), 1, bias, metadata=metadata
            )
        case _:
            assert_never(layer.spec)


def _level(add: Any, layer: Layer, source: str, j: int, theta: float) -> str:
    z_shape, out_shape = channels_first_shape(layer.z_shape), channels_first_shape(layer.out_shape)
    level = add(f"{source}.level{j}", nir.Threshold(np.full(z_shape, theta, np.float32)), source)
    pool = max_pool(layer.pool)
    if not pool:
        return level
    size, step = np.full(2, pool.size), np.full(2, pool.step)
    summed = add(f"{source}.pool{j}", nir.SumPool2d(size, step, np.zeros(2, int)), level)
    return add(f"{source}.max{j}", nir.Threshold(np.full(out_shape, 0.5, np.float32)), summed)


def _check(network: Network) -> None:
    TAKES.check(network)
    if network.bits.k_A > K_A_MAX:
        raise NetworkError(
            f"k_A={network.bits.k_A}: NIR counts an activation's levels one by one; want {K_A_MAX} at most"
        )
    for layer in network.layers:
        if 2 * layer.z_bound > EXACT:  # the half beside a tie takes a bit
            raise NetworkError(
                f"layer {layer.index} {layer}: a sum may reach {layer.z_bound}, past the {EXACT // 2}"
                " that NIR's float32 holds with a half"
            )


def from_nir(graph: nir.NIRGraph) -> Inference:
    """Read the network out of a graph that `to_nir` built, or out of another's; see `nir_import`.

    Raises
    ------
    CheckpointError, NetworkError
        If it is newer, or changed in any node or edge since; or another's that WAGE cannot say.
    """
    header, spiking = graph.metadata.get("wage_neuro"), "form" in graph.metadata
    if header is None and "input_codes" not in graph.metadata:
        return from_others(graph)
    if header is None:
        raise CheckpointError("a NIR graph of wage-neuro without its metadata 'wage_neuro'")

    def all_weights(network: Network) -> Iterator[np.ndarray]:
        for layer in network.layers:
            node = graph.nodes[f"layer{layer.index}"]
            W = weights_of(network, layer, node) if spiking else node.weight
            wanted = _weights(network, layer, np.zeros(layer.weight_shape)).weight.shape
            if W.shape != wanted:
                raise NetworkError(f"weights of layer {layer.index} {layer}: shape {W.shape}; want {wanted}")
            yield channels_last(network, layer, W)

    inference = Inference.from_header(header, all_weights)
    wanted = to_nir_if(inference) if spiking else to_nir(inference)
    _check_same(graph, wanted, inference.network)
    return inference


def _check_same(graph: nir.NIRGraph, wanted: nir.NIRGraph, network: Network) -> None:
    if set(graph.nodes) != set(wanted.nodes) or set(graph.edges) != set(wanted.edges):
        raise CheckpointError(f"nodes or edges of the graph are not those of {network}")
    for name, node in wanted.nodes.items():
        one, other = graph.nodes[name].to_dict(), node.to_dict()
        for field in other:
            if field != "metadata" and not np.array_equal(one[field], other[field]):
                raise CheckpointError(f"node {name}: its {field} is not that of {network}")


def write(path: Path, inference: Inference) -> None:
    """Write a NIR file; an existing file is replaced at the end, in one step."""
    write_graph(path, to_nir(inference))


def read(path: Path) -> Inference:
    """Read a NIR file; CheckpointError if it is missing, damaged, newer or not of wage-neuro."""
    with reading(path, "NIR file"):
        if not hdf5.check(path).startswith("nir"):
            raise CheckpointError("a netx file, not a NIR file")
        return from_nir(nir.read(path))
