"""Raw integer arithmetic, no WAGE in it: rounding shifts, saturation, rounded logarithms.

Integers are carried in any numpy type, also in float32 or float64 ("carriers"): BLAS is fast in these,
and they are exact while every value stays below 2**24 or 2**53. `network` proves those bounds from the
worst case when a network is built.
"""

from __future__ import annotations

import numpy as np

CARRIERS: tuple[tuple[type[np.floating], int], ...] = ((np.float32, 2**24), (np.float64, 2**53))
"""Float types that carry integers, each with the bound up to which it is exact."""


def carrier(bound: int) -> type[np.floating]:
    """Smallest float type in which all integers up to `bound` in magnitude are exact."""
    for dtype, limit in CARRIERS:
        if bound <= limit:
            return dtype
    raise OverflowError(f"integers up to {bound} are past the exact range of float64 (2**53)")


def round_shift_half_even(x: np.ndarray, shift: int) -> np.ndarray:
    """Divide integers by 2**shift, halves to even; a negative shift multiplies, exactly.

    Parameters
    ----------
    x : integers in any numpy type, abs(x) * 2**max(0, -shift) < 2**53 (2**24 in float32)
    shift : int

    Returns
    -------
    Same shape; a float carrier for a float carrier, int64 for integers.

    >>> round_shift_half_even(np.array([5, 6, 7, -6, 3]), 2).tolist()
    [1, 2, 2, -2, 1]
    >>> round_shift_half_even(np.array([3]), -2).tolist()
    [12]
    """
    if x.dtype.kind == "f":
        scaled = np.multiply(x, 2.0**-shift, dtype=x.dtype)
        return np.rint(scaled, out=scaled)
    return np.rint(x * 2.0**-shift).astype(np.int64)


def log2_round(x: int) -> int:
    """Return round(log2 x) for a whole x >= 1, exactly.

    sqrt(2) * 2**n is irrational, so no tie can occur; squaring moves the rounding to a bit length.

    >>> [log2_round(x) for x in (1, 2, 3, 5, 6, 11, 12)]
    [0, 1, 2, 2, 3, 3, 4]
    """
    if x < 1:
        raise ValueError(f"log2_round({x}): want a whole number >= 1")
    return (x * x).bit_length() // 2


def peak(x: np.ndarray) -> int:
    """Largest magnitude in x, 0 for an empty x.

    >>> peak(np.array([3, -7, 2]))
    7
    """
    return max(int(x.max()), -int(x.min())) if x.size else 0
