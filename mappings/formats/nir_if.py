"""Network -> NIR graph of Conv2d and IF alone, which snntorch, norse and sinabs load too.

None of them knows a Threshold, sinabs no Linear, snntorch one threshold a node, none a convolution in groups,
and no pooling is common to them. So every layer is a Conv2d (a dense one has a kernel as large as its input),
then, for each layer but the last:

`layerN.levels`  Conv2d of one place: every channel of Z once for each level of its activation, with the bias
                 theta - t, where t is half a unit beside the tie below that level
`layerN.spikes`  IF of threshold theta, which spikes where Z > t
`layerN.sum`     Conv2d of one place: the spikes of a channel's levels, counted

An IF is asked for one time step, from rest. Theta is a power of two past every |Z - t|, so that no neuron may
spike twice in that step, and nothing in the graph meets a threshold: how it resets, and whether it spikes at
the threshold or past it, do not matter. Every value is a whole number or a half of one, exact in float32.

The graph takes (channels, height, width) input codes, of a dense network (features, 1, 1), and answers with
(classes, 1, 1) products Z.
"""

from __future__ import annotations

import io
import math
from itertools import pairwise
from pathlib import Path

import nir
import numpy as np

from mappings.formats.inference import (
    Inference,
    channels_first,
    channels_first_shape,
    source_shape,
    symmetric_padding,
)
from wage_neuro.errors import NetworkError
from wage_neuro.files import written_whole
from wage_neuro.kinds import Kind
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.specs import Conv, Dense, assert_never
from wage_neuro.support import Support

EXACT = 2**24  # whole numbers that float32 holds
TAKES = Support(who="nir-if", kinds=frozenset({Kind.DENSE, Kind.CONV}))  # no pooling is common to them
VALUES_MAX = 2**27  # of a graph, four bytes each


def to_nir_if(inference: Inference) -> nir.NIRGraph:
    """Build the NIR graph of a network.

    Raises
    ------
    NetworkError
        If it has max-pooling, its levels make it too large, or a sum could pass what float32 holds exactly.

    >>> from wage_neuro import Network, initial_state
    >>> from wage_neuro.checkpoint import Checkpoint
    >>> from wage_neuro.rules import Rules
    >>> net = Network.parse("2C3-F-3FC", (6, 6, 1), bits="2288")
    >>> graph = to_nir_if(Inference.of(Checkpoint(net, Rules(), initial_state(net))))
    >>> list(graph.nodes)
    ['input', 'layer0', 'layer0.levels', 'layer0.spikes', 'layer0.sum', 'layer1', 'output']
    """
    network = inference.network
    check(network)
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input(np.array(_image(network.input_shape)))}
    for layer, V in zip(network.layers, inference.V, strict=True):
        nodes[f"layer{layer.index}"] = _weights(network, layer, V)
        if not layer.is_last:
            nodes |= _activation(layer)
    nodes["output"] = nir.Output(np.array(_image(network.layers[-1].out_shape)))
    names = list(nodes)
    metadata = {"wage_neuro": inference.header(), "input_codes": network.input_codes, "form": "if"}
    return nir.NIRGraph(nodes, list(pairwise(names)), metadata)


def write(path: Path, inference: Inference) -> None:
    """Write a NIR file; an existing file is replaced at the end, in one step."""
    write_graph(path, to_nir_if(inference))


def write_graph(path: Path, graph: nir.NIRGraph) -> None:
    """Write a graph, whole or not at all."""
    content = io.BytesIO()
    nir.write(content, graph)
    with written_whole(path) as file:
        file.write(content.getbuffer())


def read(path: Path) -> Inference:
    """Read a NIR file, as `nir.read` does."""
    from mappings.formats.nir import read as read_either

    return read_either(path)


def check(network: Network) -> None:
    """Raise NetworkError unless the graph can say a network."""
    TAKES.check(network)
    for layer in network.layers:
        where = f"layer {layer.index} {layer}"
        if 4 * theta(layer) > EXACT:
            raise NetworkError(f"{where}: a sum may reach {layer.z_bound}, past what NIR's float32 holds")
    if values(network) > VALUES_MAX:
        raise NetworkError(
            f"{network}: its levels take {values(network):,} values as IF neurons and synapses; want"
            f" {VALUES_MAX:,} at most: fewer channels, fewer levels (k_A), or --to nir"
        )


