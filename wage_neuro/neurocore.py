"""The arithmetic of one sample, cut where a neurocore cuts it: synapses, neurons, exponent trackers.

`layers` has whole layers; these are the same sums in the pieces that a structural model sends between its
parts. Joined again they give the bits of `layers.forward`, `layers.backward` and `train.Held`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

import numpy as np

from wage_neuro import layers
from wage_neuro.bits import code_dtype
from wage_neuro.fixed_point import log2_round, peak
from wage_neuro.kernels import numpy_kernels as kernels
from wage_neuro.layers import Kept, Layer, products, rows_of, spread_errors
from wage_neuro.specs import Conv, Dense, assert_never

UNKNOWN = -1
"""Exponent of a tracker that no value has reached yet."""

_NONE = np.zeros((1, 0), np.int8)


# --- synapses ----------------------------------------------------------------------------------------


def sums(layer: Layer, V: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Z, (n, *z_shape): what the dendrites of a layer receive for (n, *in_shape) activation codes."""
    return products(layer, V, a).copy()


def error_sums(layer: Layer, V: np.ndarray, E_z: np.ndarray) -> np.ndarray:
    """V^T E, (n, *in_shape), of the (n, *z_shape) errors at the places of Z."""
    V_d = V.astype(layer.d_dtype, copy=False)
    back = E_z.reshape(-1, V.shape[1]).astype(layer.d_dtype) @ V_d.T
    match layer.spec:
        case Dense():
            return back
        case Conv(kernel=kernel, stride=stride):
            image = (len(E_z), *layer.in_shape)
            return kernels.fold_patches(
                back, image, layer.padding, (kernel, stride), layer.z_shape[:2]
            ).copy()
        case _:
            assert_never(layer.spec)


def gradient(layer: Layer, pre: np.ndarray, post: np.ndarray) -> np.ndarray:
    """Pre times post factor of each weight, (fan_in, n_out); shared weights add up their places.

    pre : (n, *in_shape) activation codes or spikes; post : (n, *z_shape) error codes or signed spikes
    """
    rows, dtype = layer.gradient_rows
    post_rows = post.reshape(-1, layer.weight_shape[-1]).astype(dtype)
    G = kernels.gradient_product(rows_of(layer, pre, dtype), post_rows, rows)
    return G if layer.positions == 1 else G.astype(np.float64)


def gradient_peak(layer: Layer, pre: np.ndarray, post: np.ndarray, G: np.ndarray | None) -> int:
    """Largest magnitude in G; of a dense layer the product of two peaks, which neurons can tell alone.

    G may be left out of a dense layer
    """
    match layer.spec:
        case Dense():
            return peak(pre) * peak(post)
        case Conv():
            assert G is not None
            return peak(G)
        case _:
            assert_never(layer.spec)


# --- neurons -----------------------------------------------------------------------------------------


def activate(layer: Layer, Z: np.ndarray) -> tuple[np.ndarray, Kept]:
    """Pooling, ReLU and Q_A of the sums Z, (n, *z_shape).

    Returns
    -------
    (n, *out_shape) activation codes, and the masks; `Kept.a_in` is empty, as it stays with the synapses.
    """
    bits, shape = layer.bits, (len(Z), *layer.out_shape)
    Z = Z.astype(layer.z_dtype)
    winner = layers.no_winner(layer, len(Z))
    Z = layers.pooled(layer, Z, winner)
    kept = Kept(_NONE, Z > 0, bits.activation_max * 2.0**layer.a_shift < Z, winner)
    A = np.empty(shape, code_dtype(bits.k_A))
    kernels.quantize_into(A, Z, layer.a_shift, 0, bits.activation_max)
    return A, kept


def unpool(layer: Layer, kept: Kept, E: np.ndarray) -> np.ndarray:
    """Each error at the places of Z that it is for: (n, *out_shape) -> (n, *z_shape) integers."""
    if layer.pool is None:
        return E
    return spread_errors(layer, kept, E, slice(None), layer.gradient_rows[1]).astype(np.int32)


# --- exponent trackers -------------------------------------------------------------------------------


def thresholds(worst: int) -> np.ndarray:
    """Smallest whole number above 2**(m - 1/2), for every exponent m up to that of `worst`.

    >>> thresholds(100).tolist()
    [1, 2, 3, 6, 12, 23, 46, 91]
    """
    top = log2_round(max(1, worst))
    return np.array([1, *(isqrt(1 << (2 * m - 1)) + 1 for m in range(1, top + 1))], np.int64)


def exponent_reached(bank: np.ndarray, x: np.ndarray) -> int:
    """Exponent of the highest threshold neuron that any of x makes spike; UNKNOWN where none does.

    >>> exponent_reached(thresholds(100), np.array([-23, 5]))
    5
    """
    return int(np.count_nonzero(peak(x) >= bank)) - 1


def tracker_step(
    exponent: int, below: int, reached: int, hold: int, fit: Callable[[int], int] = int
) -> tuple[int, int]:
    """Exponent and hold counter after one sample: up at once, down by one when the counter is at `hold`.

    exponent, reached : UNKNOWN or a whole number; fit : limits the counter to its width

    >>> tracker_step(7, 1, reached=4, hold=2), tracker_step(7, 1, reached=9, hold=2)
    ((6, 0), (9, 0))
    """
    if reached == UNKNOWN:
        return exponent, below
    if reached >= exponent:
        return reached, 0
    below = fit(below + 1)
    return (exponent - 1, 0) if below >= hold else (exponent, below)
