"""The layers of a Network, and their pure integer functions.

A `Layer` is one WAGE layer as the paper computes it: product with ternary weights, pooling, ReLU,
quantization. The functions below are the arithmetic of every backend that is not an independent witness:
the numpy engine and Lava's behavioural models call the same ones. The paper's Q_W is `visible_weights`,
Q_A is in `forward`, Q_E is `error_codes`, Q_G is `update`.

Source: arXiv:1802.04680, equations 2 to 12; order of operations as in the authors' code
(product, pooling, ReLU, Q_A; backward: clip's mask, Q_E, ReLU's mask).
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from wage_neuro import random_bits, softmax
from wage_neuro.bits import Bits, code_dtype
from wage_neuro.fixed_point import carrier, log2_round, peak
from wage_neuro.kernels import numpy_kernels as kernels
from wage_neuro.rules import MARGIN_UNITS, Rules
from wage_neuro.specs import AvgPool, Conv, Dense, MaxPool, Pool, assert_never

_SPARSE = 0.7  # share of rows with a gradient below which only these are updated
UNKNOWN = np.iinfo(np.int64).min
"""A former logit that is not known: nothing is drawn to it."""
LOG2_SGD_RATE = -2
"""An unquantized layer learns by SGD on the mean gradient, at the rate eta * 2**LOG2_SGD_RATE. The rate is
ours, chosen on validation images: the paper names none."""
_PART_BYTES = 4 << 20  # patches a part of the batch: a few MiB keep them in cache


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
    winner : place of each pooling window's maximum.
    """

    a_in: np.ndarray
    active: np.ndarray | None = None
    saturated: np.ndarray | None = None
    winner: np.ndarray | None = None


# --- weights -----------------------------------------------------------------------------------------


def initial_weights(layer: Layer, seed: int) -> np.ndarray:
    """Draw stored weights S: k_W-bit codes from U(-L, L), L = max(sqrt(3 / n_in), L_min).

    Returns
    -------
    weight_shape, integers in units of sigma(k_G).

    Source: the authors' code (the paper prints sqrt(6 / n_in)).
    """
    bits = layer.bits
    k = min(bits.k_W, bits.k_G)
    raw = random_bits.words(seed, random_bits.INIT, layer.index, 0, 0, layer.n_weights)
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

    kernels.each_part(work, layer.n_weights, _update_part(layer))
    return V.reshape(layer.fan_in, -1)


