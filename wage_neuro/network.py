"""Network: an ordered tuple of layer specs, a bit pattern and an input shape, validated once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from wage_neuro.bits import UNQUANTIZED, Bits, code_dtype
from wage_neuro.errors import DataError, NetworkError, did_you_mean
from wage_neuro.layers import Layer
from wage_neuro.specs import AvgPool, Conv, Dense, Flatten, MaxPool, Pool, Spec, assert_never
from wage_neuro.summary import table_of

PRESETS = {
    "lenet": "32C5-MP2-64C5-MP2-512FC",
    "mlp": "256FC",
    "vgg": "128C3-128C3-MP2-256C3-256C3-MP2-512C3-512C3-MP2-1024FC",
    "alexnet": "96C11S4-MP3S2P-256C5-MP3S2P-384C3-384C3-256C3-MP3S2P-4096FC-4096FC-FCU",
    "alexnet-56": "96C5S2-MP3S2P-256C5-MP3S2P-384C3-384C3-256C3-MP3S2P-4096FC-4096FC-FCU",
}
"""Hidden layers by name: the paper's MNIST net, a small dense net, the paper's CIFAR-10 and SVHN net, its
ImageNet net for images of 224x224, and the same for 56x56 with a first layer of kernel 5 and stride 2."""

_TOKENS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Spec]], ...] = (
    (
        re.compile(r"(\d{1,9})C(\d{1,9})(?:S(\d{1,9}))?(V?)(N?)"),
        lambda m: Conv(
            int(m[1]), int(m[2]), int(m[3] or 1), "VALID" if m[4] else "SAME", normalised=bool(m[5])
        ),
    ),
    (
        re.compile(r"MP(\d{1,9})(?:S(\d{1,9}))?(P?)"),
        lambda m: MaxPool(int(m[1]), int(m[2]) if m[2] else None, "SAME" if m[3] else "VALID"),
    ),
    (re.compile(r"AP(\d{1,9})"), lambda m: AvgPool(int(m[1]))),
    (re.compile(r"(\d{1,9})FCU"), lambda m: Dense(int(m[1]), quantized=False)),
    (re.compile(r"(\d{1,9})FCN"), lambda m: Dense(int(m[1]), normalised=True)),
    (re.compile(r"(\d{1,9})(?:FC)?(?:SSE)?"), lambda m: Dense(int(m[1]))),
    (re.compile(r"F"), lambda m: Flatten()),
)


@dataclass(frozen=True)
class Network:
    """A WAGE network: layer specs, input shape and bit widths.

    Parameters
    ----------
    specs : Dense, Conv, MaxPool, AvgPool, Flatten
        The last one is Dense, with a unit a class. A pool follows its Conv; Flatten joins images to Dense.
    input_shape : (height, width, channels), or (features,)
    bits : Bits or a pattern such as "2888"
    signed_input : bool
        Grey levels 0..255 are read as -1..1 (CIFAR-10, SVHN) and not as 0..1 (MNIST).

    Raises
    ------
    NetworkError
        If the shapes do not chain, or a layer stands where it cannot.

    >>> net = Network((Conv(32, 5), MaxPool(2), Flatten(), Dense(10)), (28, 28, 1), "2888")
    >>> [layer.out_shape for layer in net.layers]
    [(14, 14, 32), (10,)]
    """

    specs: tuple[Spec, ...]
    input_shape: tuple[int, ...]
    bits: Bits = field(default_factory=Bits)
    signed_input: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "specs", tuple(self.specs))
        object.__setattr__(self, "input_shape", tuple(int(n) for n in self.input_shape))
        object.__setattr__(self, "bits", Bits.parse(self.bits))
        if len(self.input_shape) not in (1, 3) or min(self.input_shape) < 1:
            raise NetworkError(
                f"input shape {self.input_shape}: want (height, width, channels) or (features,)"
            )
        for layer in self.layers:
            _prove_bounds(layer)

    @classmethod
    def parse(
        cls,
        text: str,
        input_shape: tuple[int, ...],
        classes: int | None = None,
        bits: Bits | str = "2888",
        signed_input: bool = False,
    ) -> Network:
        """Build a network from the paper's notation, or from a preset's name.

        Tokens, joined by '-': 32C5 convolution (32C5S2 stride 2, 32C5V VALID padding), MP2 max-pooling
        (MP3S2 with a stride, MP3S2P SAME padding), AP2 average pooling, 512FC or 512 dense, F flatten; N at
        the end of 32C5 or 512FC normalises it.

        With `classes` the text names the hidden layers: the output layer is added, and Flatten put where it
        is needed. Without, the text is the whole network. An unquantized output layer is 10FCU, or with
        `classes` FCU at the end of the hidden layers.

        >>> net = Network.parse("lenet", (28, 28, 1), classes=10)
        >>> str(net)
        '32C5-MP2-64C5-MP2-F-512FC-10FC'
        >>> Network.parse(str(net), (28, 28, 1)) == net
        True
        """
        tokens = PRESETS.get(text, text).split("-")
        quantized = classes is None or tokens[-1] != "FCU"
        specs = [_read_token(token, text) for token in (tokens if quantized else tokens[:-1])]
        if classes is not None:
            specs = list(_with_flatten([*specs, Dense(classes, quantized)], len(input_shape) == 3))
        return cls(tuple(specs), input_shape, Bits.parse(bits), signed_input)

    def summary(self) -> str:
        """The network as a table: output, weights, alpha and proven widths of each layer.

        >>> print(Network.parse("8C3-MP2-16FC", (8, 8, 1), classes=10).summary())
        8C3-MP2-F-16FC-10FC, input 8 x 8 x 1, bits 2888
        layer  what     output     weights  alpha  bits of a sum  bits of an error sum
        0      8C3-MP2  4 x 4 x 8  72       1      12
        1      16FC     16         2,048    4      15             12
        2      10FC     10         160      2      12             12
        2,280 weights: 570 bytes to answer (2 bits each), 2,280 to learn (8 bits each)
        """
        return table_of(self)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The WAGE layers: each product with the pooling that follows it."""
        return tuple(_build_layers(self.specs, self.input_shape, self.bits))

    @cached_property
    def classes(self) -> int:
        """Outputs of the last layer."""
        return self.layers[-1].out_shape[0]

    @cached_property
    def n_weights(self) -> int:
        """Weights of all layers."""
        return sum(layer.n_weights for layer in self.layers)

    @cached_property
    def input_codes(self) -> np.ndarray:
        """(256,) k_A-bit code of each grey level: Q_A(grey / 255), or Q_A(2 grey / 255 - 1) if signed.

        >>> Network.parse("2FC", (4,)).input_codes[[0, 1, 128, 255]].tolist()
        [0, 1, 64, 127]
        """
        scale, top = 1 << (self.bits.k_A - 1), self.bits.activation_max
        grey = range(256)
        # 255 is odd and the scale even, so the only halves would need 255 | grey: none but exact codes
        if self.signed_input:
            codes = [_round_half_even((2 * g - 255) * scale, 255) for g in grey]
        else:
            codes = [_round_half_even(g * scale, 255) for g in grey]
        return np.clip(codes, -top, top).astype(code_dtype(self.bits.k_A))

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Turn (n, ...) uint8 grey levels into (n, *input_shape) input codes.

        Raises
        ------
        DataError
            If the images are not uint8 or do not have the network's input size.
        """
        self.check_images(images)
        return np.take(self.input_codes, images.reshape(len(images), *self.input_shape), mode="clip")

    def check_images(self, images: np.ndarray) -> None:
        """Raise DataError unless the images are uint8 and of this network's input size."""
        if images.dtype != np.uint8:
            raise DataError(f"images of {images.dtype}: want uint8 grey levels 0..255")
        if images.ndim < 2 or int(np.prod(images.shape[1:])) != int(np.prod(self.input_shape)):
            raise DataError(f"images of shape {images.shape[1:]}: this network takes {self.input_shape}")
        if images.ndim == 4 and len(self.input_shape) == 3 and images.shape[1:] != self.input_shape:
            raise DataError(f"images of shape {images.shape[1:]}: this network takes {self.input_shape}")

    def check_labels(self, labels: np.ndarray, n: int) -> None:
        """Raise DataError unless there are n whole labels, each naming an output."""
        if labels.shape != (n,) or labels.dtype.kind not in "iu":
            raise DataError(f"labels of shape {labels.shape} and type {labels.dtype}: want {n} whole numbers")
        if n and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            bad = labels[(labels < 0) | (labels >= self.classes)][0]
            raise DataError(f"label {bad}: this network has outputs 0..{self.classes - 1}")

    def __str__(self) -> str:
        return "-".join(map(str, self.specs))


