"""The pure integer functions of a layer: forward and backward; those of `loss` and `update` are here too.

A `Layer` is one WAGE layer as the paper computes it: product with ternary weights, pooling, ReLU,
quantization. These functions are the arithmetic of every backend that is not an independent witness:
the numpy engine and Lava's behavioural models call the same ones. The paper's Q_W is `visible_weights`,
Q_A is in `forward`, Q_E is `error_codes`, Q_G is `update`.

Source: arXiv:1802.04680, equations 2 to 12; order of operations as in the authors' code
(product, pooling, ReLU, Q_A; backward: clip's mask, Q_E, ReLU's mask).
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np

from wage_neuro import normal, random_bits
from wage_neuro.bits import code_dtype
from wage_neuro.fixed_point import peak
from wage_neuro.kernels import numpy_kernels as kernels
from wage_neuro.layer import Kept, Layer
from wage_neuro.loss import SPARED, UNKNOWN, output_error, quiet_new
from wage_neuro.specs import AvgPool, Conv, Dense, MaxPool, assert_never
from wage_neuro.update import (
    Move,
    at_rest,
    consolidate,
    momentum_after,
    momentum_of_part,
    no_importance,
    update,
    update_part,
)

__all__ = [
    "SPARED",
    "UNKNOWN",
    "Kept",
    "Layer",
    "Move",
    "at_rest",
    "backward",
    "consolidate",
    "error_codes",
    "forward",
    "initial_weights",
    "mask_saturated",
    "momentum_after",
    "momentum_of_part",
    "no_importance",
    "no_winner",
    "output_error",
    "pooled",
    "post_spikes",
    "pre_spikes",
    "products",
    "quiet_new",
    "rows_of",
    "spread_errors",
    "update",
    "visible_weights",
]

_PART_BYTES = 4 << 20  # patches a part of the batch: a few MiB keep them in cache


def initial_weights(layer: Layer, seed: int) -> np.ndarray:
    """Draw stored weights S: k_W-bit codes from U(-L, L), L = max(sqrt(3 / n_in), L_min).

    Returns
    -------
    weight_shape, integers in units of sigma(k_G).

    Source: the authors' code (the paper prints sqrt(6 / n_in)).
    """
    bits = layer.bits
    k = min(bits.k_W, bits.k_G)
    raw = random_bits.words((seed, random_bits.INIT, layer.index, 0), 0, layer.n_weights)
    limit = max((3 / layer.fan_in) ** 0.5, 1.5 * 2.0 ** (1 - bits.k_W))
    uniform = ((raw >> np.uint64(32)) + 0.5) * 2.0**-31 - 1.0  # in (-1, 1), 32 random bits
    top = (1 << (k - 1)) - 1
    codes = np.clip(np.rint(uniform * limit * 2.0 ** (k - 1)), -top, top)
    return (codes * 2.0 ** (bits.k_G - k)).astype(code_dtype(bits.k_G)).reshape(layer.weight_shape)


def visible_weights(layer: Layer, S: np.ndarray) -> np.ndarray:
    """Q_W: visible weights V = saturate(RNE(S, k_G - k_W)) as a (fan_in, n_out) float carrier.

    Returns
    -------
    Integers, abs <= 2**(k_W-1) - 1: -1, 0, 1 for k_W = 2.
    """
    bits = layer.bits
    flat = S.reshape(-1)
    V = np.empty(layer.n_weights, layer.z_dtype)

    def work(part: slice) -> None:
        if bits.k_W == 2 < bits.k_G:
            kernels.ternary_into(V[part], flat[part], 1 << (bits.k_G - 3))
        else:
            V[part] = flat[part]
            kernels.quantize_into(V[part], V[part], bits.k_G - bits.k_W, -bits.weight_max, bits.weight_max)

    kernels.each_part(work, layer.n_weights, update_part(layer))
    return V.reshape(layer.fan_in, -1)


def forward(
    layer: Layer, V: np.ndarray, a_in: np.ndarray, norm: np.ndarray | None = None
) -> tuple[np.ndarray, Kept]:
    """One layer forward: product, pooling, normalisation if the layer has it, ReLU, Q_A.

    Parameters
    ----------
    V : (fan_in, n_out) visible weights of `visible_weights`
    a_in : (n, *in_shape) input codes, abs <= 2**(k_A-1) - 1
    norm : of a normalised layer, its statistics; see `wage_neuro.normal`

    Returns
    -------
    out : (n, *out_shape)
        Activation codes 0 .. 2**(k_A-1) - 1, int8 or int16; of the last layer the products Z, int64.
    kept : Kept
    """
    bits, n = layer.bits, len(a_in)
    assert (norm is None) != layer.normalised, f"layer {layer}: statistics of a normalised layer alone"
    if layer.is_last:
        Z = np.empty((n, *layer.out_shape), np.int64)
        Z[...] = products(layer, V, a_in)
        return Z, Kept(a_in)
    shape = (n, *layer.out_shape)
    out = np.empty(shape, code_dtype(bits.k_A))
    active, saturated = np.empty(shape, bool), np.empty(shape, bool)
    winner = no_winner(layer, n)
    ceiling = bits.activation_max * 2.0**layer.a_shift
    u = None if norm is None else np.empty(shape, code_dtype(bits.k_A))

    def work(part: slice) -> None:
        Z = pooled(layer, products(layer, V, a_in[part]), winner[part])
        if norm is not None and u is not None:
            U = normal.codes(layer, norm, Z)
            np.greater(U, 0, out=active[part])
            np.greater(U, bits.activation_max, out=saturated[part])
            kernels.quantize_into(u[part], U, 0, -bits.activation_max, bits.activation_max)
            np.maximum(u[part], 0, out=out[part])
            return
        np.greater(Z, 0, out=active[part])
        np.greater(Z, ceiling, out=saturated[part])
        kernels.quantize_into(out[part], Z, layer.a_shift, 0, bits.activation_max)

    kernels.each_part(work, n, _samples_a_part(layer, n))
    return out, Kept(a_in, active, saturated, winner, u)


def no_winner(layer: Layer, n: int) -> np.ndarray:
    """Room for the place of each window's maximum; empty rows where nothing is chosen."""
    match layer.pool:
        case MaxPool():
            return np.empty((n, *layer.out_shape), np.uint8)
        case None | AvgPool():
            return np.empty((n, 0), np.uint8)
        case _:
            assert_never(layer.pool)


