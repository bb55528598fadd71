"""One WAGE layer: its shapes, and the integer bounds that are proven from its widths alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from wage_neuro.bits import Bits
from wage_neuro.fixed_point import carrier, log2_round
from wage_neuro.specs import AvgPool, Conv, Dense, MaxPool, Pool, assert_never

LOG2_SGD_RATE = -2
"""An unquantized layer learns by SGD on the mean gradient, at the rate eta * 2**LOG2_SGD_RATE. The rate is
ours, chosen on validation images: the paper names none."""


@dataclass(frozen=True)
class Layer:
    """One WAGE layer of a network, with its shapes and its proven integer bounds.

    Attributes
    ----------
    index : int
        Position among the weight layers, 0 first.
    in_shape, z_shape, out_shape : shapes of one sample: input, product, output (after pooling)
    weight_shape : (n_in, n_out) or (kernel, kernel, c_in, c_out)
    padding : top, bottom, left, right zeros of a convolution
    scale_shift : s of alpha = 2**s
    is_last : bool
        The last layer sends its products as they are: no ReLU, no quantization.
    pool_padding : top, bottom, left, right places beside Z that no window chooses
    """

    index: int
    spec: Dense | Conv
    pool: Pool | None
    bits: Bits
    in_shape: tuple[int, ...]
    z_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    padding: tuple[int, int, int, int]
    is_last: bool
    pool_padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    @cached_property
    def weight_shape(self) -> tuple[int, ...]:
        match self.spec:
            case Dense(units):
                return (self.in_shape[0], units)
            case Conv(channels, kernel):
                return (kernel, kernel, self.in_shape[2], channels)
            case _:
                assert_never(self.spec)

    @cached_property
    def window(self) -> tuple[int, int] | None:
        """Side of the kernel and stride of a convolution; None of a dense layer."""
        match self.spec:
            case Dense():
                return None
            case Conv(kernel=kernel, stride=stride):
                return kernel, stride
            case _:
                assert_never(self.spec)

    @cached_property
    def fan_in(self) -> int:
        return math.prod(self.weight_shape[:-1])

    @cached_property
    def n_weights(self) -> int:
        return math.prod(self.weight_shape)

    @cached_property
    def positions(self) -> int:
        """Places at which a sample uses each weight: 1 for a dense layer."""
        return math.prod(self.z_shape[:-1])

    @cached_property
    def scale_shift(self) -> int:
        """s = max(0, round(log2(L_min / sqrt(3 / n_in)))), L_min = 1.5 sigma(k_W), in whole numbers.

        L_min**2 * n_in / 3 = 3 n_in / 4**k_W, and 3 n_in is no odd power of two, so no tie occurs.
        """
        return max(0, (3 * self.fan_in).bit_length() // 2 - self.bits.k_W)

    @cached_property
    def z_shift(self) -> int:
        """log2 of a step of activation in units of Z: k_W - 1 + s."""
        return self.bits.k_W - 1 + self.scale_shift

    @cached_property
    def a_shift(self) -> int:
        """log2 of a step of activation in units of what pooling leaves: maxima are Z, averages sums of Z."""
        match self.pool:
            case None | MaxPool():
                return self.z_shift
            case AvgPool(size):
                return self.z_shift + 2 * log2_round(size)
            case _:
                assert_never(self.pool)

    @cached_property
    def log2_target(self) -> int:
        """A step of Z is 2**-log2_target of 1.0, at the output."""
        return self.bits.k_A - 1 + self.z_shift

    @cached_property
    def target(self) -> int:
        """The code of 1.0 at the output, in units of Z."""
        return 1 << self.log2_target

    @cached_property
    def quantized(self) -> bool:
        """False for the 16-bit form of a last layer that the paper leaves unquantized."""
        match self.spec:
            case Dense(quantized=quantized):
                return quantized
            case Conv():
                return True
            case _:
                assert_never(self.spec)

    @cached_property
    def normalised(self) -> bool:
        """Whether each channel has a centre and a scale of its own, see `wage_neuro.normal`."""
        return self.spec.normalised

    @cached_property
    def error_exponent(self) -> int:
        """Of an unquantized layer, in the place of Shift's: softmax's D is its error code."""
        return self.bits.k_E - 1

    def gradient_exponent(self, samples: int) -> int:
        """Of an unquantized layer, in the place of Shift's: SGD on the mean gradient of so many samples.

        G has units of sigma(k_A) sigma(16), the weights of sigma(16); `samples` is rounded to a power of two.
        """
        return self.bits.k_A - 1 + log2_round(samples) - LOG2_SGD_RATE

    # worst cases, from the widths alone

    @cached_property
    def z_bound(self) -> int:
        return self.fan_in * self.bits.weight_max * self.bits.activation_max

    @cached_property
    def pooled_bound(self) -> int:
        """Largest magnitude of what pooling leaves."""
        return self.z_bound << (self.a_shift - self.z_shift)

    @cached_property
    def spread_error_max(self) -> int:
        """Largest error at a place of Z: overlapping pooling windows may add up there."""
        overlap = (-(-self.pool.size // self.pool.step)) ** 2 if self.pool else 1
        return self.bits.error_max * overlap

    @cached_property
    def d_bound(self) -> int:
        """Largest error that this layer can send back."""
        places = math.prod(self.weight_shape[:-2])
        return places * self.weight_shape[-1] * self.bits.weight_max * self.spread_error_max

    def g_bound(self, batch: int) -> int:
        """Largest gradient of one weight over a batch."""
        return batch * self.positions * self.bits.activation_max * self.spread_error_max

    @cached_property
    def z_dtype(self) -> type[np.floating]:
        return carrier(max(self.pooled_bound, self.target) * 2)

    @cached_property
    def d_dtype(self) -> type[np.floating]:
        return carrier(self.d_bound)

    @cached_property
    def gradient_rows(self) -> tuple[int, type[np.floating]]:
        """Rows that one exact gradient product may have, and the float type it is made in."""
        term = self.bits.activation_max * self.spread_error_max
        rows = 2**24 // term
        return (rows, np.float32) if rows >= 64 else (2**53 // term, np.float64)

    def __str__(self) -> str:
        return f"{self.spec}" + (f"-{self.pool}" if self.pool else "")


@dataclass
class Kept:
    """What a layer keeps of a forward pass until the error comes back. All arrays (n, ...).

    a_in : input codes; active : Z > 0 (ReLU); saturated : Z past the largest code (clip);
    winner : place of each pooling window's maximum; u : of a normalised layer, codes before ReLU.
    """

    a_in: np.ndarray
    active: np.ndarray | None = None
    saturated: np.ndarray | None = None
    winner: np.ndarray | None = None
    u: np.ndarray | None = None