def _read_token(token: str, text: str) -> Spec:
    for pattern, build in _TOKENS:
        match = pattern.fullmatch(token)
        if match:
            return build(match)
    raise NetworkError(
        f"network {text!r}: cannot read {token!r}; want {', '.join(PRESETS)}"
        f" or tokens such as 32C5, MP2, 512FC joined by '-'{did_you_mean(text, PRESETS)}"
    )


def _with_flatten(specs: Iterable[Spec], image: bool) -> Iterable[Spec]:
    for spec in specs:
        if isinstance(spec, Dense) and image:
            yield Flatten()
        image = image and not isinstance(spec, Dense | Flatten)
        yield spec


def _build_layers(specs: tuple[Spec, ...], shape: tuple[int, ...], bits: Bits) -> Iterable[Layer]:
    if not specs or not isinstance(specs[-1], Dense):
        raise NetworkError(f"last layer {specs[-1] if specs else None}: want a Dense with a unit a class")
    index = 0
    for place, spec in enumerate(specs):
        after = specs[place + 1] if place + 1 < len(specs) else None
        match spec:
            case Flatten():
                shape = (math.prod(shape),)
            case MaxPool() | AvgPool():
                if place == 0 or not isinstance(specs[place - 1], Conv):
                    raise NetworkError(f"layer {place} {spec}: a {type(spec).__name__} must follow a Conv")
            case Conv() | Dense():
                pool = after if isinstance(after, Pool) and isinstance(spec, Conv) else None
                if isinstance(spec, Dense) and not spec.quantized:
                    if after is not None:
                        raise NetworkError(f"layer {place} {spec}: only the last layer may be unquantized")
                    bits = replace(bits, k_W=UNQUANTIZED, k_G=UNQUANTIZED, k_E=UNQUANTIZED)
                if after is None and spec.normalised:
                    raise NetworkError(f"layer {place} {spec}: only hidden layers may be normalised")
                where = _geometry(place, spec, pool, shape)
                yield Layer(index, spec, pool, bits, shape, is_last=after is None, **where._asdict())
                shape, index = where.out_shape, index + 1
            case _:  # a user's own object may stand here
                raise NetworkError(f"layer {place} {spec!r}: want Dense, Conv, MaxPool, AvgPool or Flatten")