def pooled(layer: Layer, Z: np.ndarray, winner: np.ndarray) -> np.ndarray:
    """What pooling leaves of (n, *z_shape) carriers: Z, maxima, or sums of which `Layer.a_shift` makes means.

    winner : of `no_winner`, gets the place of each maximum in its window
    """
    match layer.pool:
        case None:
            return Z
        case MaxPool(size):
            if any(layer.pool_padding):
                top, bottom, left, right = layer.pool_padding
                Z = np.pad(Z, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=-np.inf)
            return kernels.max_pool(Z, size, layer.pool.step, layer.out_shape[:2], winner)
        case AvgPool(size):
            return kernels.sum_pool(Z, size, layer.out_shape[:2])
        case _:
            assert_never(layer.pool)


def _samples_a_part(layer: Layer, n: int) -> int:
    """Dense layers leave the cores to BLAS; the patches of a convolution are cut to stay in cache."""
    match layer.spec:
        case Dense():
            return n
        case Conv():
            return min(max(1, _PART_BYTES // (layer.positions * layer.fan_in * 4)), kernels.share(n))
        case _:
            assert_never(layer.spec)


def products(layer: Layer, V: np.ndarray, a_in: np.ndarray) -> np.ndarray:
    """Z of some samples, (n, *z_shape), in scratch memory."""
    return kernels.product(rows_of(layer, a_in, layer.z_dtype), V, "z").reshape(len(a_in), *layer.z_shape)


def rows_of(layer: Layer, a_in: np.ndarray, dtype: type) -> np.ndarray:
    """What meets the weights, (n * positions, fan_in), in scratch memory: the codes, or patches of them."""
    match layer.spec:
        case Dense():
            return kernels.as_carrier(a_in, dtype, "a")
        case Conv(kernel=kernel, stride=stride):
            padded = kernels.pad_images(a_in, layer.padding, dtype, "padded")
            return kernels.patches(padded, kernel, stride, layer.z_shape[:2], "patches")
        case _:
            assert_never(layer.spec)


def mask_saturated(kept: Kept, D: np.ndarray) -> int:
    """Clip's derivative: zero D in place where the activation saturated; return the peak that is left."""
    if kept.saturated is not None:
        np.copyto(D, 0, where=kept.saturated)
    return peak(D)


def error_codes(layer: Layer, kept: Kept, D: np.ndarray, exponent: int | None) -> np.ndarray:
    """Q_E, then ReLU's mask: E = saturate(RNE(D * 2**(k_E-1), exponent)), 0 where Z <= 0.

    A normalised layer's D has been through the mask already, and errs where Z <= 0 too.

    Parameters
    ----------
    D : (n, *out_shape) error at this layer's output, already masked where saturated
    exponent : m of Shift = 2**m; None (nothing known yet, or all zero) gives all zeros

    Returns
    -------
    (n, *out_shape) codes in units of sigma(k_E), abs <= 2**(k_E-1) - 1, int8 or int16
    """
    bits = layer.bits
    E = np.zeros(D.shape, code_dtype(bits.k_E))
    if exponent is None:
        return E
    # D in the wider carrier of the layer above; the scaled value is exact in any binary float
    dtype = D.dtype.type if D.dtype.kind == "f" else np.float64

    def work(part: slice) -> None:
        scaled = kernels.as_carrier(D[part], dtype, "error")
        kernels.quantize_into(E[part], scaled, exponent - (bits.k_E - 1), -bits.error_max, bits.error_max)
        if kept.active is not None and kept.u is None:
            E[part] *= kept.active[part]

    kernels.each_part(work, len(D), kernels.share(len(D), D.size))
    return E


class Draw(NamedTuple):
    """Which random bits a sample's spikes are drawn from."""

    seed: int
    step: int
    generator: str = "philox4x64"


def pre_spikes(layer: Layer, a_in: np.ndarray, draw: Draw) -> np.ndarray:
    """Draw the spikes of the inputs: sgn(A) with probability abs(A) / 2**(k_A-1), else 0.

    Where such a spike meets one of `post_spikes`, a weight changes: one draw a neuron, none a synapse. A
    probability has 16 bits and is rounded up, so that nothing is too small to be learned from.

    a_in : (1, *in_shape) codes of one sample
    """
    stream = draw.seed, random_bits.PRE, layer.index, draw.step
    return _spikes(a_in, 1 - layer.bits.k_A, stream, draw.generator)


def post_spikes(layer: Layer, E: np.ndarray, log2_eta: int, draw: Draw) -> np.ndarray:
    """Draw the error spikes: sgn(E) with probability min(1, 2**log2_eta * abs(E) / 2**(k_E-1)), else 0.

    E : (1, *out_shape) error codes of one sample
    """
    stream = draw.seed, random_bits.POST, layer.index, draw.step
    return _spikes(E, log2_eta + 1 - layer.bits.k_E, stream, draw.generator)


def _spikes(
    codes: np.ndarray, log2_probability: int, stream: random_bits.Stream, generator: str
) -> np.ndarray:
    r = random_bits.bits16(stream, 0, codes.size, generator).reshape(codes.shape)
    spikes = r < np.abs(codes.astype(np.float64)) * 2.0 ** (16 + log2_probability)  # exact
    drawn: np.ndarray = np.sign(codes) * spikes
    return drawn


def backward(
    layer: Layer,
    W_back: np.ndarray | None,
    kept: Kept,
    E: np.ndarray,
    factors: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """One layer backward: gradient of the weights and error of the layer below.

    Parameters
    ----------
    W_back : (fan_in, n_out) weights that the error goes back through: V, or fixed feedback weights; None
        sends nothing back
    E : (n, *out_shape) error codes
    factors : what the weights learn from: A and E, or the spikes drawn from them; None where they do not

    Returns
    -------
    G : (fan_in, n_out) or None
        sum over samples and positions of pre * post factor, an exact float carrier.
    D : (n, *in_shape) or None
        W_back^T E, a float carrier; None for the first layer, which has nobody below.
    """
    if layer.index == 0:
        W_back = None
    match layer.spec:
        case Dense():
            return _dense_backward(layer, W_back, E, factors)
        case Conv():
            return _conv_backward(layer, W_back, kept, E, factors)
        case _:
            assert_never(layer.spec)


_Pair = tuple[np.ndarray, np.ndarray]


def _dense_backward(
    layer: Layer, W_back: np.ndarray | None, E: np.ndarray, factors: _Pair | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    G = D = None
    if factors:
        pre, post = factors
        rows, dtype = layer.gradient_rows
        G = kernels.gradient_product(rows_of(layer, pre, dtype), post.astype(dtype), rows)
    if W_back is not None:
        D = E.astype(layer.d_dtype) @ W_back.astype(layer.d_dtype, copy=False).T
    return G, D


def _conv_backward(
    layer: Layer, W_back: np.ndarray | None, kept: Kept, E: np.ndarray, factors: _Pair | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    window, n, n_out = layer.window, len(E), layer.weight_shape[-1]
    assert window
    rows, g_dtype = layer.gradient_rows
    D = W_d = None
    if W_back is not None:
        D = np.empty((n, *layer.in_shape), layer.d_dtype)
        W_d = W_back.astype(layer.d_dtype, copy=False).T
    total = np.zeros((layer.fan_in, n_out), np.float64)
    lock = threading.Lock()

    def spread(errors: np.ndarray, part: slice) -> np.ndarray:
        return spread_errors(layer, kept, errors, part, g_dtype).reshape(-1, n_out)

    def work(part: slice) -> None:
        E_z = None
        if factors:
            pre, post = factors
            E_z = spread(post, part)
            G = kernels.gradient_product(rows_of(layer, pre[part], g_dtype), E_z, rows)
            with lock:
                np.add(total, G, out=total)
        if D is not None and W_d is not None:
            if E_z is None or post is not E:
                E_z = spread(E, part)
            back = kernels.product(E_z.astype(layer.d_dtype, copy=False), W_d, "patches")
            image = (len(E[part]), *layer.in_shape)
            D[part] = kernels.fold_patches(back, image, layer.padding, window, layer.z_shape[:2])

    kernels.each_part(work, n, _samples_a_part(layer, n))
    return (total if factors else None), D


def spread_errors(
    layer: Layer, kept: Kept, E: np.ndarray, part: slice = slice(None), dtype: type = np.float64
) -> np.ndarray:
    """Error at each place of Z, (n, *z_shape) in scratch memory: that of the windows which heard it."""
    match layer.pool:
        case None:
            return kernels.as_carrier(E[part], dtype, "unpool")
        case MaxPool(size):
            assert kept.winner is not None
            (h, w, c), (top, bottom, left, right) = layer.z_shape, layer.pool_padding
            shape = (h + top + bottom, w + left + right, c)
            out = kernels.unpool(E[part], kept.winner[part], (size, layer.pool.step), shape, dtype)
            return out[:, top : top + h, left : left + w]
        case AvgPool(size):
            return kernels.spread(E[part], size, layer.z_shape, dtype)
        case _:
            assert_never(layer.pool)
