"""Declared widths: what is proven, what is not, and what saturates."""

from __future__ import annotations

import numpy as np
import pytest

from processes.widths import (
    ERROR_TRACKER,
    FORWARD,
    NEURONS,
    TRANSPOSED,
    Limit,
    Widths,
    limits,
    unproven,
)
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, Rules, layers, neurocore
from wage_neuro.errors import BitWidthError

TERNARY = Rules(batch=1, shift="held", update="ternary")
COINCIDENCE = Rules(batch=1, shift="held", update="coincidence")
MLP = Network((Dense(512), Dense(10)), (784,))
CONV = Network((Conv(8, 3), MaxPool(2), Conv(16, 3), MaxPool(2), Flatten(), Dense(10)), (16, 16, 1))


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [2, 8, 24, 32])
def test_both_ends(bits, signed):
    high = 2 ** (bits - signed) - 1
    low = -high if signed else 0
    x = np.array([low - 1, low, 0, high, high + 1])
    assert Limit("p", "v", high + 1, bits, signed).fit(x).tolist() == [low, low, 0, high, high]
    strict = Limit("layer 0 9FC neurons", "z_in", high + 1, bits, signed, strict=True)
    assert strict.fit(x[1:-1]).tolist() == [low, 0, high]
    with pytest.raises(
        BitWidthError, match=rf"^layer 0 9FC neurons: z_in={high + 1} is past its {bits} bits"
    ):
        strict.fit(x[2:])
    if signed:
        with pytest.raises(
            BitWidthError, match=rf"z_in={low - 1} is past its {bits} bits \({low}\.\.{high}\)"
        ):
            strict.fit(x[:2])
        with pytest.raises(BitWidthError, match=f"z_in={low - 1} "):
            strict.fit_whole(low - 1)


def test_what_is_proven_is_not_touched():
    x = np.array([5, -7])
    assert Limit("p", "v", worst=7, bits=4).fit(x) is x
    assert Limit("p", "v", worst=7, bits=4).proven
    assert not Limit("p", "v", worst=8, bits=4).proven
    assert Limit("p", "v", worst=15, bits=4, signed=False).proven
    assert not Limit("p", "v", worst=16, bits=4, signed=False).proven


@pytest.mark.parametrize("rules", [TERNARY, COINCIDENCE], ids=["ternary", "coincidence"])
@pytest.mark.parametrize("network", [MLP, CONV], ids=str)
def test_by_default_everything_is_proven(network, rules):
    assert unproven(network, rules) == []


def test_a_shared_weight_of_a_large_image_is_not():
    network = Network.parse("lenet", (28, 28, 1), 10)
    assert unproven(network, TERNARY) == [
        "layer 0 32C5-MP2 forward synapses: G may reach 12645136, past its 24 bits (-8388607..8388607)",
        "layer 0 32C5-MP2 gradient exponent: x_in may reach 12645136, past its 24 bits (-8388607..8388607)",
    ]
    assert unproven(network, COINCIDENCE) == []


NEEDED = {
    "activation": (8, f"{FORWARD}: a_in may reach 127"),
    "error": (7, f"{NEURONS}: e_out may reach 127"),
    "post": (8, f"{NEURONS}: y_out may reach 127"),
    "weight": (2, None),
    "tag": (8, f"{FORWARD}: S may reach 64"),
    "accumulator": (18, f"{FORWARD}: z_out may reach 99568"),
    "state": (18, f"{NEURONS}: z_in may reach 99568"),
    "learning": (15, f"{FORWARD}: G may reach 16129"),
    "exponent": (6, f"{ERROR_TRACKER}: exponent may reach 16"),
}


@pytest.mark.parametrize("name", NEEDED)
def test_one_bit_fewer_than_needed(name):
    bits, line = NEEDED[name]
    assert unproven(MLP, TERNARY, Widths(**{name: bits})) == []
    if line:
        lines = unproven(MLP, TERNARY, Widths(**{name: bits - 1}))
        assert any(line in found for found in lines)
        assert all(f"past its {bits - 1} bits" in found for found in lines)


@pytest.mark.parametrize("network", [MLP, CONV], ids=str)
def test_the_worst_case_is_reached(network, assert_same_arrays):
    """The bounds are not only safe: the largest activations, weights and errors get there."""
    for layer, parts in zip(network.layers, limits(network, TERNARY, Widths()), strict=True):
        V = np.ones((layer.fan_in, layer.weight_shape[-1]), layer.z_dtype)
        a = np.full((1, *layer.in_shape), 127)
        E = np.full((1, *layer.z_shape), -127)
        Z = neurocore.sums(layer, V, a)
        assert Z.max() == parts[FORWARD]["z_out"].worst == parts[NEURONS]["z_in"].worst
        if not isinstance(layer.spec, Conv):  # zeros around the image keep a gradient below its bound
            assert layers.peak(neurocore.gradient(layer, a, E)) == parts[FORWARD]["G"].worst
        if layer.index:
            D = neurocore.error_sums(layer, V, E)
            assert layers.peak(D) == parts[TRANSPOSED]["e_out"].worst


@pytest.mark.parametrize("k", [1, 33, 8.0, True])
def test_widths_that_cannot_be(k):
    with pytest.raises(BitWidthError, match=rf"^width state={k!r}: want a whole number in 2\.\.32$"):
        Widths(state=k)
