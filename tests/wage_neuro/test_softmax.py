"""Softmax in integers: equal to Python ints, and within one unit of softmax in floats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wage_neuro import softmax
from wage_neuro.softmax import ONE, probabilities


def test_the_tables_are_plain(plain):
    coarse, fine = softmax.tables()
    assert coarse.tolist() == plain.COARSE
    assert fine.tolist() == plain.FINE
    assert coarse[0] == fine[0] == 2**30
    assert coarse[-1] == 0  # so that what is cut off at RANGE is nothing


@given(
    st.lists(st.integers(-(2**52), 2**52), min_size=1, max_size=20)
    | st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=20),
    st.integers(0, 40),
)
def test_every_row_is_plain(plain, row, log2_one):
    assert probabilities(np.array([row]), log2_one).tolist() == [plain.softmax(row, 2**log2_one)]


@pytest.mark.parametrize("log2_one", [2, 9, 16, 17, 22, 38])
@pytest.mark.parametrize("classes", [2, 20, 1000])
@pytest.mark.parametrize("spread", [0.05, 1, 6, 40])
def test_within_one_unit_of_floats(spread, classes, log2_one):
    """An independent witness: softmax in float64, as anybody writes it."""
    rng = np.random.default_rng(classes)
    Z = np.rint(rng.normal(0, spread, (200, classes)) * 2.0**log2_one).astype(np.int64)
    logits = Z / 2.0**log2_one
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = np.abs(probabilities(Z, log2_one) - ONE * e / e.sum(axis=1, keepdims=True))
    assert 0.2 < error.max() < 0.6  # units of 2**-15: half of one is rounding, which cannot be better


def test_the_error_is_the_derivative_of_cross_entropy():
    """d/dz of -log softmax(z)[label] is p - onehot: by differences of the float loss."""
    Z, one = np.array([[1.5, -0.5, 0.25, 2.0]]), 2.0**20
    p = probabilities((Z * one).astype(np.int64), 20)[0] / ONE
    for label in range(4):
        for k in range(4):
            loss = []
            for h in (1e-5, -1e-5):
                moved = Z[0] + h * (np.arange(4) == k)
                loss.append(math.log(np.exp(moved).sum()) - moved[label])
            assert abs((loss[0] - loss[1]) / 2e-5 - (p[k] - (k == label))) < 2**-15


@pytest.mark.parametrize("n", [0, 1, 5])
def test_shapes_and_sums(n):
    Z = np.arange(3 * n).reshape(n, 3) ** 3
    p = probabilities(Z, 4)
    assert p.shape == (n, 3)
    assert p.dtype == np.int64
    assert (np.abs(p.sum(axis=1) - ONE) <= 2).all()
    assert (np.diff(p, axis=1) >= 0).all()
