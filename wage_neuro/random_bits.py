"""Counter-based random bits: f(seed, purpose, layer, step, index), the same on every backend.

Philox (Salmon et al., SC 2011): nothing is carried from one call to the next, so any cut of the work and any
resumed run draws the same bits. A generator of the rules draws what learning needs at each step:

- philox4x64 is Philox4x64-10 with key (seed, purpose) and counter (block + 1, step, layer, 0): 16 numbers a
  block. What is drawn once, such as initial weights and orders, is always of this one.
- philox4x32 is Philox4x32-10 with key (seed, seed >> 32) and counter (block, step, step >> 32, purpose << 16
  | layer): 8 numbers a block, of products a quarter as large.
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

_WORDS_A_BLOCK = 4  # one Philox block is four words

_M32 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W32 = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10
_LOW, _HALF = 0xFFFFFFFF, np.uint64(32)
_PART = 4096  # blocks whose rounds stay in a core's cache


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


def bits16(stream: Stream, first: int, count: int, generator: str = "philox4x64") -> np.ndarray:
    """Return (count,) uint16 random bits from position `first` (a multiple of 16) of one stream.

    >>> whole = bits16((0, UPDATE, 1, 7), first=0, count=40)
    >>> bool((bits16((0, UPDATE, 1, 7), first=16, count=24) == whole[16:]).all())
    True
    >>> bits16((0, UPDATE, 1, 7), first=16, count=3, generator="philox4x32").tolist()
    [15802, 55876, 7382]
    """
    return GENERATORS[generator](stream, first, count)


def _bits_4x64(stream: Stream, first: int, count: int) -> np.ndarray:
    raw = words(stream, first // 4, -(-count // 4))
    return raw.astype("<u8", copy=False).view("<u2")[:count]


def _bits_4x32(stream: Stream, first: int, count: int) -> np.ndarray:
    seed, purpose, layer, step = stream
    rest = [step & _LOW, step >> 32, purpose << 16 | layer]
    blocks = np.empty((-(-count // 8), _WORDS_A_BLOCK), np.uint32)
    for i in range(0, len(blocks), _PART):
        part = blocks[i : i + _PART]
        part[:, 0] = first // 8 + i + np.arange(len(part))
        part[:, 1:] = rest
        part[:] = philox4x32(part, (seed & _LOW, seed >> 32))
    return blocks.astype("<u4", copy=False).view("<u2").reshape(-1)[:count]


def philox4x32(counters: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Return the (n, 4) uint32 words of Philox4x32-10 at n counters of as many words.

    Source: Salmon et al., SC 2011; constants, and order of the words, as in Random123's `philox.h`.

    >>> [hex(word) for word in philox4x32(np.zeros((1, 4), np.uint32), (0, 0))[0].tolist()]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    x0, y0, x1, y1 = counters.T.astype(
        np.uint64, order="C"
    )  # words in the lower halves, and anything above those of y
    for i in range(_ROUNDS):
        k0, k1 = (np.uint64(k + i * w & _LOW) for k, w in zip(key, _W32, strict=True))
        x0 *= _M32[0]
        x1 *= _M32[1]
        high0, high1 = x0 >> _HALF, x1 >> _HALF
        for high, y, k in ((high1, y0, k0), (high0, y1, k1)):  # in place: twice as fast
            high ^= y
            high ^= k
            high &= np.uint64(_LOW)
        x0, y0, x1, y1 = high1, x1, high0, x0
    return np.stack((x0, y0, x1, y1), axis=1).astype(np.uint32)


GENERATORS = {"philox4x64": _bits_4x64, "philox4x32": _bits_4x32}
"""Of the random bits of updates and of learning spikes, by name."""


def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """Return the (n,) order in which epoch `epoch` visits n samples.

    >>> sorted(permutation(0, 3, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.argsort(words((seed, ORDER, 0, epoch), 0, n), kind="stable")
