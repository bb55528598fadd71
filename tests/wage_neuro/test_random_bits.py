"""Counter-based random bits."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wage_neuro import Rules
from wage_neuro.errors import SettingError
from wage_neuro.random_bits import (
    GENERATORS,
    INIT,
    ORDER,
    POST,
    PRE,
    UPDATE,
    bits16,
    check_seed,
    permutation,
    philox4x32,
    words,
)

SEED = st.integers(0, 2**64 - 1)
every_generator = pytest.mark.parametrize("generator", sorted(GENERATORS))
NAMES = (SEED, st.sampled_from([INIT, UPDATE, ORDER]), st.integers(0, 40), st.integers(0, 2**40))


@given(*NAMES, st.integers(0, 1000), st.integers(0, 100))
def test_words_are_those_of_philox(seed, purpose, layer, step, block, count):
    philox = np.random.Philox(
        key=np.array([seed, purpose], np.uint64), counter=np.array([block, step, layer, 0], np.uint64)
    )
    assert np.array_equal(words((seed, purpose, layer, step), 4 * block, count), philox.random_raw(count))


@pytest.mark.parametrize(
    ("counter", "key", "block"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox4x32_gives_the_published_answers(counter, key, block):
    """Of Random123's kat_vectors, philox4x32 with 10 rounds."""
    assert philox4x32(np.array([counter] * 3, np.uint32), tuple(key)).tolist() == [block] * 3


def _philox4x32(counter: list[int], key: list[int]) -> list[int]:
    """A block, in plain integers."""
    for _ in range(10):
        low, high = (counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57)
        counter = [
            high >> 32 ^ counter[1] ^ key[0],
            high & 0xFFFFFFFF,
            low >> 32 ^ counter[3] ^ key[1],
            low & 0xFFFFFFFF,
        ]
        key = [(k + w) & 0xFFFFFFFF for k, w in zip(key, (0x9E3779B9, 0xBB67AE85), strict=True)]
    return counter


