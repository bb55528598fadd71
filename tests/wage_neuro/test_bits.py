"""Bit widths and the base class of all errors."""

from __future__ import annotations

import inspect
import re
from itertools import product

import numpy as np
import pytest

from wage_neuro import Bits, errors
from wage_neuro.bits import code_dtype, max_code, sigma
from wage_neuro.errors import BitWidthError

WIDTHS = range(2, 17)


@pytest.mark.parametrize("k", WIDTHS)
def test_codes_of_each_width(k, plain):
    assert max_code(k) == plain.top(k)
    assert sigma(k) * 2 ** (k - 1) == 1
    bytes_wanted = 1 if k <= 8 else 2
    assert np.dtype(code_dtype(k)).itemsize == bytes_wanted
    assert np.iinfo(code_dtype(k)).max >= max_code(k)
    bits = Bits(k, k, k, k)
    assert bits.weight_max == bits.activation_max == bits.error_max == max_code(k)


def test_parse_reads_what_str_writes():
    for k_W, k_A in product(WIDTHS, WIDTHS):
        bits = Bits(k_W, k_A, 18 - k_W, 18 - k_A)
        assert Bits.parse(str(bits)) == bits
        assert Bits.parse("-".join(map(str, (k_W, k_A, 18 - k_W, 18 - k_A)))) == bits
        assert Bits.parse(bits) is bits


@pytest.mark.parametrize(
    ("text", "widths"),
    [("2888", (2, 8, 8, 8)), ("28C8", (2, 8, 12, 8)), ("EEEE", (14,) * 4), ("2-16-8-15", (2, 16, 8, 15))],
)
def test_patterns(text, widths):
    assert Bits.parse(text) == Bits(*widths)
    assert str(Bits(*widths)) == text


@pytest.mark.parametrize("name", ["k_W", "k_A", "k_G", "k_E"])
@pytest.mark.parametrize("k", [1, 17, 0, -2, 8.0, True, "8", None])
def test_width_out_of_range(name, k):
    with pytest.raises(BitWidthError, match=f"^{re.escape(f'{name}={k}: want a whole number in 2..16')}$"):
        Bits(**{name: k})


@pytest.mark.parametrize(
    "text", ["", "288", "28888", "28F8", "28c8", "2-8-8", "2-8-8-8-8", "2,8,8,8", " 2888", 2.5]
)
def test_pattern_that_cannot_be_read(text):
    message = f"bits {str(text)!r}: want four widths k_W k_A k_G k_E such as 2888, 28C8 or 2-8-12-8"
    with pytest.raises(BitWidthError, match=f"^{re.escape(message)}$"):
        Bits.parse(text)


@pytest.mark.parametrize(("text", "name"), [("1888", "k_W=1"), ("2088", "k_A=0"), ("2-8-17-8", "k_G=17")])
def test_pattern_with_a_width_out_of_range(text, name):
    with pytest.raises(BitWidthError, match=f"^bits {text!r}: {name}: want"):
        Bits.parse(text)


@pytest.mark.parametrize("stored_range", ["authors", "paper"])
def test_stored_range(stored_range, plain):
    for k_W, k_G in product(WIDTHS, WIDTHS):
        assert Bits(k_W=k_W, k_G=k_G).stored_max(stored_range) == plain.stored_bound(k_W, k_G, stored_range)


def test_one_base_class_of_all_errors():
    ours = [e for _, e in inspect.getmembers(errors, inspect.isclass) if e.__module__ == errors.__name__]
    raised = [e for e in ours if not issubclass(e, Warning)]
    assert len(raised) == 7
    assert all(issubclass(e, errors.WageError) for e in raised)
