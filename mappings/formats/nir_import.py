"""NIR graphs of others -> Network, where WAGE can say them: checked node by node, refused with the reason.

A graph is taken that is a chain of Linear, Affine or Conv2d without bias, whose weights are small whole
numbers times one scale, each but the last followed by a Threshold or an IF of one time step from rest;
Flatten before the first dense layer; SumPool2d with a second threshold below 1, which is a maximum. Spikes
are activations of k_A = 2 bits. A WAGE layer spikes past a power of two, so a threshold must lie between it
and the next whole number, in units of the weights; k_W, on which that power hangs, is the least that fits
all layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

from mappings.formats.inference import Inference, channels_last
from wage_neuro.bits import Bits
from wage_neuro.errors import NetworkError
from wage_neuro.network import Network
from wage_neuro.specs import Conv, Dense, Flatten, MaxPool

K_W_MAX = 7


@dataclass
class _Layer:
    """What is known of a layer: whole-number weights, channels first, and the threshold in their units."""

    name: str
    W: np.ndarray
    scale: float
    conv: nir.Conv2d | None
    pool: MaxPool | None = None
    threshold: np.ndarray | None = None


def from_others(graph: nir.NIRGraph) -> Inference:
    """Read the network out of a graph that wage-neuro did not write.

    Raises
    ------
    NetworkError
        If WAGE cannot say it; the line names the node.

    >>> W = np.array([[1.0, -1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.0]])
    >>> graph = nir.NIRGraph.from_list(nir.Linear(W), nir.Threshold(np.full(2, 1.5)), nir.Linear(W[:, :2]))
    >>> str(from_others(graph).network)
    '2FC-2FC'
    """
    layers, shape = _layers(list(_chain(graph)))
    least = max(int(np.abs(layer.W).max(initial=1)) for layer in layers).bit_length() + 1
    reason = ""
    for k_W in range(least, K_W_MAX + 1):
        network = _network(layers, shape, k_W)
        reason = reason or _misfit(network, layers)
        if not _misfit(network, layers):
            V = (channels_last(network, one, of.W) for one, of in zip(network.layers, layers, strict=True))
            return Inference(network, tuple(V))
    raise NetworkError(reason or f"weights need k_W={least}; want {K_W_MAX} at most")


def _chain(graph: nir.NIRGraph) -> Iterator[tuple[str, nir.NIRNode]]:
    """Nodes from the input to the output."""
    name = next((n for n, node in graph.nodes.items() if isinstance(node, nir.Input)), None)
    edges, seen = set(graph.edges), set[str]()
    while name is not None and name not in seen:
        seen.add(name)
        yield name, graph.nodes[name]
        after = [target for source, target in edges if source == name]
        before = [source for source, target in edges if target == name]
        if len(after) > 1 or len(before) > 1:
            raise NetworkError(f"node {name!r}: hears {len(before)}, is heard by {len(after)}; want a chain")
        name = after[0] if after else None
    if seen != set(graph.nodes):
        raise NetworkError(f"node {min(set(graph.nodes) - seen)!r}: not on the way from input to output")


def _layers(chain: list[tuple[str, nir.NIRNode]]) -> tuple[list[_Layer], tuple[int, ...]]:
    shape = tuple(int(n) for n in next(iter(chain[0][1].output_type.values()))) if chain else ()
    layers: list[_Layer] = []
    for name, node in chain:
        last = layers[-1] if layers else None
        match node:
            case nir.Input() | nir.Output() | nir.Flatten():
                pass
            case nir.Linear() | nir.Affine() | nir.Conv2d():
                if last and last.threshold is None:
                    raise NetworkError(f"node {name!r}: follows weights; want a Threshold or IF between them")
                layers.append(_weights(name, node))
            case nir.Threshold(threshold=theta) if last:
                _threshold(name, last, theta)
            case nir.IF(r=r, v_threshold=theta) if last:
                if np.any(r != 1):
                    raise NetworkError(f"node {name!r}: r={np.asarray(r).flat[0]:g}; want 1")
                _threshold(name, last, theta)
            case nir.SumPool2d(kernel_size=size, stride=stride, padding=padding) if last:
                if last.threshold is None or np.any(padding) or len({*np.ravel(size)}) != 1:
                    raise NetworkError(f"node {name!r}: want a square SumPool2d of spikes without padding")
                k, step = int(np.ravel(size)[0]), int(np.ravel(stride)[0])
                last.pool = MaxPool(k, None if step == k else step)
            case _:
                raise NetworkError(f"node {name!r}: a {type(node).__name__}; WAGE has none there")
    if not layers:
        raise NetworkError("a graph without weights")
    if layers[-1].threshold is not None:
        raise NetworkError(f"node {layers[-1].name!r}: the last layer answers with sums; want no threshold")
    return layers, shape


def _weights(name: str, node: Any) -> _Layer:
    if np.any(getattr(node, "bias", 0)):
        raise NetworkError(f"node {name!r}: a bias; WAGE has none")
    conv = node if isinstance(node, nir.Conv2d) else None
    if conv and (conv.groups != 1 or np.any(np.asarray(conv.dilation) != 1)):
        raise NetworkError(f"node {name!r}: groups={conv.groups}, dilation={conv.dilation}; want 1 of each")
    W = np.asarray(node.weight, np.float64)
    if conv and len({*W.shape[2:]}) != 1:
        raise NetworkError(f"node {name!r}: a kernel of {W.shape[2]} x {W.shape[3]}; want a square")
    scale = float(np.abs(W[W != 0]).min(initial=np.inf))
    scale = scale if np.isfinite(scale) else 1.0
    whole = np.rint(W / scale)
    wrong = np.abs(W / scale - whole) > 1e-6 * np.maximum(1, np.abs(whole))
    if wrong.any() or not np.isfinite(W).all() or np.abs(whole).max(initial=0) >= 2 ** (K_W_MAX - 1):
        value = W[wrong][0] if wrong.any() else np.abs(W).max()
        most = 2 ** (K_W_MAX - 1) - 1
        raise NetworkError(
            f"node {name!r}: weight {value:g} beside {scale:g}; want whole multiples of one number,"
            f" {most} at most"
        )
    return _Layer(name, whole, scale, conv)


def _threshold(name: str, layer: _Layer, theta: np.ndarray) -> None:
    if layer.threshold is None:
        layer.threshold = np.asarray(theta, np.float64) / layer.scale
    elif layer.pool is None or np.any(theta < 0) or np.any(theta >= 1):
        raise NetworkError(f"node {name!r}: a second threshold; want one below 1 after a SumPool2d")


def _network(layers: list[_Layer], shape: tuple[int, ...], k_W: int) -> Network:
    specs: list[Any] = []
    for layer in layers:
        if layer.conv is None:
            specs += [Flatten()] if len(shape) == 3 and Flatten() not in specs else []
            specs.append(Dense(len(layer.W)))
        else:
            zeros = "SAME" if np.any(layer.conv.padding) else "VALID"
            stride = int(np.ravel(layer.conv.stride)[0])
            specs.append(Conv(len(layer.W), layer.W.shape[2], stride, zeros))
        specs += [layer.pool] if layer.pool else []
    input_shape = (*shape[1:], shape[0]) if len(shape) == 3 else shape
    return Network(tuple(specs), input_shape, Bits(k_W, 2 if len(layers) > 1 else 8))


def _misfit(network: Network, layers: list[_Layer]) -> str:
    """Why the network would not answer as the graph does, or nothing."""
    for layer, of in zip(network.layers, layers, strict=True):
        if of.conv is not None:
            zeros = np.broadcast_to(np.asarray(of.conv.padding), 2)
            if layer.padding != (zeros[0], zeros[0], zeros[1], zeros[1]):
                return f"node {of.name!r}: padding {zeros.tolist()}; {layer} has {list(layer.padding)}"
        if of.threshold is not None:
            past = 1 << (layer.z_shift - 1)
            wrong = np.floor(of.threshold) != past
            if wrong.any():
                found, unit = float(np.ravel(of.threshold)[np.ravel(wrong)][0]) * of.scale, of.scale
                return (
                    f"node {of.name!r}: a threshold of {found:g}; {layer} of k_W={network.bits.k_W} spikes"
                    f" past {past * unit:g}: want {past * unit:g} or more, below {(past + 1) * unit:g}"
                )
    return ""
