"""A network that only answers: what every inference format carries, and how its files are refused.

NIR, netx and packed weights hold the visible weights alone. A file names the network in a small JSON header;
what its reader builds is checked against what its writer would have written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wage_neuro.bits import code_dtype
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import CheckpointError, NetworkError, WageError
from wage_neuro.kinds import Kind
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.room import check_weights
from wage_neuro.rules import Rules
from wage_neuro.specs import Conv, Dense, assert_never
from wage_neuro.support import Support
from wage_neuro.train import State, visible_weights

FORMAT = 2


TAKES = Support(who="an exported network", kinds=frozenset(Kind) - {Kind.UNQUANTIZED, Kind.NORMALISED})


@dataclass(frozen=True)
class Inference:
    """A network and its visible weights.

    Attributes
    ----------
    network : Network
    V : visible weights of each layer, `weight_shape`, whole numbers, abs <= 2**(k_W-1) - 1
        Any numeric type is taken and kept as int8 (int16 for k_W > 8).
    data : str, optional
        Name of the data set that the network was trained on.

    Raises
    ------
    NetworkError
        If a shape is not the layer's, or a weight not one of its codes.
    """

    network: Network
    V: tuple[np.ndarray, ...]
    data: str | None = None

    def __post_init__(self) -> None:
        TAKES.check(self.network)
        layers = self.network.layers
        if len(self.V) != len(layers):
            raise NetworkError(f"weights of {len(self.V)} layers: {self.network} has {len(layers)}")
        codes = tuple(_codes(layer, V) for layer, V in zip(layers, self.V, strict=True))
        object.__setattr__(self, "V", codes)

    @classmethod
    def of(cls, saved: Checkpoint) -> Inference:
        """What a checkpoint predicts with."""
        network = saved.network
        V = visible_weights(network, saved.state)
        shaped = tuple(v.reshape(layer.weight_shape) for layer, v in zip(network.layers, V, strict=True))
        config = saved.extra.get("config")
        return cls(network, shaped, config.get("data") if isinstance(config, dict) else None)

    def checkpoint(self) -> Checkpoint:
        """Checkpoint that predicts the same: stored weights S are the visible codes, S = V 2**(k_G-k_W)."""
        bits = self.network.bits
        scale = 2.0 ** (bits.k_G - bits.k_W)
        S = tuple((V * scale).astype(code_dtype(bits.k_G)) for V in self.V)
        extra = {"config": {"data": self.data}} if self.data else {}
        return Checkpoint(self.network, Rules(), State.of(S, seed=0), extra)

    # --- the header of a file ---

    def header(self) -> str:
        """JSON text: format, network, input_shape, bits, signed_input, data, and the sha256 of all."""
        header = {"format": FORMAT, **describe(self.network), "data": self.data}
        return json.dumps({**header, "sha256": self._sha256(header)})

    def _sha256(self, header: dict[str, Any]) -> str:
        """Checksum of the rest of the header and of all weights, little-endian, row-major in their shapes."""
        weights = b"".join(V.astype(V.dtype.newbyteorder("<")).tobytes() for V in self.V)
        return hashlib.sha256(json.dumps(header, sort_keys=True).encode() + weights).hexdigest()

    @classmethod
    def from_header(cls, text: str | bytes, weights_of: Any) -> Inference:
        """Build from a header and `weights_of(network)`, which returns the visible weights.

        Raises
        ------
        CheckpointError
            If the header or a weight is not what was written.
        """
        header = json.loads(text)
        if not isinstance(header, dict):
            raise CheckpointError("its header is no JSON object")
        check_format(header.get("format"))
        network, written = network_of(header), header.pop("sha256")
        found = cls(network, tuple(weights_of(network)), header["data"])
        if found._sha256(header) != written:
            raise CheckpointError("changed since it was written: its sha256 is another")
        return found


def describe(network: Network) -> dict[str, Any]:
    """What a file says of a network, in JSON's types; `network_of` reads it."""
    return {
        "network": str(network),
        "input_shape": list(network.input_shape),
        "bits": str(network.bits),
        "signed_input": network.signed_input,
    }


