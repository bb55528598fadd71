"""The integer discriminant against plain Python whole numbers and float64; cuts, widths, what is refused."""

from __future__ import annotations

from math import isqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wage_neuro import Network, Rules, initial_state
from wage_neuro.activity import FIELDS
from wage_neuro.bits import Bits
from wage_neuro.discriminant import (
    ASKED,
    NOTHING,
    SOLVED_BITS,
    Discriminant,
    DiscriminantEngine,
    answer_or_learn,
    cholesky,
    factor_bits,
    substituted,
)
from wage_neuro.errors import DataError, SettingError
from wage_neuro.prototypes import NOWHERE

D, CLASSES = 5, 3
ROOM = 2**17


def samples(n: int, features: int = D, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    centres = np.random.default_rng(9).integers(20, 100, (CLASSES, features))
    return np.clip(centres[labels] + rng.integers(-27, 28, (n, features)), 0, 127), labels


def plain_sums(x, labels, most: int) -> list[list[int]]:
    """Products, sums and counts, one sample after another."""
    width = len(x[0])
    products, sums, counts = (
        [0] * (width * (width + 1) // 2),
        [[0] * width for _ in range(CLASSES)],
        [0] * CLASSES,
    )
    for number, (row, label) in enumerate(zip(x.tolist(), labels.tolist(), strict=True), start=1):
        pairs = [row[i] * row[j] for i in range(width) for j in range(i + 1)]
        products = [a + b for a, b in zip(products, pairs, strict=True)]
        sums[label] = [a + b for a, b in zip(sums[label], row, strict=True)]
        counts[label] += 1
        if number >= most and 2 * number % most == 0:
            products, counts = [a // 2 for a in products], [a // 2 for a in counts]
            sums = [[a // 2 for a in each] for each in sums]
    return [products, sums, counts]


@given(n=st.integers(1, 70), cut=st.integers(1, 70), most=st.sampled_from([2, 8, 32, ROOM]))
def test_sums_are_those_of_one_sample_after_another(n, cut, most):
    x, labels = samples(n)
    found = Discriminant.empty(D, CLASSES, Bits(), 8)
    found.most = most
    for first in range(0, n, cut):
        found.learn(x[first : first + cut], labels[first : first + cut])
    assert [array.tolist() for array in found.arrays.values()] == plain_sums(x, labels, most)
    assert found.seen == n


@pytest.mark.parametrize("k_A", [2, 8])
def test_no_sum_overflows(k_A):
    """The largest codes, of one class, up to the sample that halves the sums."""
    bits = Bits(k_A=k_A)
    top, full = bits.activation_max, Discriminant.empty(D, CLASSES, bits, 8)
    before = full.most - 1
    full = full.holding({n: np.zeros_like(a) for n, a in full.arrays.items()}, before)
    full.products += before * top * top
    full.sums[1] += before * top
    full.counts[1] += before
    assert full.products.max() + top * top < 2**31
    full.learn(np.full((1, D), top), np.array([1]))
    assert full.products.tolist() == [full.most * top * top // 2] * len(full.products)
    assert full.sums[1].tolist() == [full.most * top // 2] * D
    assert full.counts.tolist() == [0, full.most // 2, 0]
    assert (full.logits(np.full((1, D), top))[0] != NOWHERE).tolist() == [False, True, False]


# --- the solver --------------------------------------------------------------------------------------


def plain_cholesky(A: list[list[int]], least: int) -> list[list[int]]:
    size, top = len(A), 2 ** factor_bits(len(A)) - 1
    L = [[0] * size for _ in A]
    for j in range(size):
        left = [A[i][j] - sum(L[i][k] * L[j][k] for k in range(j)) for i in range(size)]
        L[j][j] = min(isqrt(max(left[j], least)), top)
        for i in range(j + 1, size):
            L[i][j] = max(-top, min(top, (2 * left[i] + L[j][j]) // (2 * L[j][j])))
    return L


def of_products(x: np.ndarray, bits: int) -> np.ndarray:
    """x x' with as many bits as a factor's square may have."""
    A = x.astype(object) @ x.T.astype(object)
    return np.array(A * 4**bits // (4 * int(max(A.diagonal()))), np.float64)


@given(seed=st.integers(0, 2**32), size=st.sampled_from([1, 2, 7, 65, 70]), least=st.sampled_from([1, 2**30]))
def test_factor_is_that_of_plain_python(seed, size, least):
    x = np.random.default_rng(seed).integers(-99, 100, (size, max(1, size // 2 + seed % size)))
    x[0, 0] = 1
    A = of_products(x, factor_bits(size))
    found = cholesky(A, least)
    assert found.tolist() == plain_cholesky(np.array(A, int).tolist(), least)


def test_the_largest_numbers_stay_exact():
    """All entries the largest: rank one, so that every later square is the least one."""
    for size in (2, 65):
        largest = 4 ** factor_bits(size) - 1
        for least in (1, 2**30):
            found = cholesky(np.full((size, size), float(largest)), least)
            assert found.tolist() == plain_cholesky([[largest] * size] * size, least)
            assert found[0, 0] == 2 ** factor_bits(size) - 1
            assert found[-1, -1] >= isqrt(least)


@given(seed=st.integers(0, 2**32), size=st.integers(1, 30), scale=st.integers(0, 30))
def test_a_substitution_leaves_half_a_unit(seed, size, scale):
    rng = np.random.default_rng(seed)
    A = of_products(rng.integers(-99, 100, (size, size + 3)), factor_bits(size))
    least = int(A.trace()) // size >> 6
    A[np.diag_indices(size)] += least
    L, right = cholesky(A, least), rng.integers(-99, 100, (size, 2)) << scale
    y = substituted(L, right, isqrt(least))
    assert abs(y).max() < 1 << SOLVED_BITS
    products = L @ y  # which power of two was taken, these tell
    shift = round(np.log2(abs(products).max() / max(1, abs(right).max())))
    scaled = right << shift if shift > 0 else right >> -shift
    assert (2 * abs(products - scaled) <= L.diagonal()[:, np.newaxis]).all()
    assert abs(y).max() > 2 ** (SOLVED_BITS - 10) or not right.any()


@pytest.mark.parametrize("shrinkage", [0, 4, 8, 14])
def test_read_out_is_that_of_floats(shrinkage):
    x, labels = samples(4000, 70)
    found = Discriminant.empty(70, CLASSES, Bits(), shrinkage)
    found.learn(x, labels)
    means = np.stack([x[labels == c].mean(axis=0) for c in range(CLASSES)])
    scatter = sum(np.outer(row, row) for row in x - means[labels])
    scatter += np.trace(scatter) / 70 * 2.0**-shrinkage * np.eye(70)
    wanted = np.linalg.solve(scatter, means.T)
    bias = -np.einsum("cf,fc->c", means, wanted) / 2
    weights, own_bias = found.read_out()
    scale = abs(weights).max() / abs(wanted).max()
    assert 2**14 <= abs(weights).max() < 2**15
    assert weights / scale == pytest.approx(wanted, abs=abs(wanted).max() / 2**12)
    assert own_bias / scale == pytest.approx(bias, rel=1e-3)
    asked, right = samples(500, 70, seed=1)
    answers = found.logits(asked)
    plain = [
        [
            sum(int(a) * int(w) for a, w in zip(row, weights[:, c], strict=True)) + int(own_bias[c])
            for c in range(CLASSES)
        ]
        for row in asked[:20]
    ]
    assert answers[:20].tolist() == plain
    assert (answers.argmax(axis=1) == (asked @ wanted + bias).argmax(axis=1)).mean() > 0.99
    assert (answers.argmax(axis=1) == right).mean() > 0.95


def test_order_says_nothing():
    x, labels = samples(300)
    order = np.random.default_rng(3).permutation(300)
    one, other = (Discriminant.empty(D, CLASSES, Bits(), 8) for _ in range(2))
    one.learn(x, labels)
    other.learn(x[order], labels[order])
    for name, array in one.arrays.items():
        assert np.array_equal(array, other.arrays[name]), name
    assert np.array_equal(one.logits(x), other.logits(x))


def test_a_class_that_never_came_is_no_answer():
    found = Discriminant.empty(D, CLASSES, Bits(), 8)
    x = np.zeros((2, D), np.int64)
    x[1] = 127
    assert (found.logits(x) == NOWHERE).all()
    found.learn(x[1:], np.array([2]))  # one sample has no covariance
    assert (found.logits(x) != NOWHERE).tolist() == [[False, False, True]] * 2
    found.learn(x[:1], np.array([0]))
    assert found.logits(x).argmax(axis=1).tolist() == [0, 2]


def test_sums_of_many_at_once_are_exact():
    """Past 2**24, where float32 would leave out units."""
    found, x = Discriminant.empty(D, CLASSES, Bits(), 8), np.full((1501, D), 127)
    found.learn(x, np.zeros(1501, int))
    assert found.products.tolist() == [1501 * 127**2] * len(found.products)


def test_a_class_of_nothing_has_no_bias():
    found = Discriminant.empty(D, CLASSES, Bits(), 8)
    x, labels = samples(90)
    found.learn(np.where(labels[:, np.newaxis] == 1, 0, x), labels)
    weights, bias = found.read_out()
    assert not weights[:, 1].any()
    assert bias[1] == 0
    assert (bias[[0, 2]] != 0).all()


# --- the engine --------------------------------------------------------------------------------------


def test_engine_learns_by_what_its_fixed_layers_make():
    net = Network.parse("16FC", (3, 3, 1), CLASSES)
    state = initial_state(net, 1)
    x, labels = samples(120, 9)
    images = (2 * x).astype(np.uint8).reshape(-1, 3, 3, 1)
    sums = Discriminant.empty(16, CLASSES, net.bits, 8)
    with DiscriminantEngine(net, Rules(), state, sums) as engine:
        engine.train(images[:50], labels[:50], 0)
        first = engine.predict(images)
        engine.train(images[50:], labels[50:], 0)
        assert engine.state.step == sums.seen == 120
        assert np.array_equal(engine.state.S[0], state.S[0])
        features = engine.features(images)
        assert engine.predict(images).argmax(axis=1).tolist() == sums.logits(features).argmax(axis=1).tolist()
        assert (engine.predict(images).argmax(axis=1) == labels).mean() > 0.9
        assert not np.array_equal(first, engine.predict(images))
        with pytest.raises(DataError, match="label 3"):
            engine.train(images[:1], np.array([3]), 0)
        assert engine.activity().samples == 0  # nobody watches
    assert sums.bytes == 4 * (16 * 17 // 2 + 16 * CLASSES + CLASSES)
    assert sums.counts.sum() == 120


def test_wide_codes_are_refused():
    with pytest.raises(SettingError, match="k_A=9: a discriminant takes features of 8 bits or fewer"):
        Discriminant.empty(D, CLASSES, Bits(k_A=9), 8)


def test_what_is_counted():
    """Of codes 3, 0, 5: two meet their own and each other's product, and both the sums of the class."""
    held, counts = Discriminant.empty(3, 2, Bits(), 8), np.zeros(len(FIELDS), np.int64)
    x = np.array([[3, 0, 5], [1, 1, 1]])
    logits = answer_or_learn(held, x, np.array([1, NOTHING]), counts)
    assert not logits.any()
    changed = sum(int(np.count_nonzero(array)) for name, array in held.arrays.items() if name != "counts")
    counted = dict(zip(FIELDS, counts.tolist(), strict=True))
    assert counted == {
        **dict.fromkeys(FIELDS, 0),
        "inputs": 2,
        "synapses_reached": (3 + 1) + (1 + 1),  # the first one's products with all three, the last one's own
        "learning_operations": 5,
        "updates": changed,
    }
    asked = answer_or_learn(held, x, np.array([NOTHING, ASKED]), counts)
    assert asked[0].tolist() == [0, 0]
    assert asked[1].tolist() == held.logits(x[1:])[0].tolist()
    counted = dict(zip(FIELDS, counts.tolist(), strict=True))
    assert (counted["inputs"], counted["synapses_reached"]) == (2 + 3, 6 + 3 * 2)
    assert counted["synaptic_operations"] == np.count_nonzero(held.read_out()[0])
    assert counted["updates"] == changed == 5
