"""Softmax in integers: the same probabilities on every machine, to the last bit.

The exponential is read from two tables, whose entries are rounded decimals: no float takes part, whose last
bit would be a library's own choice.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from functools import cache

import numpy as np

PROBABILITY_BITS = 15
"""Fraction bits of a probability: p - onehot is then a 16-bit code, in units of sigma(16)."""
ONE = 1 << PROBABILITY_BITS

LOGIT_BITS = 16  # fraction bits of a logit's distance to the largest one
FINE_BITS = 10  # of these, looked up in the second table
RANGE = 32  # from this distance on exp is taken for 0; it is 0 in EXP_BITS from 22 on
EXP_BITS = 30  # fraction bits of exp


def _table(entries: int, bits: int) -> np.ndarray:
    """exp(-i / 2**bits) in units of 2**-EXP_BITS."""
    with localcontext() as context:
        context.prec, context.rounding = 40, ROUND_HALF_EVEN
        values = [(Decimal(-i) / 2**bits).exp() * 2**EXP_BITS for i in range(entries)]
        return np.array([int(value.to_integral_value()) for value in values], np.int64)


@cache
def tables() -> tuple[np.ndarray, np.ndarray]:
    """exp(-x), x in steps of 2**(FINE_BITS - LOGIT_BITS); and in steps of 2**-LOGIT_BITS, within one."""
    coarse = LOGIT_BITS - FINE_BITS
    return _table(RANGE << coarse, coarse), _table(1 << FINE_BITS, LOGIT_BITS)


def probabilities(Z: np.ndarray, log2_one: int) -> np.ndarray:
    """Softmax of the logits Z / 2**log2_one.

    Parameters
    ----------
    Z : (n, classes) int64, abs < 2**53
    log2_one : int
        Z of a logit of 1.0 is 2**log2_one (`Layer.log2_target`).

    Returns
    -------
    (n, classes) int64 in units of 2**-PROBABILITY_BITS, each within one unit of softmax in real numbers, up
    to 2**13 classes: half a unit is rounding, a logit's own rounding to 2**-16 and the tables' are less.

    Source: arXiv:1802.04680, section 4, has softmax in float32; the integers are ours.

    >>> probabilities(np.array([[3, 3], [100, 0]]), log2_one=0).tolist()
    [[16384, 16384], [32768, 0]]
    """
    distance = np.minimum(Z.max(axis=1, keepdims=True) - Z, RANGE << log2_one)
    drop = log2_one - LOGIT_BITS
    x = (distance + (1 << drop >> 1)) >> drop if drop > 0 else distance << -drop
    x = np.minimum(x, (RANGE << LOGIT_BITS) - 1)
    coarse, fine = tables()
    e = coarse[x >> FINE_BITS] * fine[x & ((1 << FINE_BITS) - 1)] >> EXP_BITS
    total = e.sum(axis=1, keepdims=True)
    result: np.ndarray = ((e << (PROBABILITY_BITS + 1)) + total) // (2 * total)
    return result
