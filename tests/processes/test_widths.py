"""Declared widths: what is proven, what is not, and what saturates."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict

import numpy as np
import pytest

from processes.widths import (
    ERROR_TRACKER,
    FORWARD,
    GRADIENT_TRACKER,
    NEURONS,
    TRANSPOSED,
    Limit,
    Widths,
    limits,
    output_error_max,
    require_hold,
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


# --- every row, as plain numbers ---------------------------------------------------------------------

DISTINCT = Widths(
    activation=11,
    error=12,
    post=13,
    weight=14,
    tag=15,
    accumulator=25,
    state=26,
    learning=18,
    shared=27,
    exponent=9,
)
"""No two of them alike."""
MIXED = Network((Conv(3, 3), MaxPool(3, 2), Conv(5, 2), Flatten(), Dense(4)), (7, 7, 2), "3-7-9-5")
"""Codes up to 3 (W), 63 (A) and 15 (E), stored weights up to 2**8 * 3/4; windows that overlap fourfold."""
STATE, SYNAPSES = 26, {"a_in": (63, 11), "S": (192, 15), "V": (3, 14)}


def tracker(worst: int, exponent: int, hold: int = 77) -> dict[str, tuple[int, int]]:
    return {"x_in": (worst, STATE), "below": (hold, STATE), "exponent": (exponent, 9)}


TERNARY_ROWS = [
    {
        FORWARD: {**SYNAPSES, "G": (49 * 63 * 60, 27), "z_out": (18 * 3 * 63, 25)},
        NEURONS: {
            "z_in": (18 * 3 * 63, STATE),
            "e_in": (4 * 5 * 3 * 15, STATE),
            "e_out": (4 * 15, 12),
            "y_out": (4 * 15, 13),
            "a_out": (63, 11),
        },
        ERROR_TRACKER: tracker(900, 10),
        GRADIENT_TRACKER: tracker(185220, 17),
    },
    {
        FORWARD: {**SYNAPSES, "G": (9 * 63 * 15, 27), "z_out": (12 * 3 * 63, 25)},
        NEURONS: {
            "z_in": (12 * 3 * 63, STATE),
            "e_in": (4 * 3 * 15, STATE),
            "e_out": (15, 12),
            "y_out": (15, 13),
            "a_out": (63, 11),
        },
        ERROR_TRACKER: tracker(180, 7),
        TRANSPOSED: {**SYNAPSES, "G": (9 * 63 * 15, 27), "e_out": (900, 25)},
        GRADIENT_TRACKER: tracker(8505, 13),
    },
    {
        FORWARD: {**SYNAPSES, "G": (63 * 15, 18), "z_out": (45 * 3 * 63, 25)},
        NEURONS: {
            "z_in": (8505, STATE),
            "e_in": (8505 + 2 ** (6 + 2 + 1), STATE),
            "e_out": (15, 12),
            "y_out": (15, 13),
        },
        ERROR_TRACKER: tracker(9017, 13),
        TRANSPOSED: {**SYNAPSES, "G": (63 * 15, 18), "e_out": (180, 25)},
        GRADIENT_TRACKER: tracker(945, 10),
    },
]


def copy_of(table: list[dict]) -> list[dict]:
    return [{part: dict(rows) for part, rows in parts.items()} for parts in table]


def rows_of(network: Network, rules: Rules, former: bool = False) -> list[dict]:
    """The table as numbers; what is unsigned, what it is called and how strict it is are checked here."""
    for strict in (True, False):
        table = limits(network, rules, DISTINCT, strict, former)
        for layer, parts in zip(network.layers, table, strict=True):
            for part, rows in parts.items():
                for var, limit in rows.items():
                    assert (limit.process, limit.var) == (f"layer {layer.index} {layer} {part}", var)
                    assert limit.strict == strict
                    assert limit.signed == ((part, var) != (NEURONS, "e_out"))
    return [
        {
            part: {var: (limit.worst, limit.bits) for var, limit in rows.items()}
            for part, rows in parts.items()
        }
        for parts in table
    ]


def test_every_row_of_ternary_updates():
    assert rows_of(MIXED, Rules(batch=1, shift="held", hold=77, update="ternary")) == TERNARY_ROWS
    papers = rows_of(MIXED, Rules(batch=1, shift="held", hold=77, update="ternary", stored_range="paper"))
    assert [parts[FORWARD]["S"] for parts in papers] == [(255, 15)] * 3


def test_every_row_of_coincidence():
    """Spikes of 1, four of which may meet at a place below overlapping windows; no scale, so no tracker."""
    expected = copy_of(TERNARY_ROWS)
    for parts, spikes, G in zip(expected, (4, 1, 1), (49 * 4, 9, 1), strict=True):
        del parts[GRADIENT_TRACKER]
        parts[NEURONS]["y_out"] = (spikes, 13)
        for part in {FORWARD, TRANSPOSED} & parts.keys():
            parts[part]["G"] = (G, parts[part]["G"][1])
    assert rows_of(MIXED, Rules(batch=1, shift="held", hold=77, update="coincidence")) == expected


def test_a_memory_that_keeps_logits_makes_the_last_error_wider():
    """Z - target, and Z - former: each Z may be at its bound, of either sign."""
    expected = copy_of(TERNARY_ROWS)
    expected[2][NEURONS]["e_in"] = (3 * 8505 + 512, STATE)
    expected[2][ERROR_TRACKER] = tracker(26027, 15)
    rules = Rules(batch=1, shift="held", hold=77, update="ternary")
    assert rows_of(MIXED, rules, former=True) == expected
    assert output_error_max(MIXED.layers[-1], former=True) == 26027
    assert unproven(MLP, TERNARY, Widths(state=20), former=True) == []
    assert unproven(MLP, TERNARY, Widths(state=18)) == []
    assert 3 * 512 * 127 + 2 ** (7 + 1 + 3) == 197120
    line = "layer 1 10FC neurons: e_in may reach 197120, past its 18 bits (-131071..131071)"
    assert line in unproven(MLP, TERNARY, Widths(state=18), former=True)


def test_the_worst_error_of_a_memory_is_reached():
    layer = MLP.layers[-1]
    Z = np.full((1, 10), -layer.z_bound)
    for loss in ("sse", "one-sided"):
        D = layers.output_error(layer, Z, np.array([3]), Rules(batch=1, shift="held", loss=loss), -Z)
        assert layers.peak(D) == output_error_max(layer, former=True)
        D = layers.output_error(layer, Z, np.array([3]), Rules(batch=1, shift="held", loss=loss))
        assert layers.peak(D) == output_error_max(layer)


def test_a_hold_past_the_counter():
    eight = Widths(state=8)  # counts to 127
    rules = Rules(batch=1, shift="held", hold=100, update="ternary")
    (layer,) = limits(Network((Dense(2),), (1,), "2-2-3-2"), rules, eight)
    require_hold(layer, 127)
    with pytest.raises(
        BitWidthError,
        match=r"^hold=128: the layer 0 2FC error exponent counts in 8 bits \(-127\.\.127\); want at most",
    ):
        require_hold(layer, 128)
    only = {GRADIENT_TRACKER: layer[GRADIENT_TRACKER]}
    with pytest.raises(BitWidthError, match="gradient exponent counts in"):
        require_hold(only, 128)
    # a hold of the rules that does not fit is told as unproven, and saturates
    (layer,) = limits(
        Network((Dense(2),), (1,), "2-2-3-2"), Rules(batch=1, shift="held", hold=200, update="ternary"), eight
    )
    require_hold(layer, 200)
    with pytest.raises(BitWidthError, match=r"^hold=201: "):
        require_hold(layer, 201)


def test_what_is_declared_where_nothing_is_said():
    """Loihi 2's, or Loihi 1's where those are published: see the sources beside each."""
    assert asdict(Widths()) == {
        "activation": 8, "error": 8, "post": 8, "weight": 8, "tag": 9, "accumulator": 22, "state": 24,
        "learning": 16, "shared": 24, "exponent": 6,
    }  # fmt: skip
    assert not limits(MLP, TERNARY, Widths())[0][FORWARD]["V"].strict


def test_limits_are_neither_strict_nor_of_a_memory_unless_asked():
    rules = Rules(batch=1, shift="held", hold=77, update="ternary")
    assert limits(MIXED, rules, DISTINCT) == limits(MIXED, rules, DISTINCT, strict=False, former=False)
    assert limits(MIXED, rules, DISTINCT) != limits(MIXED, rules, DISTINCT, former=True)
    assert unproven(MLP, TERNARY, Widths(state=18)) != unproven(MLP, TERNARY, Widths(state=18), former=True)


@pytest.mark.parametrize(("width", "bits"), [(1, 18), (2, 27)])
def test_a_weight_of_two_places_is_shared(width, bits):
    network = Network((Conv(1, 1), Flatten(), Dense(2)), (1, width, 1))
    assert limits(network, TERNARY, DISTINCT)[0][FORWARD]["G"].bits == bits


def test_direct_feedback_brings_the_last_layers_error():
    """However narrow the layer between, each class may add its largest error."""
    network = Network((Dense(6), Dense(2), Dense(5)), (4,))
    rules = Rules(batch=1, shift="held", update="ternary", feedback="direct")
    table = limits(network, rules, Widths())
    assert [layer[NEURONS]["e_in"].worst for layer in table[:2]] == [5 * 127, 5 * 127]
    assert table[0][ERROR_TRACKER]["x_in"].worst == 5 * 127


def test_widths_are_values():
    """What is proven of some cannot change, and equal ones are one."""
    assert len({Widths(), Widths(state=24), Widths(state=23)}) == len({Widths().state, 24, 23})
    with pytest.raises(FrozenInstanceError):
        Widths().state = 3  # type: ignore[misc]