class _Geometry(NamedTuple):
    z_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    padding: tuple[int, int, int, int]
    pool_padding: tuple[int, int, int, int]


def _geometry(place: int, spec: Conv | Dense, pool: Pool | None, shape: tuple[int, ...]) -> _Geometry:
    z_shape: tuple[int, ...]
    padding = pool_padding = (0, 0, 0, 0)
    match spec:
        case Dense(units):
            if len(shape) != 1:
                raise NetworkError(
                    f"layer {place} {spec}: its input has shape {shape}; put a Flatten() before it"
                )
            z_shape = (units,)
        case Conv(channels, kernel):
            if len(shape) != 3:
                raise NetworkError(
                    f"layer {place} {spec}: its input has shape {shape}; want (height, width, channels)"
                )
            (h, top, bottom), (w, left, right) = (
                _windows(n, kernel, spec.stride, spec.padding) for n in shape[:2]
            )
            if min(h, w) < 1:
                raise NetworkError(f"layer {place} {spec}: kernel {kernel} is larger than its input {shape}")
            padding, z_shape = (top, bottom, left, right), (h, w, channels)
        case _:
            assert_never(spec)
    out_shape = z_shape
    if pool:
        (h, top, bottom), (w, left, right) = (
            _windows(n, pool.size, pool.step, pool.padding) for n in z_shape[:2]
        )
        pool_padding = (top, bottom, left, right)
        if min(h, w) < 1:
            raise NetworkError(f"layer {place} {pool}: window {pool.size} is larger than its input {z_shape}")
        out_shape = (h, w, *z_shape[2:])
    return _Geometry(z_shape, out_shape, padding, pool_padding)


def _windows(n: int, size: int, stride: int, padding: str) -> tuple[int, int, int]:
    """Windows along one axis, and places that pad it before and after, as TensorFlow has SAME and VALID."""
    if padding == "VALID":
        return (n - size) // stride + 1, 0, 0
    windows = -(-n // stride)
    added = max(0, (windows - 1) * stride + size - n)
    return windows, added // 2, added - added // 2


def _prove_bounds(layer: Layer) -> None:
    """Every sum of the layer is exact in its carrier, whatever the data."""
    try:
        _ = layer.z_dtype, layer.d_dtype
    except OverflowError as error:
        raise NetworkError(f"layer {layer.index} {layer}: {error}") from None


def _round_half_even(numerator: int, denominator: int) -> int:
    quotient, rest = divmod(2 * numerator + denominator, 2 * denominator)
    return quotient - (rest == 0 and quotient % 2)
