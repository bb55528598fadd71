"""Patterns with real numbers: what is read and what is refused."""

from __future__ import annotations

import pytest

from mappings.pattern import Pattern
from wage_neuro import Bits
from wage_neuro.errors import BitWidthError


def test_patterns():
    assert Pattern.parse("28C8") == Pattern(2, 8, 12, 8)
    assert not Pattern.parse("28C8").is_float
    assert Pattern.parse("28C8").bits == Bits.parse("28C8")
    assert Pattern.parse("28ff") == Pattern(2, 8)
    assert Pattern.parse("28ff").bits == Bits(2, 8, 16, 16)
    assert Pattern.parse("2-8-f-15") == Pattern(2, 8, None, 15)
    assert Pattern.parse("vanilla") == Pattern(is_vanilla=True)
    assert all(Pattern.parse(text).is_float for text in ("f888", "2f88", "28f8", "288f", "vanilla"))


@pytest.mark.parametrize("text", ["", "28f", "28fff", "28FF", "28xf", "28f8-BN", "Vanilla", "2 8f8"])
def test_a_pattern_that_cannot_be_read(text):
    with pytest.raises(BitWidthError, match=f"^pattern '{text}': want k_W k_A k_G k_E such as 2888, 28C8 or"):
        Pattern.parse(text)


def test_a_width_out_of_range():
    with pytest.raises(BitWidthError, match=r"^k_A=1: want a whole number in 2\.\.16$"):
        Pattern.parse("21ff")
