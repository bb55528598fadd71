"""Counter-based random bits: f(seed, purpose, layer, step, index), the same on every backend.

Philox4x64-10 (Salmon et al., SC 2011) with key (seed, purpose) and counter (index, step, layer, 0):
nothing is carried from one call to the next, so any cut of the work and any resumed run draws the
same bits.
"""

from __future__ import annotations

import numpy as np

from wage_neuro.errors import SettingError

INIT, UPDATE, ORDER, PRE, POST, FEEDBACK, AUGMENT, STREAM, KEEP, RECALL = range(10)
"""Purposes: initial weights, stochastic rounding of updates, order of the training data, learning spikes
before and after the synapse, fixed feedback weights, augmentation of the training images, order within the
tasks of a stream, what a memory keeps, what it recalls."""

Stream = tuple[int, int, int, int]
"""Name of a stream of random bits: seed, purpose, layer, step."""

_WORDS_A_BLOCK = 4  # one Philox block is four 64-bit words


def check_seed(seed: int) -> int:
    """Return the seed, or raise SettingError when it is not a whole number in 0..2**64 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise SettingError(f"seed {seed!r}: want a whole number in 0..2**64-1")
    return int(seed)


def words(stream: Stream, first: int, count: int) -> np.ndarray:
    """Return 64-bit words `first` .. `first + count` of one stream; `first` is a multiple of 4."""
    seed, purpose, layer, step = stream
    generator = np.random.Philox(
        key=np.array([seed, purpose], np.uint64),
        counter=np.array([first // _WORDS_A_BLOCK, step, layer, 0], np.uint64),
    )
    return generator.random_raw(count)


def bits16(stream: Stream, first: int, count: int) -> np.ndarray:
    """Return (count,) uint16 random bits from position `first` (a multiple of 16) of one stream.

    >>> whole = bits16((0, UPDATE, 1, 7), first=0, count=40)
    >>> bool((bits16((0, UPDATE, 1, 7), first=16, count=24) == whole[16:]).all())
    True
    """
    raw = words(stream, first // 4, -(-count // 4))
    return raw.astype("<u8", copy=False).view("<u2")[:count]


def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """Return the (n,) order in which epoch `epoch` visits n samples.

    >>> sorted(permutation(0, 3, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.argsort(words((seed, ORDER, 0, epoch), 0, n), kind="stable")
