"""Normalisation in integers: each channel of a layer has its own centre and its own power of two.

A normalised layer (32C3N, 256FCN) sends A = saturate(RNE(Z - centre, shift)) in place of RNE(Z, alpha).
Centre and shift of each channel follow its mean and its mean magnitude over the batches, by shifts; they are
part of the state, and answers use them as they stand. What batch normalisation does to the error is done
too: the part of it that a centre or a scale would take up is projected out, over the batch. Without that the
network collapses.

Cost on a chip: a centre, a spread and a shift a channel; two sums a channel while a batch comes up, three
more while its error comes down, four divisions a channel and batch; and the error of every place of a layer
must be there before the first can go on, so it is of use in batches alone.

Source: batch normalisation, arXiv:1502.03167; powers of two for its scales as in WAGEUBN, arXiv:1909.02384;
statistics that follow in the forward pass, and this projection, are ours.
"""

from __future__ import annotations

import math

import numpy as np

from wage_neuro.errors import SettingError
from wage_neuro.layer import Kept, Layer

FRACTION = 8  # bits of a mean below its unit
FOLLOW = 4  # statistics move by a 2**-FOLLOW share of the way a batch


def at_start(layer: Layer) -> np.ndarray | None:
    """(3, n_out) int64 centre, spread and shift of each channel: the paper's alpha; None of other layers.

    The centre is in units of 2**-FRACTION of what pooling leaves, the spread in units of 2**-FRACTION codes:
    the mean magnitude of codes that would not end at 0.
    """
    if not layer.normalised:
        return None
    start = np.zeros((3, layer.weight_shape[-1]), np.int64)
    start[1], start[2] = level(layer) << FRACTION, layer.a_shift
    return start


def level(layer: Layer) -> int:
    """Mean magnitude of the codes that a shift aims at: a quarter of the largest."""
    return 1 << max(0, layer.bits.k_A - 3)


def shift_max(layer: Layer) -> int:
    """Largest shift of a channel: the largest sum is then a code of no more than the level.

    Stored weights of many bits begin small and grow, so the paper's alpha says little of where a shift ends.
    """
    return max(layer.a_shift + 1, (layer.pooled_bound // level(layer)).bit_length())


def centre_max(layer: Layer) -> int:
    """Largest centre, in its units."""
    return layer.pooled_bound << FRACTION


def can_be(layer: Layer, norm: np.ndarray) -> bool:
    """Whether all statistics are in their ranges."""
    centre, spread, shift = norm
    spread_max = layer.bits.activation_max << (FRACTION + 1)
    inside = (np.abs(centre) <= centre_max(layer)) & (spread >= 0) & (spread <= spread_max)
    return bool((inside & (shift >= 0) & (shift <= shift_max(layer))).all())


def codes(layer: Layer, norm: np.ndarray, Z: np.ndarray) -> np.ndarray:
    """(Z - centre) / 2**shift of each channel in a new carrier: neither rounded nor saturated."""
    U = np.subtract(Z, round_shift(norm[0], FRACTION), dtype=Z.dtype, casting="unsafe")
    return np.ldexp(U, -norm[2].astype(np.int32), out=U)


def project(norm: np.ndarray, kept: Kept, D: np.ndarray) -> np.ndarray:
    """Error at Z from the error D at the activations: both masks, less its parts along 1 and along the codes.

    Parameters
    ----------
    norm : (3, n_out) statistics that made the codes
    kept : with the masks and `Kept.u`
    D : (n, *out_shape) error sums

    Returns
    -------
    (n, *out_shape) int64, no larger anywhere than the largest that was let through; a channel of the
    smallest shift as it is, others divided by as many powers of two more as theirs has.
    """
    assert kept.active is not None
    assert kept.saturated is not None
    assert kept.u is not None
    D = np.where(kept.active & ~kept.saturated, D, 0).astype(np.int64)
    top = int(np.abs(D).max(initial=0))
    rows, u = D.reshape(-1, D.shape[-1]), kept.u.reshape(-1, D.shape[-1]).astype(np.int64)
    mean = divide(rows.sum(axis=0) << FRACTION, len(rows))
    slope = divide((rows * u).sum(axis=0) << FRACTION, np.maximum((u * u).sum(axis=0), 1))
    left = round_shift((rows << FRACTION) - mean - slope * u, FRACTION + norm[2] - norm[2].min())
    return np.clip(left, -top, top).reshape(D.shape)


def follow(layer: Layer, norm: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Statistics after a batch with these codes, (n, *out_shape) of `Kept.u`.

    A shift moves by one where the spread has left level * 2**-3/4 .. level * 2**3/4, so it does not flicker.
    """
    rows = u.reshape(-1, u.shape[-1]).astype(np.int64)
    n, (centre, spread, shift) = len(rows), norm
    mean, size = (divide(part.sum(axis=0) << FRACTION, n) for part in (rows, np.abs(rows)))
    bound, unit = centre_max(layer), level(layer) << FRACTION
    centre = np.clip(centre + round_shift(mean << shift, FOLLOW), -bound, bound)
    spread = spread + round_shift(size - spread, FOLLOW)
    up = (16 * spread > 27 * unit) & (shift < shift_max(layer))
    down = (32 * spread < 19 * unit) & (shift > 0)
    spread = np.where(up, round_shift(spread, 1), np.where(down, 2 * spread, spread))
    return np.stack([centre, spread, shift + up - down])


def prove(layer: Layer, samples: int, arriving: int) -> None:
    """Raise SettingError unless the sums of an update are exact in 64 bits, for errors up to `arriving`."""
    rows = samples * (math.prod(layer.out_shape[:-1]))
    bound = (rows * arriving * layer.bits.activation_max) << (FRACTION + 1)
    if bound >= 2**62:
        raise SettingError(
            f"batch={samples}: sums of errors of layer {layer.index} {layer}, normalised, may reach {bound}:"
            " want less than 2**62"
        )


def divide(a: np.ndarray, b: np.ndarray | int) -> np.ndarray:
    """a / b in whole numbers, rounded, halves up; b > 0.

    >>> divide(np.array([5, -5, 7]), np.array([2, 2, 4])).tolist()
    [3, -2, 2]
    """
    quotient: np.ndarray = (2 * a + b) // (2 * b)
    return quotient


def round_shift(x: np.ndarray, shift: int | np.ndarray) -> np.ndarray:
    """x / 2**shift in int64, halves to even; shift >= 0.

    >>> round_shift(np.array([5, 6, -6, 7]), 2).tolist()
    [1, 2, -2, 2]
    """
    half = (np.int64(1) << shift >> 1) - (np.asarray(shift) > 0)
    odd = x >> shift & (np.asarray(shift) > 0)
    rounded: np.ndarray = (x + half + odd) >> shift
    return rounded