@given(
    SEED,
    st.sampled_from([UPDATE, PRE, POST]),
    st.integers(0, 40),
    SEED,
    st.integers(0, 2**28),
    st.integers(0, 40),
)
def test_philox4x32_names_its_streams(seed, purpose, layer, step, first, count):
    """Also where a number of 64 bits is split into two words."""
    drawn = bits16((seed, purpose, layer, step), 16 * first, count, "philox4x32")
    wanted = []
    for block in range(2 * first, 2 * first + -(-count // 8)):
        counter = [block, step & 0xFFFFFFFF, step >> 32, purpose << 16 | layer]
        key = [seed & 0xFFFFFFFF, seed >> 32]
        wanted += [word >> shift & 0xFFFF for word in _philox4x32(counter, key) for shift in (0, 16)]
    assert drawn.dtype == np.uint16
    assert drawn.tolist() == wanted[:count]


def test_philox4x32_of_many_blocks():
    """More than are drawn at once."""
    whole = bits16((5, UPDATE, 1, 2), 0, 100_000, "philox4x32")
    assert np.array_equal(bits16((5, UPDATE, 1, 2), 70_000, 30_000, "philox4x32"), whole[70_000:])


@every_generator
@given(*NAMES, st.integers(0, 30), st.integers(0, 100))
def test_any_slice_equals_the_whole(generator, seed, purpose, layer, step, block, count):
    whole = bits16((seed, purpose, layer, step), 0, 600, generator)
    assert whole.dtype == np.uint16
    part = bits16((seed, purpose, layer, step), 16 * block, count, generator)
    assert np.array_equal(part, whole[16 * block : 16 * block + count])


@given(*NAMES, st.integers(0, 30))
def test_any_slice_of_words_equals_the_whole(seed, purpose, layer, step, block):
    whole = bits16((seed, purpose, layer, step), 0, 600)
    raw = words((seed, purpose, layer, step), 0, 150)
    assert np.array_equal(words((seed, purpose, layer, step), 4 * block, 30), raw[4 * block : 4 * block + 30])
    # the lowest 16 bits of a word come first, on any machine
    assert whole[:8].tolist() == [
        (int(word) >> shift) & 0xFFFF for word in raw[:2] for shift in (0, 16, 32, 48)
    ]


@every_generator
@given(*NAMES)
def test_no_two_streams_of_bits_are_alike(generator, seed, purpose, layer, step):
    """Whatever names them: each part of a name, and of a number of 64 bits each half."""
    stream = seed, purpose, layer, step
    changed = [(stream, 16)]
    for i, least in ((0, 1), (0, 1 << 32), (1, 1), (2, 1), (3, 1), (3, 1 << 32)):
        changed.append(((*stream[:i], (stream[i] + least) % 2**64, *stream[i + 1 :]), 0))
    changed.append(
        ((seed, layer, purpose, step) if layer != purpose else (seed, purpose, layer, step + 2), 0)
    )
    first = bits16(stream, 0, 16, generator).tolist()
    assert all(bits16(name, start, 16, generator).tolist() != first for name, start in changed)


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


N = 1 << 17


def _draws(generator: str, along: str) -> np.ndarray:
    """(N,) numbers of one stream, or the same few of many streams: steps, layers or seeds."""
    if along == "numbers":
        return bits16((3, UPDATE, 1, 2), 0, N, generator)
    streams = {"steps": (3, UPDATE, 1, 0), "layers": (3, UPDATE, 0, 2), "seeds": (0, UPDATE, 1, 2)}
    place = {"steps": 3, "layers": 2, "seeds": 0}[along]
    name, found = list(streams[along]), []
    for i in range(N // 64):
        name[place] = i
        found.append(bits16(tuple(name), 0, 64, generator))
    return np.concatenate(found)


@every_generator
@pytest.mark.parametrize("along", ["numbers", "steps", "layers", "seeds"])
def test_bits_are_uniform_and_do_not_follow_each_other(generator, along):
    """Of fixed seeds, so the test is the same each time; bounds are six standard deviations."""
    draws = _draws(generator, along)
    for byte in (draws & 0xFF, draws >> 8):  # each of 256 bins has 512 +- 23
        counts = np.bincount(byte, minlength=256)
        assert abs(counts - 512).max() < 6 * 23
        chi_square = ((counts - 512.0) ** 2 / 512).sum()  # 255 +- sqrt(510)
        assert abs(chi_square - 255) < 6 * 510**0.5
    bits = 2 * (draws[:, None] >> np.arange(16, dtype=np.uint16) & 1).astype(np.float64) - 1
    assert abs(bits.sum(axis=0)).max() < 6 * N**0.5
    together = bits.T @ bits  # two bits of a number; and of numbers that follow, in a block, a stream, a name
    assert abs(together - N * np.eye(16)).max() < 6 * N**0.5
    for lag in (1, 2, 4, 8, 16, 64, 128):
        assert abs(bits[lag:].T @ bits[:-lag]).max() < 6 * N**0.5, lag


@every_generator
def test_streams_are_independent(generator):
    """Side by side: bits of two streams that differ in one part of their names agree as often as not."""
    stream = 3, UPDATE, 1, 2
    one = np.unpackbits(bits16(stream, 0, N, generator).view(np.uint8))
    for i, least in (
        (0, 1),
        (0, 1 << 32),
        (1, PRE - UPDATE),
        (1, POST - UPDATE),
        (2, 1),
        (3, 1),
        (3, 1 << 32),
    ):
        name = (*stream[:i], stream[i] + least, *stream[i + 1 :])
        other = np.unpackbits(bits16(name, 0, N, generator).view(np.uint8))
        assert abs(2 * int((one == other).sum()) - one.size) < 6 * one.size**0.5, name


def test_generators_differ():
    draws = [np.unpackbits(bits16((3, UPDATE, 1, 2), 0, N, name).view(np.uint8)) for name in GENERATORS]
    assert abs(2 * int((draws[0] == draws[1]).sum()) - draws[0].size) < 6 * draws[0].size ** 0.5


def test_a_generator_that_is_not_there():
    with pytest.raises(SettingError, match=r"^generator='mt19937': want philox4x64 or philox4x32$"):
        Rules(generator="mt19937")


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