def _update_part(layer: Layer) -> int:
    # whole Philox blocks of 16-bit words
    return min(kernels.UPDATE_PART, -(-kernels.share(layer.n_weights, layer.n_weights) // 16) * 16)


# --- forward -----------------------------------------------------------------------------------------


def forward(layer: Layer, V: np.ndarray, a_in: np.ndarray) -> tuple[np.ndarray, Kept]:
    """One layer forward: product, pooling, ReLU, Q_A.

    Parameters
    ----------
    V : (fan_in, n_out) visible weights of `visible_weights`
    a_in : (n, *in_shape) input codes, abs <= 2**(k_A-1) - 1

    Returns
    -------
    out : (n, *out_shape)
        Activation codes 0 .. 2**(k_A-1) - 1, int8 or int16; of the last layer the products Z, int64.
    kept : Kept
    """
    bits, n = layer.bits, len(a_in)
    if layer.is_last:
        Z = np.empty((n, *layer.out_shape), np.int64)
        Z[...] = _product(layer, V, a_in)
        return Z, Kept(a_in)
    shape = (n, *layer.out_shape)
    out = np.empty(shape, code_dtype(bits.k_A))
    active, saturated = np.empty(shape, bool), np.empty(shape, bool)
    winner = no_winner(layer, n)
    ceiling = bits.activation_max * 2.0**layer.a_shift

    def work(part: slice) -> None:
        Z = pooled(layer, _product(layer, V, a_in[part]), winner[part])
        np.greater(Z, 0, out=active[part])
        np.greater(Z, ceiling, out=saturated[part])
        kernels.quantize_into(out[part], Z, layer.a_shift, 0, bits.activation_max)

    kernels.each_part(work, n, _samples_a_part(layer, n))
    return out, Kept(a_in, active, saturated, winner)


def no_winner(layer: Layer, n: int) -> np.ndarray:
    """Room for the place of each window's maximum; empty rows where nothing is chosen."""
    return np.empty((n, *layer.out_shape) if isinstance(layer.pool, MaxPool) else (n, 0), np.uint8)


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


def _product(layer: Layer, V: np.ndarray, a_in: np.ndarray) -> np.ndarray:
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


# --- backward ----------------------------------------------------------------------------------------


def output_error(
    layer: Layer,
    Z: np.ndarray,
    labels: np.ndarray,
    rules: Rules,
    former: np.ndarray | None = None,
    first: int = 0,
) -> np.ndarray:
    """Error at the output: the derivative of the loss by Z; of the sum of squared errors Z - target, of
    cross-entropy after softmax p - onehot.

    Parameters
    ----------
    Z : (n, classes) int64 products of the last layer
    labels : (n,) whole numbers; the target of the right output is `layer.target`, of the others 0
    former : (n, classes) int64 logits that the samples once had, UNKNOWN where they had none; what is known
        adds Z - former, so that an answer stays what it was
    first : number of the first sample among all that were learned; tells the new ones, see `Rules.new_shift`

    Returns
    -------
    (n, classes) int64 D, in units of Z, of softmax in units of 2**-15; all zeros for a sample that has its
    margin and no former logits.

    Source: former logits as in DER++, Buzzega et al., arXiv:2004.07211.
    """
    rows = np.arange(len(Z))
    if rules.loss == "softmax":
        D = softmax.probabilities(Z, layer.log2_target)
        D[rows, labels] -= softmax.ONE
    else:
        D = Z.copy()
        D[rows, labels] -= layer.target
    if rules.loss == "one-sided":
        right = np.minimum(D[rows, labels], 0)
        np.maximum(D, 0, out=D)
        D[rows, labels] = right
    if rules.margin:
        others = Z.copy()
        others[rows, labels] = np.iinfo(Z.dtype).min
        lead = Z[rows, labels] - others.max(axis=1) if Z.shape[1] > 1 else Z[rows, labels]
        D[lead * MARGIN_UNITS >= rules.margin * layer.target] = 0
    if former is not None:
        np.add(D, Z - former, out=D, where=former != UNKNOWN)
    if rules.new_shift:
        half = rules.new_samples
        new = (first + rows) % (2 * half) < half
        D[new] = np.sign(D[new]) * (np.abs(D[new]) >> rules.new_shift)
    return D


def mask_saturated(kept: Kept, D: np.ndarray) -> int:
    """Clip's derivative: zero D in place where the activation saturated; return the peak that is left."""
    if kept.saturated is not None:
        np.copyto(D, 0, where=kept.saturated)
    return peak(D)


def error_codes(layer: Layer, kept: Kept, D: np.ndarray, exponent: int | None) -> np.ndarray:
    """Q_E, then ReLU's mask: E = saturate(RNE(D * 2**(k_E-1), exponent)), 0 where Z <= 0.

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
        if kept.active is not None:
            E[part] *= kept.active[part]

    kernels.each_part(work, len(D), kernels.share(len(D), D.size))
    return E


def learning_spikes(
    layer: Layer, kept: Kept, E: np.ndarray, log2_eta: int, seed: int, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the spikes whose coincidence changes a weight: one draw a neuron, none a synapse.

    Parameters
    ----------
    E : (1, *out_shape) error codes of one sample
    log2_eta : int
        rate = 2**log2_eta.

    Returns
    -------
    pre : (1, *in_shape) sgn(A) with probability abs(A) / 2**(k_A-1), else 0
    post : (1, *out_shape) sgn(E) with probability min(1, rate * abs(E) / 2**(k_E-1)), else 0

    A probability has 16 bits and is rounded up, so that no error is too small to be learned from.
    """

    def draw(codes: np.ndarray, log2_probability: int, purpose: int) -> np.ndarray:
        r = random_bits.bits16(seed, purpose, layer.index, step, 0, codes.size).reshape(codes.shape)
        spikes = r < np.abs(codes.astype(np.float64)) * 2.0 ** (16 + log2_probability)  # exact
        return np.sign(codes) * spikes

    pre = draw(kept.a_in, 1 - layer.bits.k_A, random_bits.PRE)
    return pre, draw(E, log2_eta + 1 - layer.bits.k_E, random_bits.POST)


def backward(
    layer: Layer,
    W_back: np.ndarray | None,
    kept: Kept,
    E: np.ndarray,
    spikes: tuple[np.ndarray, np.ndarray] | None = None,
    learns: bool = True,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """One layer backward: gradient of the weights and error of the layer below.

    Parameters
    ----------
    W_back : (fan_in, n_out) weights that the error goes back through: V, or fixed feedback weights; None
        sends nothing back
    E : (n, *out_shape) error codes
    spikes : (pre, post) of `learning_spikes`, when the weights learn from those and not from A and E
    learns : whether the gradient is wanted

    Returns
    -------
    G : (fan_in, n_out) or None
        sum over samples and positions of A * E, an exact float carrier.
    D : (n, *in_shape) or None
        W_back^T E, a float carrier; None for the first layer, which has nobody below.
    """
    pre, post = spikes or (kept.a_in, E)
    if layer.index == 0:
        W_back = None
    factors = (pre, post) if learns else None
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
    assert isinstance(layer.spec, Conv)
    spec, n, n_out = layer.spec, len(E), layer.weight_shape[-1]
    rows, g_dtype = layer.gradient_rows
    D = W_d = None
    if W_back is not None:
        D = np.empty((n, *layer.in_shape), layer.d_dtype)
        W_d = W_back.astype(layer.d_dtype, copy=False).T
    total = np.zeros((layer.fan_in, n_out), np.float64)
    lock = threading.Lock()

    def spread(errors: np.ndarray, part: slice) -> np.ndarray:
        return _unpool(layer, kept, errors, part, g_dtype).reshape(-1, n_out)

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
            D[part] = kernels.fold_patches(
                back, image, layer.padding, spec.kernel, spec.stride, layer.z_shape[:2]
            )

    kernels.each_part(work, n, _samples_a_part(layer, n))
    return (total if factors else None), D


def _unpool(
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
            out = kernels.unpool(E[part], kept.winner[part], size, layer.pool.step, shape, dtype)
            return out[:, top : top + h, left : left + w]
        case AvgPool(size):
            return kernels.spread(E[part], size, layer.z_shape, dtype)
        case _:
            assert_never(layer.pool)


# --- update ------------------------------------------------------------------------------------------


def update(
    layer: Layer,
    S: np.ndarray,
    G: np.ndarray,
    exponent: int | None,
    log2_eta: int,
    rules: Rules,
    seed: int,
    step: int,
    importance: np.ndarray | None = None,
    first: int | None = None,
) -> np.ndarray:
    """Q_G and the clipped step: S <- saturate(S - dS), dS = sgn(G) ((q >> h) + r >> 16).

    q = floor(eta |G| 2^16 / 2^m), cut to the largest step; h is 0 unless the weight is held on to.

    Parameters
    ----------
    S : weight_shape stored weights in units of sigma(k_G)
    G : (fan_in, n_out) gradient, a float carrier
    exponent : m of Shift = 2**m; None: no update
    log2_eta : int
        eta = 2**log2_eta.
    seed, step : name the 16 random bits of each weight
    importance : (2, *weight_shape) of `no_importance`, its bits go into h and its steps are counted in place;
        None where there is none. `Rules.metaplasticity` adds bits of its own.
    first : number of the first weight, a multiple of 16, where S and G are (m,) of a part of the weights

    Returns
    -------
    New S; the given one is left as it is.
    """
    bound = layer.bits.stored_max(rules.stored_range)
    damps = importance is not None or rules.metaplasticity > 0
    if rules.update == "coincidence":
        if not damps:
            dS = np.clip(G, -1, 1).reshape(S.shape)
            return np.clip(S - dS, -bound, bound).astype(S.dtype)
        exponent, log2_eta = 0, 0  # a whole step
    if exponent is None:
        return S
    step_max = 2 * bound if rules.update == "wide" else 1  # more would saturate from anywhere
    dtype = np.promote_types(carrier((step_max + 1) << 16), G.dtype).type
    shift = exponent - log2_eta - 16

    def move(out: np.ndarray, S: np.ndarray, G: np.ndarray, r: np.ndarray, held: np.ndarray | None) -> None:
        h = _damping(layer, S, G, rules, held) if damps else None
        steps = None if held is None else held[1]
        kernels.stochastic_update(out, S, G, r, shift, bound, step_max, dtype, h, steps)

    rows = np.flatnonzero(G.any(axis=1) if first is None else G)
    if not len(rows):
        return S
    if first is None and len(rows) < _SPARSE * len(
        G
    ):  # inputs that are silent all over the batch change no weight
        r = _update_bits(layer, seed, step, 0, layer.n_weights).reshape(G.shape)[rows]
        new = S.copy().reshape(G.shape)
        held = None if importance is None else importance.reshape(2, *G.shape)[:, rows]
        changed = np.empty(r.shape, S.dtype)
        move(changed, new[rows], G[rows], r, held)
        new[rows] = changed
        if importance is not None:
            importance.reshape(2, *G.shape)[:, rows] = held
        return new.reshape(S.shape)
    flat_S, flat_G, new = S.reshape(-1), G.reshape(-1), np.empty(S.size, S.dtype)

    def work(part: slice) -> None:
        r = _update_bits(layer, seed, step, (first or 0) + part.start, part.stop - part.start)
        held = None if importance is None else importance.reshape(2, -1)[:, part]
        move(new[part], flat_S[part], flat_G[part], r, held)

    kernels.each_part(work, S.size, _update_part(layer))
    return new.reshape(S.shape)


def _damping(layer: Layer, S: np.ndarray, G: np.ndarray, rules: Rules, held: np.ndarray | None) -> np.ndarray:
    """Bits by which steps are made less likely: those of the importance, and towards 0 those of the size."""
    h = np.zeros(S.shape, np.int32) if held is None else held[0].astype(np.int32)
    if rules.metaplasticity:
        bits = np.abs(S.astype(np.int32)) * rules.metaplasticity >> (layer.bits.k_G - 2)
        h += np.where(S * G > 0, np.minimum(bits, rules.metaplasticity), 0)
    return h


def no_importance(layer: Layer, rules: Rules) -> np.ndarray | None:
    """(2, *weight_shape) uint16 of zeros: bits of importance, and steps since they were last raised.

    None where the rules keep no importance.
    """
    return np.zeros((2, *layer.weight_shape), np.uint16) if rules.consolidation else None


def consolidate(importance: np.ndarray, samples: int, rules: Rules) -> np.ndarray:
    """Raise the importance of the synapses that moved most over `samples` updates, and count anew.

    A synapse that would have moved in every update, had it not been held, gets `rules.consolidation` bits,
    in half of them one bit less, and so on; no importance falls. The steps of a synapse are drawn in
    proportion to its gradient, so they count the gradient's size: the diagonal of the Fisher information by
    its first moment instead of its second.

    Source: elastic weight consolidation, Kirkpatrick et al., arXiv:1612.00796.

    >>> steps = np.array([[0, 3, 0, 0], [0, 1, 50, 100]], np.uint16)
    >>> consolidate(steps, 100, Rules(consolidation=4)).tolist()
    [[0, 3, 3, 4], [0, 0, 0, 0]]
    """
    bits, steps = importance.astype(np.int64)
    length = np.frexp(steps)[1]  # bit_length
    reached = np.where(steps > 0, length + bits + rules.consolidation - samples.bit_length(), 0)
    new = np.zeros_like(importance)
    new[0] = np.maximum(bits, np.clip(reached, 0, rules.consolidation))
    return new


def _update_bits(layer: Layer, seed: int, step: int, first: int, count: int) -> np.ndarray:
    return random_bits.bits16(seed, random_bits.UPDATE, layer.index, step, first, count)
