"""Whole numbers on a wire: every value of the narrow widths, both ends of the wide ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappings.cluster import codes
from mappings.cluster.codes import (
    add_up,
    bytes_for,
    pack,
    pack_codes,
    pack_sums,
    packed_bytes,
    unpack,
    unpack_codes,
)


@pytest.mark.parametrize("width", [1, 2])
def test_every_value_of_narrow_widths(width):
    values = np.arange(-(2 ** (8 * width - 1)), 2 ** (8 * width - 1))
    assert np.array_equal(unpack(pack(values, width), width), values)


@pytest.mark.parametrize("width", range(1, 9))
def test_both_ends(width):
    top = 2 ** (8 * width - 1)
    values = np.array([-top, 1 - top, -1, 0, 1, top - 1])
    packed = pack(values, width)
    assert packed.dtype == np.uint8
    assert packed.size == len(values) * width
    assert unpack(packed, width).tolist() == values.tolist()


@given(st.integers(0, 2**62))
def test_bytes_hold_the_bound_and_no_fewer_would(bound):
    width = bytes_for(bound)
    assert bound < 2 ** (8 * width - 1)
    assert width == 1 or bound >= 2 ** (8 * (width - 1) - 1)
    if width <= 8:
        assert unpack(pack(np.array([bound, -bound]), width), width).tolist() == [bound, -bound]


@given(st.lists(st.integers(-1, 1), max_size=40))
def test_steps_take_two_bits(steps):
    packed = pack_codes(np.array(steps, np.int8), 2)
    assert packed.size == packed_bytes(len(steps), 2) == -(-len(steps) // 4)
    assert unpack_codes(packed, len(steps), 2).tolist() == steps


@given(st.data(), st.integers(3, 16))
def test_stored_weights_take_whole_bytes(data, bits):
    top = 2 ** (bits - 1) - 1
    codes = np.array(data.draw(st.lists(st.integers(-top, top), max_size=20)), np.int16)
    packed = pack_codes(codes, bits)
    assert packed.size == packed_bytes(len(codes), bits) == len(codes) * (1 if bits <= 8 else 2)
    assert unpack_codes(packed, len(codes), bits).tolist() == codes.tolist()


@given(st.data(), st.integers(1, 8), st.integers(1, 4), st.booleans())
def test_compiled_packs_and_adds_up_as_numpy(data, width, ranks, floats):
    top = min(2 ** (8 * width - 1), 2**31 if width <= 4 else 2**53)
    rows = data.draw(st.integers(0, 9))
    own = [
        data.draw(st.lists(st.integers(1 - top, top - 1), min_size=rows, max_size=rows)) for _ in range(ranks)
    ]
    kind = np.float64 if floats else np.int64
    packed = np.concatenate([pack_sums(np.array(each, kind), width) for each in own])
    assert np.array_equal(packed, np.concatenate([pack(np.array(each, np.int64), width) for each in own]))
    with pytest.MonkeyPatch.context() as change:
        for here in (True, False):
            if not here:
                change.setattr(codes.native, "is_here", lambda: False)
            assert add_up(packed, ranks, width).tolist() == [sum(each) for each in zip(*own, strict=True)]


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=30))
def test_unpacked_is_no_view_that_changes_what_arrived(values):
    packed = pack(np.array(values, np.int64), 5)
    before = packed.copy()
    unpack(packed, 5)
    assert np.array_equal(packed, before)
