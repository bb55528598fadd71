"""Network <-> lava-dl's netx HDF5 form, for inference by sigma-delta neurons.

netx (lava-dl 0.6.0) makes each block a synapse and a neuron; its graded neuron is SigmaDelta: it adds up what
it gets, adds a bias, cuts below 0, drops 6 bits, and sends what has changed. Messages carry 6 bits after the
point. So:

- Weights are V 2**(6 - z_shift), so that dropping 6 bits is the layer's scale. z_shift <= 6 is needed; the
  paper's nets have it.
- Activations end at 2**(k_A-1) - 1, which the neuron does not know: every neuron has a partner with the same
  weights and that bias below it, and the layer above takes the difference. This doubles the hidden layers.
- Activations are not rounded to whole codes: netx keeps their 6 bits. The classes are the same but for near
  ties, not the bits; NIR and packed weights keep the bits.
- The last layer has weights V and a Sigma neuron: it sends its running sum, 64 Z.
- netx has no pooling: a network with MaxPool is refused.

Load it with `hdf5.Network(FILE, skip_layers=1)`. Feed it with input codes times 64, as changes from the image
before, then with zeros until it has settled, a step a layer. Images are (width, height, channels) there,
(channels, height, width) in the file; a network that begins with Flatten takes the latter as a row.

The HDF5 attribute `wage_neuro`, which netx does not read, names the network in JSON.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from mappings.formats import hdf5
from mappings.formats.inference import (
    Inference,
    channels_first,
    channels_first_shape,
    channels_last,
    flattens,
    reading,
    symmetric_padding,
)
from wage_neuro.errors import CheckpointError, NetworkError
from wage_neuro.files import written_whole
from wage_neuro.kinds import Kind
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.specs import Conv, Dense, assert_never
from wage_neuro.support import Support

TAKES = Support(who="netx", kinds=frozenset({Kind.DENSE, Kind.CONV}))  # pooling: a Conv with a stride, or NIR
FRACTION_BITS = 6  # netx: spike_exp and state_exp

Tree = dict[str, np.ndarray | bytes | int]


def to_netx(inference: Inference) -> Tree:
    """Return the datasets of a netx file, by path.

    Raises
    ------
    NetworkError
        If a layer pools, or scales by more than 2**-6.

    >>> from wage_neuro import Network, initial_state
    >>> from wage_neuro.checkpoint import Checkpoint
    >>> from wage_neuro.rules import Rules
    >>> net = Network.parse("8FC-3FC", (6,))
    >>> tree = to_netx(Inference.of(Checkpoint(net, Rules(), initial_state(net))))
    >>> tree["layer/1/weight"].shape, tree["layer/2/weight"].shape
    ((16, 6), (3, 16))
    """
    network = inference.network
    TAKES.check(network)
    for layer in network.layers:
        _check(layer)
    blocks: list[Tree] = [_block("input", network.input_shape, _neuron())]
    for layer, V in zip(network.layers, inference.V, strict=True):
        if flattens(network, layer):
            blocks.append({"type": b"flatten"})
        blocks.append(_layer(network, layer, V))
    return {f"layer/{i}/{name}": value for i, block in enumerate(blocks) for name, value in block.items()}


def _layer(network: Network, layer: Layer, V: np.ndarray) -> Tree:
    W = _weights(network, layer, V)
    if layer.is_last:
        return _block("dense", layer.out_shape, _neuron(sigma_output=1), weight=W)
    top = layer.bits.activation_max
    shape = (*layer.out_shape[:-1], 2 * layer.out_shape[-1])
    bias = np.repeat(np.array([0, -top], np.int32), layer.out_shape[-1])
    match layer.spec:
        case Dense():
            return _block("dense", shape, _neuron(), weight=W, bias=bias)
        case Conv(stride=stride):
            return _block(
                "conv",
                shape,
                _neuron(),
                weight=W,
                bias=bias,
                stride=stride,
                padding=np.array(symmetric_padding(layer)),
                dilation=1,
                groups=1,
            )
        case _:
            assert_never(layer.spec)


def _block(kind: str, shape: tuple[int, ...], neuron: Tree, **values: np.ndarray | int) -> Tree:
    return {"type": kind.encode(), "shape": np.array(channels_first_shape(shape)), **values, **neuron}


def _neuron(**more: int) -> Tree:
    return {"neuron/type": b"SDNN", "neuron/vThMant": 0, **{f"neuron/{name}": v for name, v in more.items()}}


def _weights(network: Network, layer: Layer, V: np.ndarray) -> np.ndarray:
    W = channels_first(network, layer, V).astype(np.int32)
    if not layer.is_last:
        W = np.concatenate([W, W]) << (FRACTION_BITS - layer.z_shift)
    if not layer.index:
        return W
    # the channels from below, then their partners
    if not flattens(network, layer):
        return np.concatenate([W, -W], axis=1)
    channels = network.layers[layer.index - 1].out_shape[-1]
    rows = W.reshape(len(W), channels, -1)
    return np.concatenate([rows, -rows], axis=1).reshape(len(W), -1)


def _unweights(network: Network, layer: Layer, W: np.ndarray) -> np.ndarray:
    """Undo `_weights`: the first half of the inputs and outputs, in units of a weight code."""
    if not layer.is_last:
        W = W[: len(W) // 2] / (1 << (FRACTION_BITS - layer.z_shift))
    if layer.index:
        W = W[:, : W.shape[1] // 2]  # channels come first, so that partners are the second half
    return channels_last(network, layer, W)


def _check(layer: Layer) -> None:
    where = f"layer {layer.index} {layer}"
    if not layer.is_last and layer.z_shift > FRACTION_BITS:
        raise NetworkError(f"{where}: scales by 2**-{layer.z_shift}; netx can by 2**-{FRACTION_BITS} at most")
    if layer.bits.weight_max > 127:
        raise NetworkError(f"{where}: k_W={layer.bits.k_W}; netx takes weights of 8 bits")


def from_netx(tree: Tree, header: str | bytes) -> Inference:
    """Read the network out of the datasets that `to_netx` returned, by path."""

    def weights_of(network: Network) -> Iterator[np.ndarray]:
        for layer in network.layers:
            before = network.layers[: layer.index + 1]
            place = len(before) + sum(flattens(network, below) for below in before)
            W = np.asarray(tree[f"layer/{place}/weight"])
            wanted = _weights(network, layer, np.zeros(layer.weight_shape)).shape
            if W.shape != wanted:
                raise NetworkError(f"weights of layer {layer.index} {layer}: shape {W.shape}; want {wanted}")
            yield _unweights(network, layer, W)

    inference = Inference.from_header(header, weights_of)
    wanted = to_netx(inference)
    if set(tree) != set(wanted):
        odd = min(set(tree) ^ set(wanted))
        raise CheckpointError(f"{odd}: in one of this file and {inference.network} only")
    for path, value in wanted.items():
        if not np.array_equal(tree[path], value):
            raise CheckpointError(f"{path}: not that of {inference.network}")
    return inference


def write(path: Path, inference: Inference) -> None:
    """Write a netx file; an existing file is replaced at the end, in one step."""
    content, tree = io.BytesIO(), to_netx(inference)
    with h5py.File(content, "w") as file:
        file.attrs["wage_neuro"] = inference.header()
        for name, value in tree.items():
            options = {"compression": "gzip"} if isinstance(value, np.ndarray) and value.size > 64 else {}
            file.create_dataset(name, data=np.bytes_(value) if isinstance(value, bytes) else value, **options)
    with written_whole(path) as file:
        file.write(content.getbuffer())


def read(path: Path) -> Inference:
    """Read a netx file; CheckpointError if it is missing, damaged, newer or not of wage-neuro."""
    with reading(path, "netx file"):
        if hdf5.check(path) != "netx":
            raise CheckpointError("a NIR file, not a netx file")
        return _read(path)


def _read(path: Path) -> Inference:
    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visit(names.append)
        tree = {name: file[name][()] for name in names if isinstance(file[name], h5py.Dataset)}
        return from_netx(tree, file.attrs["wage_neuro"])