def thresholds(layer: Layer) -> np.ndarray:
    """(levels,) float32: level j is reached where Z exceeds thresholds[j - 1], in units of Z.

    >>> from wage_neuro import Network
    >>> net = Network.parse("4FC-2FC", (4,), bits="2388")
    >>> net.layers[0].z_shift, thresholds(net.layers[0]).tolist()
    (1, [1.5, 2.5, 5.5])
    """
    j = np.arange(1, layer.bits.activation_max + 1)
    ties = (2 * j - 1) << (layer.z_shift - 1)
    return (ties + np.where(j % 2, 0.5, -0.5)).astype(np.float32)


def theta(layer: Layer) -> int:
    """Threshold of a layer's IF neurons: a power of two past every |Z - t|."""
    return 1 << (layer.z_bound + int(thresholds(layer)[-1]) + 1).bit_length()


def values(network: Network) -> int:
    """Most numbers that the graph of a network may hold."""
    total = 0
    for layer in network.layers:
        image = _image(source_shape(network, layer))
        side = layer.window[0] + 1 if layer.window else max(image[1:])
        total += layer.z_shape[-1] * (image[0] * side**2 + 2)
    for layer in network.layers[:-1]:
        levels, channels = layer.bits.activation_max, layer.z_shape[-1]
        total += levels * (2 * channels**2 + 3 * math.prod(layer.z_shape) + channels)
    return total


def _image(shape: tuple[int, ...]) -> tuple[int, ...]:
    first = channels_first_shape(shape)
    return first if len(first) == 3 else (first[0], 1, 1)


def _weights(network: Network, layer: Layer, V: np.ndarray) -> nir.Conv2d:
    W = np.ascontiguousarray(channels_first(network, layer, V), np.float32)
    match layer.spec:
        case Dense():
            image = _image(source_shape(network, layer))
            rows, columns, zeros = _square(image)
            kernel = np.zeros((len(W), image[0], max(image[1:]), max(image[1:])), np.float32)
            kernel[:, :, rows, columns] = W.reshape(-1, *image)
            return _conv(kernel, image[1:], np.zeros(len(W)), max(image) + 1, zeros)
        case Conv(stride=stride):
            return _conv(W, layer.in_shape[:2], np.zeros(len(W)), stride, symmetric_padding(layer))
        case _:
            assert_never(layer.spec)


def _square(image: tuple[int, ...]) -> tuple[slice, slice, tuple[int, int]]:
    """Where an image lies in a square kernel, rows and columns, and the zeros about it.

    NIR 1.0.8 takes every kernel for a square when it works out shapes.
    """
    zeros = [-((n - max(image[1:])) // 2) for n in image[1:]]
    rows, columns = (slice(before, before + n) for before, n in zip(zeros, image[1:], strict=True))
    return rows, columns, (zeros[0], zeros[1])


def weights_of(network: Network, layer: Layer, node: nir.Conv2d) -> np.ndarray:
    """Undo what put the weights of a layer, as `channels_first` gives them, into its Conv2d."""
    if layer.window:
        return node.weight
    rows, columns, _ = _square(_image(source_shape(network, layer)))
    return node.weight[:, :, rows, columns].reshape(len(node.weight), -1)


def _activation(layer: Layer) -> dict[str, nir.NIRNode]:
    image = _image(layer.z_shape)
    ties, threshold, name = thresholds(layer), theta(layer), f"layer{layer.index}"
    copies = np.repeat(np.eye(image[0], dtype=np.float32), len(ties), axis=0)[:, :, None, None]
    spikes = (len(copies), *image[1:])
    bias = np.tile(threshold - ties.astype(np.float64), image[0])
    return {
        f"{name}.levels": _conv(copies, image[1:], bias),
        f"{name}.spikes": nir.IF(
            r=np.ones(spikes, np.float32),
            v_threshold=np.full(spikes, threshold, np.float32),
            v_reset=np.zeros(spikes, np.float32),
        ),
        f"{name}.sum": _conv(np.ascontiguousarray(copies.swapaxes(0, 1)), image[1:], np.zeros(image[0])),
    }


def _conv(
    W: np.ndarray,
    size: tuple[int, ...],
    bias: np.ndarray,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
) -> nir.Conv2d:
    return nir.Conv2d(tuple(size), W, (stride, stride), padding, (1, 1), 1, bias.astype(np.float32))
