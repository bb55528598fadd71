"""Counter-based random bits."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wage_neuro.errors import SettingError
from wage_neuro.random_bits import INIT, ORDER, UPDATE, bits16, check_seed, permutation, words

SEED = st.integers(0, 2**64 - 1)
NAMES = (SEED, st.sampled_from([INIT, UPDATE, ORDER]), st.integers(0, 40), st.integers(0, 2**40))


@given(*NAMES, st.integers(0, 1000), st.integers(0, 100))
def test_words_are_those_of_philox(seed, purpose, layer, step, block, count):
    philox = np.random.Philox(
        key=np.array([seed, purpose], np.uint64), counter=np.array([block, step, layer, 0], np.uint64)
    )
    assert np.array_equal(words((seed, purpose, layer, step), 4 * block, count), philox.random_raw(count))


@given(*NAMES, st.integers(0, 30), st.integers(0, 100))
def test_any_slice_equals_the_whole(seed, purpose, layer, step, block, count):
    whole = bits16((seed, purpose, layer, step), 0, 600)
    assert whole.dtype == np.uint16
    part = bits16((seed, purpose, layer, step), 16 * block, count)
    assert np.array_equal(part, whole[16 * block : 16 * block + count])
    raw = words((seed, purpose, layer, step), 0, 150)
    assert np.array_equal(words((seed, purpose, layer, step), 4 * block, 30), raw[4 * block : 4 * block + 30])
    # the lowest 16 bits of a word come first, on any machine
    assert whole[:8].tolist() == [
        (int(word) >> shift) & 0xFFFF for word in raw[:2] for shift in (0, 16, 32, 48)
    ]


@given(*NAMES)
def test_no_two_streams_are_alike(seed, purpose, layer, step):
    first = words((seed, purpose, layer, step), 0, 4).tolist()
    others = [
        words(((seed + 1) % 2**64, purpose, layer, step), 0, 4),
        words((seed, purpose + 1, layer, step), 0, 4),
        words((seed, purpose, layer + 1, step), 0, 4),
        words((seed, purpose, layer, step + 1), 0, 4),
        words((seed, purpose, layer, step), 4, 4),
        words((seed, purpose, step + 1, layer), 0, 4),
    ]
    assert all(other.tolist() != first for other in others)


@given(SEED, st.integers(0, 1000), st.integers(0, 500))
def test_permutation(seed, epoch, n):
    order = permutation(seed, epoch, n)
    assert sorted(order.tolist()) == list(range(n))
    assert np.array_equal(order, permutation(seed, epoch, n))
    if n > 30:
        assert not np.array_equal(order, permutation(seed, epoch + 1, n))
        assert not np.array_equal(order, permutation((seed + 1) % 2**64, epoch, n))


def test_bits_are_uniform():
    draws = bits16((3, UPDATE, 1, 2), 0, 1 << 18)
    # each of 256 bins has 1024 +- 32; each of 16 bits is set in half of the draws +- 256
    for byte in (draws & 0xFF, draws >> 8):
        counts = np.bincount(byte, minlength=256)
        assert counts.min() > 1024 - 6 * 32
        assert counts.max() < 1024 + 6 * 32
    ones = [(int(draws.size) >> 1) - int(((draws >> bit) & 1).sum()) for bit in range(16)]
    assert max(map(abs, ones)) < 6 * 256


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1, np.int64(5), np.uint64(2**64 - 1)])
def test_seed(seed):
    assert check_seed(seed) == int(seed)
    assert type(check_seed(seed)) is int


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, True, "1", None, np.int8(-1)])
def test_what_is_no_seed(seed):
    with pytest.raises(
        SettingError, match=f"^{re.escape(f'seed {seed!r}: want a whole number in 0..2**64-1')}$"
    ):
        check_seed(seed)
