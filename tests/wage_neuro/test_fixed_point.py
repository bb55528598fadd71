"""Rounding shifts, logarithms and carriers against Python ints."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wage_neuro.fixed_point import carrier, log2_round, peak, round_shift_half_even

INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64]


@given(
    st.integers(-8, 60).flatmap(
        lambda shift: st.tuples(
            st.just(shift),
            st.lists(st.integers(-(2 ** min(52, 52 + shift)), 2 ** min(52, 52 + shift)), max_size=20),
        )
    )
)
def test_round_shift_of_large_numbers(plain, case):
    shift, values = case
    expected = [plain.rne(v, shift) for v in values]
    for dtype in (np.int64, np.float64):
        assert round_shift_half_even(np.array(values, dtype), shift).tolist() == expected


@pytest.mark.parametrize("dtype", [*INTEGERS, np.float32, np.float64])
def test_round_shift_of_every_small_number(plain, dtype):
    low, high = (-300, 300) if np.dtype(dtype).kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    x = np.arange(max(low, -33000), min(high, 66000) + 1).astype(dtype)
    for shift in range(-3, 13):
        result = round_shift_half_even(x, shift)
        assert result.dtype == (dtype if np.dtype(dtype).kind == "f" else np.int64)
        sample = slice(None, None, 1 if len(x) < 1000 else 31)
        assert result[sample].tolist() == [plain.rne(int(v), shift) for v in x[sample]]


@given(st.lists(st.integers(-(2**24), 2**24), max_size=30), st.integers(0, 30))
def test_round_shift_in_float32(plain, values, shift):
    x = np.array(values, np.float32)
    assert round_shift_half_even(x, shift).tolist() == [plain.rne(v, shift) for v in values]
    assert x.tolist() == values


@given(st.integers(-(2**52), 2**52), st.integers(0, 55))
def test_round_shift_is_odd(x, shift):
    one, other = round_shift_half_even(np.array([x, -x]), shift).tolist()
    assert one == -other
    assert abs(2 ** (shift + 1) * one - 2 * x) <= 2**shift


def test_log2_round_of_small_numbers(plain):
    assert [log2_round(x) for x in range(1, 5000)] == [plain.exponent(x) for x in range(1, 5000)]


@given(st.integers(1, 2**100))
def test_log2_round_by_squares(x):
    m = log2_round(x)
    assert 2 ** (2 * m) < 2 * x**2 < 2 ** (2 * m + 2)


@pytest.mark.parametrize("x", [0, -1])
def test_log2_round_of_nothing(x):
    with pytest.raises(ValueError, match=re.escape(f"log2_round({x}): want a whole number >= 1")):
        log2_round(x)


@given(st.lists(st.integers(-(2**50), 2**50)))
def test_peak(values):
    expected = max(map(abs, values), default=0)
    for dtype in (np.int64, np.float64):
        found = peak(np.array(values, dtype))
        assert found == expected
        assert type(found) is int


def test_peak_of_the_lowest_integer():
    assert [peak(np.array([np.iinfo(t).min, 0], t)) for t in (np.int8, np.int16, np.int64)] == [
        2**7,
        2**15,
        2**63,
    ]


@pytest.mark.parametrize(
    ("bound", "dtype"),
    [(1, np.float32), (2**24, np.float32), (2**24 + 1, np.float64), (2**53, np.float64)],
)
def test_carrier_holds_its_bound(bound, dtype):
    assert carrier(bound) is dtype
    for value in (bound, bound - 1, -bound, 1 - bound):
        assert int(dtype(value)) == value


def test_carrier_past_the_last():
    with pytest.raises(
        OverflowError, match=f"^integers up to {2**53 + 1} are past the exact range of float64"
    ):
        carrier(2**53 + 1)
