"""Q_G and the clipped step: how a gradient changes stored weights, and what holds them back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wage_neuro import random_bits
from wage_neuro.bits import code_dtype, max_code
from wage_neuro.fixed_point import carrier
from wage_neuro.kernels import numpy_kernels as kernels
from wage_neuro.layer import Layer
from wage_neuro.rules import Rules

MOMENTUM_BITS = 16
_SPARSE = 0.7  # share of rows with a gradient below which only these are updated


def update_part(layer: Layer) -> int:
    # whole Philox blocks of 16-bit words
    return min(kernels.UPDATE_PART, -(-kernels.share(layer.n_weights, layer.n_weights) // 16) * 16)


class Move(NamedTuple):
    """How far an update moves the weights of a layer, and by which random bits.

    Attributes
    ----------
    exponent : m of Shift = 2**m; None: no update
    log2_eta : int
        eta = 2**log2_eta.
    seed, step : name the 16 random bits of each weight
    importance : (2, *weight_shape) of `no_importance`, its bits make steps less likely and its steps are
        counted in place; None where there is none. `Rules.metaplasticity` adds bits of its own.
    first : number of the first weight, a multiple of 16, where only a part of the weights is moved
    """

    exponent: int | None
    log2_eta: int
    seed: int
    step: int
    importance: np.ndarray | None = None
    first: int | None = None


def update(layer: Layer, S: np.ndarray, G: np.ndarray, how: Move, rules: Rules) -> np.ndarray:
    """Q_G and the clipped step: S <- saturate(S - dS), dS = sgn(G) ((q >> h) + r >> 16).

    q = floor(eta |G| 2^16 / 2^m), cut to the largest step; h is 0 unless the weight is held on to.

    Parameters
    ----------
    S : weight_shape stored weights in units of sigma(k_G), or (m,) of a part
    G : (fan_in, n_out) gradient, a float carrier, or (m,) of a part

    Returns
    -------
    New S; the given one is left as it is.
    """
    exponent, log2_eta, _, _, importance, first = how
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
        kernels.stochastic_update(out, S, G, r, kernels.Step(shift, bound, step_max, dtype, h, steps))

    rows = np.flatnonzero(G.any(axis=1) if first is None else G)
    if not len(rows):
        return S
    # inputs that are silent all over the batch change no weight
    if first is None and len(rows) < _SPARSE * len(G):
        r = _update_bits(layer, how, rules, 0, layer.n_weights).reshape(G.shape)[rows]
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
        r = _update_bits(layer, how, rules, (first or 0) + part.start, part.stop - part.start)
        held = None if importance is None else importance.reshape(2, -1)[:, part]
        move(new[part], flat_S[part], flat_G[part], r, held)

    kernels.each_part(work, S.size, update_part(layer))
    return new.reshape(S.shape)


def momentum_after(
    layer: Layer, M: np.ndarray, G: np.ndarray, exponent: int | None, rules: Rules
) -> np.ndarray:
    """Momentum after a batch: M <- saturate(M - RNE(M, m) + saturate(RNE(G * 2**(15-m), exponent))).

    m is `rules.momentum`. A gradient that stays the same brings M to G * 2**15 / Shift(G); one that changes
    its sign leaves M small: weights then hardly move, with no Shift of M.

    Parameters
    ----------
    M : weight_shape int16 codes, abs <= 2**15 - 1
    G : (fan_in, n_out) gradient, a float carrier
    exponent : of Shift(G) = 2**exponent; None: nothing is known yet

    Returns
    -------
    New M, the given one where there is no gradient at all: such a batch moves nothing.

    Source: 16 bits and the decay by a shift are ours; integer momentum as such is WAGEUBN's,
    arXiv:1909.02384.
    """
    return M if exponent is None or not G.any() else momentum_of_part(layer, M, G, exponent, rules)


def momentum_of_part(layer: Layer, M: np.ndarray, G: np.ndarray, exponent: int, rules: Rules) -> np.ndarray:
    """The same of some of the weights: where they have no gradient, others may."""
    top, m, new = max_code(MOMENTUM_BITS), rules.momentum, np.empty(M.size, M.dtype)
    flat_M, flat_G = M.reshape(-1), G.reshape(-1)

    def work(part: slice) -> None:
        code, lost = flat_G[part].astype(np.float64), flat_M[part].astype(np.float64)
        kernels.quantize_into(code, code, exponent - (MOMENTUM_BITS - 1 - m), -top, top)
        kernels.quantize_into(lost, lost, m, -top, top)
        new[part] = np.clip(flat_M[part] - lost + code, -top, top)

    kernels.each_part(work, M.size, update_part(layer))
    return new.reshape(M.shape)


def at_rest(layer: Layer, rules: Rules) -> np.ndarray | None:
    """Momentum before the first batch, weight_shape int16 zeros; None where the rules keep none."""
    return np.zeros(layer.weight_shape, code_dtype(MOMENTUM_BITS)) if rules.momentum else None


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


def _update_bits(layer: Layer, how: Move, rules: Rules, first: int, count: int) -> np.ndarray:
    stream = how.seed, random_bits.UPDATE, layer.index, how.step
    return random_bits.bits16(stream, first, count, rules.generator)