def network_of(header: dict[str, Any]) -> Network:
    """Build the network that `describe` described."""
    shape = tuple(header["input_shape"])
    network = Network.parse(
        header["network"], shape, bits=header["bits"], signed_input=bool(header["signed_input"])
    )
    check_weights(network)
    return network


def check_format(version: object) -> None:
    """Raise CheckpointError unless a file's format is the one that is read here."""
    if version != FORMAT:
        raise CheckpointError(f"format {version}; this version reads {FORMAT}")


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever reading a missing, damaged or foreign file raises into one clear CheckpointError."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except WageError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # h5py, nir, numpy, struct and JSON raise many kinds on damaged bytes
        text = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{path}: not a whole {what} ({text})") from None


def _codes(layer: Layer, V: np.ndarray) -> np.ndarray:
    where, top = f"weights of layer {layer.index} {layer}", layer.bits.weight_max
    if V.shape != layer.weight_shape:
        raise NetworkError(f"{where}: shape {V.shape}; want {layer.weight_shape}")
    wrong = ~((np.rint(V) == V) & (np.abs(V.astype(np.float64)) <= top))
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise NetworkError(f"{where}: {V[place]} at {place}; want whole numbers in -{top}..{top}")
    return V.astype(code_dtype(layer.bits.k_W))


# --- channels first ----------------------------------------------------------------------------------
# Others keep (channels, height, width); wage-neuro keeps (height, width, channels).


def channels_first_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(height, width, channels) -> (channels, height, width); (features,) stays."""
    return (shape[-1], *shape[:-1])


def source_shape(network: Network, layer: Layer) -> tuple[int, ...]:
    """Shape that comes to a layer, before Flatten."""
    return network.layers[layer.index - 1].out_shape if layer.index else network.input_shape


def flattens(network: Network, layer: Layer) -> bool:
    """Whether a layer sees images as a row of numbers."""
    return len(layer.in_shape) == 1 and len(source_shape(network, layer)) == 3


def symmetric_padding(layer: Layer) -> tuple[int, int]:
    """Zeros on both sides of height and width, for formats that cannot pad one side more than the other.

    Where TensorFlow's SAME puts one zero more after than before, `channels_first` gives the kernel a row and
    a column of zeros in front, and the padding is one more: the sums are the same.
    """
    top, _, left, _ = layer.padding
    extra = _kernel_growth(layer)
    return top + extra, left + extra


def _kernel_growth(layer: Layer) -> int:
    top, bottom, left, right = layer.padding
    return max(bottom - top, right - left)


def channels_first(network: Network, layer: Layer, V: np.ndarray) -> np.ndarray:
    """Weights as (n_out, n_in), or (c_out, c_in, kernel, kernel) to be used with `symmetric_padding`.

    After Flatten, n_in counts channels first too.
    """
    match layer.spec:
        case Dense():
            if flattens(network, layer):
                V = V.reshape(*source_shape(network, layer), -1).transpose(2, 0, 1, 3).reshape(V.shape)
            return V.T
        case Conv():
            before = (_kernel_growth(layer), 0)
            return np.pad(V, (before, before, (0, 0), (0, 0))).transpose(3, 2, 0, 1)
        case _:
            assert_never(layer.spec)


def channels_last(network: Network, layer: Layer, W: np.ndarray) -> np.ndarray:
    """Undo `channels_first`."""
    match layer.spec:
        case Dense():
            if flattens(network, layer):
                shape = channels_first_shape(source_shape(network, layer))
                return W.T.reshape(*shape, -1).transpose(1, 2, 0, 3).reshape(W.shape[::-1])
            return W.T
        case Conv():
            grown = _kernel_growth(layer)
            return W.transpose(2, 3, 1, 0)[grown:, grown:]
        case _:
            assert_never(layer.spec)
