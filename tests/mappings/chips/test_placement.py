"""Placement: every neuron and synapse once, nothing past a limit, always the same; limits that break."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mappings.chips.chip import Chip
from mappings.chips.limits import broken, broken_by_parts, no_room
from mappings.chips.placement import (
    HOST,
    LABEL,
    PARTIAL,
    READ_OUT,
    RESOURCES,
    DoesNotFit,
    Placement,
    Use,
    place,
)
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, Rules
from wage_neuro.errors import NetworkError

ONCHIP = Rules(batch=1, shift="held", update="ternary")
LOIHI2 = Chip.load("loihi2")


@st.composite
def networks(draw) -> Network:
    """Small nets with strides, both paddings, overlapping pools; dense alone too."""
    specs: list = []
    shape = (draw(st.integers(3, 7)), draw(st.integers(3, 7)), draw(st.integers(1, 3)))
    for _ in range(draw(st.integers(0, 2))):
        specs.append(
            Conv(
                draw(st.integers(1, 5)),
                draw(st.integers(1, 3)),
                draw(st.integers(1, 2)),
                draw(st.sampled_from(["SAME", "VALID"])),
            )
        )
        if draw(st.booleans()):
            specs.append(MaxPool(2, draw(st.sampled_from([1, 2, 3]))))
    specs += [Flatten(), *(Dense(draw(st.integers(1, 9))) for _ in range(draw(st.integers(1, 2))))]
    try:
        return Network(tuple(specs), shape)
    except NetworkError:  # a kernel past its input
        return Network((Flatten(), Dense(4)), shape)


@st.composite
def chips(draw) -> Chip:
    """Chips small enough that populations are cut in every way."""
    return replace(
        LOIHI2,
        cores=draw(st.sampled_from([1, 5, 8])),
        mesh_columns=4,
        mesh_rows=2,
        core_neurons=draw(st.sampled_from([4, 9, 40])),
        core_memory=draw(st.sampled_from([2000, 5000, 40000])),
        word=draw(st.sampled_from([1, 64])),
        list_header=draw(st.sampled_from([0, 10])),
        axons_in=draw(st.sampled_from([12, 30, 200])),
        axons_out=draw(st.sampled_from([30, 100, 400])),
        shared_weights=draw(st.booleans()),
        accumulator_bits=draw(st.sampled_from([12, 24])),
    )


feedbacks = [replace(ONCHIP, feedback=feedback) for feedback in ("transposed", "random", "direct")]
uses = st.builds(Use, st.booleans(), st.sampled_from(feedbacks), prototypes=st.sampled_from([0, 0, 1, 30]))


def wiring(network: Network, placement: Placement, number: int) -> np.ndarray:
    """(targets, sources) number of synapses of a link, from plain loops over the layer it belongs to."""
    link = placement.links[number]
    source, target = placement.populations[link.source], placement.populations[link.target]
    table = np.zeros((target.size, source.size), int)
    at = {p: np.arange(p.size).reshape(p.shape) for p in (source, target)}
    if link.span is None:
        return table + 1
    kernel, stride, top, left = link.span
    small, large = (source, target) if link.back else (target, source)
    for y, x, c in np.ndindex(*small.shape):
        for i, j in np.ndindex(kernel, kernel):
            row, column = y * stride - top + i, x * stride - left + j
            if 0 <= row < large.shape[0] and 0 <= column < large.shape[1]:
                for d in [c] if link.depthwise else range(large.shape[2]):
                    pair = at[small][y, x, c], at[large][row, column, d]
                    table[pair[::-1] if link.back else pair] += 1
    return table


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks(), chips(), uses)
def test_every_neuron_and_synapse_is_placed_once(network, chip, use):
    try:
        placement = place(network, chip, use)
    except DoesNotFit:
        return
    owned = [np.zeros(p.shape, int) for p in placement.populations]
    for index, piece in enumerate(placement.pieces):
        if piece.first == index:
            owned[piece.population][slice(*piece.rows), slice(*piece.columns), slice(*piece.channels)] += 1
    assert all((count == 1).all() for count in owned[1:])

    per_piece = np.zeros(len(placement.pieces), int)
    edges = placement.edges
    for number, link in enumerate(placement.links):
        source, target = placement.populations[link.source], placement.populations[link.target]
        table = wiring(network, placement, number)
        covered = np.zeros_like(table)
        is_main = number == next(n for n, k in enumerate(placement.links) if k.target == link.target)
        for index, piece in enumerate(placement.pieces):
            if piece.population != link.target or not (is_main or piece.first == index):
                continue
            mine = np.zeros(target.shape, bool)
            mine[slice(*piece.rows), slice(*piece.columns), slice(*piece.channels)] = True
            heard = np.zeros(source.shape, bool)
            if link.depthwise:
                heard[:] = True
            elif link.span is None:
                heard.reshape(-1)[slice(*piece.inputs)] = True
            else:
                heard[:, :, slice(*piece.inputs)] = True
            part = np.outer(mine.ravel(), heard.ravel())
            covered += part
            per_piece[index] += table[part].sum()
            axons = (table * part).any(axis=0).sum()
            into = (edges.link == number) & (edges.target == index)
            assert edges.count[into].sum() == axons
        assert (covered == 1).all(), link
        assert placement.geometries[number].connections == table.sum()
    assert per_piece.tolist() == [piece.synapses for piece in placement.pieces]


# the pieces that hear fewest sources need the most memory, as each source has the longest list
UNEVEN = Network((Conv(2, 3), Flatten(), Dense(1)), (3, 6, 2))
NARROW = replace(LOIHI2, core_neurons=9, core_memory=2000, list_header=0, axons_in=30, shared_weights=False)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks(), chips(), uses)
@example(UNEVEN, NARROW, Use(True, ONCHIP))
def test_no_core_holds_more_than_it_can_and_nothing_depends_on_chance(network, chip, use):
    try:
        placement = place(network, chip, use)
    except DoesNotFit:
        return
    for name in RESOURCES:
        assert placement.core_resources[name].max() <= placement.limit(name), name
    again = place(network, chip, use)
    assert again.pieces == placement.pieces
    assert (again.core == placement.core).all()
    columns, rows = placement.xy(np.arange(placement.cores))
    assert columns.min() >= 0
    assert columns.max() < placement.chip_columns * chip.mesh_columns
    assert len(set(zip(columns.tolist(), rows.tolist(), strict=True))) == placement.cores  # tiles of one core
    assert placement.chips == -(-placement.cores // chip.cores)
    edges = placement.edges
    arriving = np.bincount(edges.target[edges.target != HOST], edges.count[edges.target != HOST])
    assert arriving.tolist() == [piece.axons_in for piece in placement.pieces]
    answers = use.prototypes or network.classes
    assert edges.count[edges.link == READ_OUT].sum() == answers
    assert edges.count[edges.link == LABEL].sum() == (answers if use.training else 0)


def test_inputs_are_cut_where_one_core_cannot_hear_them_all():
    network = Network((Dense(1),), (50,))
    placement = place(network, replace(LOIHI2, axons_in=20), Use())
    assert len(placement.pieces) == 3
    assert [piece.first for piece in placement.pieces] == [0, 0, 0]
    edges = placement.edges
    assert edges.count[edges.link == PARTIAL].tolist() == [1, 1]
    assert not broken_by_parts(placement)
    narrow = place(network, replace(LOIHI2, axons_in=20, payload_bits=7), Use())
    (limit,) = broken_by_parts(narrow)
    assert (limit.quantity, limit.value, limit.limit) == ("payload of a partial sum", 14, 7)


def test_memory_of_the_three_feedbacks():
    network = Network((Dense(300), Dense(200), Dense(10)), (400,))
    memory = {}
    for feedback in ("transposed", "random", "direct"):
        placement = place(network, LOIHI2, Use(True, replace(ONCHIP, feedback=feedback)))
        memory[feedback] = sum(
            g.connections * g.link.bits for g in placement.geometries if g.link.role == "feedback"
        )
    assert memory == {
        "transposed": (300 * 200 + 200 * 10) * (LOIHI2.weight_bits + LOIHI2.tag_bits),
        "random": (300 * 200 + 200 * 10) * 2,
        "direct": 10 * (300 + 200) * 2,
    }


def test_one_memory_serves_both_ways():
    """A core that reads transposed has no copy, and learns once; random weights are kept as elsewhere."""
    network, fpga = Network((Dense(512), Dense(10)), (784,)), Chip.load("ecp5-85k")
    placement = place(network, fpga, Use(True, ONCHIP))
    assert (placement.chips, placement.cores) == (1, 1)
    assert sum(piece.memory for piece in placement.pieces) < 8 * (784 * 512 + 512 * 10) + 20_000
    feedback = [g for g in placement.geometries if g.link.role == "feedback"]
    assert [(g.link.bits, g.link.learns, g.connections) for g in feedback] == [(0, False, 5120)]
    random = place(network, fpga, Use(True, replace(ONCHIP, feedback="random")))
    assert [g.link.bits for g in random.geometries if g.link.role == "feedback"] == [2]


def test_a_batch_needs_a_gradient_a_synapse():
    network = Network((Dense(64), Dense(10)), (100,))
    one = place(network, LOIHI2, Use(True, ONCHIP))
    batch = place(network, LOIHI2, Use(True, Rules(batch=128)))
    more = network.layers[0].g_bound(128).bit_length() + 1
    assert [b.bits - a.bits for a, b in zip(one.links, batch.links, strict=True) if a.learns] == [more] * 3
    quantities = {limit.quantity for limit in broken(network, LOIHI2, Use(True, Rules(batch=128)))}
    assert quantities == {"gradient of a batch", "a maximum over the batch"}


def test_the_accumulator_takes_wide_sums_in_parts():
    network = Network((Dense(10),), (784,))
    bound = 784 * 127
    for bits, parts in ((16, -(-bound // 32767)), (18, 1), (17, 2)):
        assert place(network, replace(LOIHI2, accumulator_bits=bits), Use()).steps == [0, parts]


def test_errors_that_come_one_to_one_take_one_step():
    placement = place(Network((Dense(64), Dense(10)), (100,)), LOIHI2, Use(True, ONCHIP))
    assert {"0 error", "1 error"} <= {
        str(placement.populations[g.link.target]) for g in placement.geometries if g.link.depthwise
    }
    assert placement.steps == [0, 1, 1, 1, 1]


def test_all_limits_at_once():
    network = Network.parse("lenet", (28, 28, 1), 10)
    chip = Chip.load("loihi1")
    limits = broken(network, chip, Use(True, Rules(batch=128)))
    quantities = {limit.quantity for limit in limits}
    assert quantities == {
        "payload of an input code",
        "payload of an activation",
        "payload of an error",
        "max-pooling (programmable neurons)",
        "a third factor, the error",
        "a maximum over the batch",
        "a convolution that learns",
        "gradient of a batch",
    }
    assert all(limit.value > limit.limit and limit.way_out for limit in limits)
    assert str(limits[0]) == (
        "input: payload of an input code 7 > 0 bits; a chip with graded spikes, or k_A = 2"
    )
    assert broken(network, LOIHI2, Use()) == []


def test_bits_of_a_payload_and_of_the_last_product_where_errors_are_made():
    """An error has a sign, an activation none; the last layer's error may reach twice its product."""
    network = Network((Dense(9), Dense(4)), (20,))
    narrow = replace(LOIHI2, payload_bits=7)
    assert broken(network, narrow, Use()) == []
    assert [(k.where, k.quantity, k.value) for k in broken(network, narrow, Use(True, ONCHIP))] == [
        ("layer 0 9FC", "payload of an error", 8),
        ("layer 1 4FC", "payload of an error", 8),
    ]
    last = Network((Dense(4),), (20,))
    bits = (20 * 127).bit_length() + 1
    assert broken(last, replace(LOIHI2, state_bits=bits), Use()) == []
    (limit,) = broken(last, replace(LOIHI2, state_bits=bits), Use(True, ONCHIP))
    assert (limit.quantity, limit.value) == ("product Z", bits + 1)


def test_a_core_that_shares_weights_stores_a_kernel_once():
    """Three input channels, each with 5 x 5 weights to 4 channels: 100 of two bits, in lists of 64."""
    network = Network((Conv(4, 5), Flatten(), Dense(2)), (6, 6, 3))
    chip = replace(LOIHI2, word=1, list_header=10, list_synapses=64)
    placement = place(network, chip, Use())
    piece = next(p for p in placement.pieces if placement.populations[p.population].layer == 0)
    assert piece.memory == 3 * ((64 * 2 + 10) + (36 * 2 + 10))


def test_softmax_and_an_unquantized_layer_are_not_for_a_chip():
    network = Network.parse("9FC-3FC", (8,))
    rules = Rules(batch=1, shift="held", update="ternary", loss="softmax")
    (limit,) = broken(network, LOIHI2, Use(True, rules))
    assert (limit.where, limit.quantity, limit.value, limit.limit) == ("output", "softmax", 1, 0)
    assert broken(network, LOIHI2, Use()) == []
    for function in (broken, place):
        with pytest.raises(NetworkError, match=r"^layer 1 3FCU: a chip has no unquantized layer$"):
            function(Network.parse("9FC-3FCU", (8,)), LOIHI2, Use())


def test_momentum_and_normalised_layers_are_not_for_a_chip():
    rules = Rules(batch=2, shift="held", update="ternary", momentum=3)
    (limit, *_) = broken(Network.parse("9FC-3FC", (8,)), LOIHI2, Use(True, rules))
    assert str(limit.way_out) == "train without momentum (train --mode onchip)"
    assert (limit.quantity, limit.value, limit.limit) == ("momentum", 16, 0)
    for function in (broken, place):
        with pytest.raises(NetworkError, match=r"^layer 0 9FCN: a chip has no normalised layer$"):
            function(Network.parse("9FCN-3FC", (8,)), LOIHI2, Use())


def test_ways_out_lead_out():
    chip = Chip.load("loihi1")
    assert broken(Network.parse("32C5S2-64C5S2-512FC", (28, 28, 1), 10, "2288"), chip, Use()) == []
    wide = broken(Network((Dense(10),), (1000,), "12-8-8-8"), LOIHI2, Use())
    assert [(limit.quantity, limit.value, limit.limit) for limit in wide] == [
        ("weight", 12, 8),
        ("product Z", (1000 * 2047 * 127).bit_length() + 1, 24),
    ]
    assert broken(Network((Dense(10),), (500,), "8-8-8-8"), LOIHI2, Use()) == []


@pytest.mark.parametrize(
    ("change", "quantity"),
    [
        ({"core_memory": 64}, "synapses of one neuron"),
        ({"axons_in": 1}, "inputs of one neuron"),
        ({"axons_out": 1}, "cores that hear one neuron"),
        ({"core_neurons": 1}, "neurons of one piece"),
    ],
)
def test_a_network_that_fits_nowhere(change, quantity):
    network = Network((Conv(4, 3), Flatten(), Dense(3)), (6, 6, 2))
    with pytest.raises(DoesNotFit) as error:
        place(network, replace(LOIHI2, **change), Use(True, ONCHIP))
    limit = no_room(network, error.value)
    assert limit.quantity == quantity
    assert limit.value > limit.limit == next(iter(change.values()))


def test_no_error_goes_to_frozen_layers():
    network = Network((Conv(4, 3), MaxPool(2), Flatten(), Dense(20), Dense(10)), (8, 8, 1))
    all_learn, some = (place(network, LOIHI2, Use(True, ONCHIP, frozen=n)) for n in (0, 2))
    assert [str(p) for p in some.populations] == [
        "input", "0 forward", "0 pool", "1 forward", "2 forward", "2 error",
    ]  # fmt: skip
    assert [link.learns for link in some.links if link.role == "forward"] == [False, False, True]
    assert {link.role for link in some.links} == {"forward", "pool", "loss", "third factor"}
    assert some.piece_resources["memory"].sum() < all_learn.piece_resources["memory"].sum()
    assert sum(some.steps) < sum(all_learn.steps)
    # a convolution cannot learn there, but it can stay as it is
    assert [limit.quantity for limit in broken(network, LOIHI2, Use(True, ONCHIP))] == [
        "a convolution that learns"
    ]
    assert broken(network, LOIHI2, Use(True, ONCHIP, frozen=1)) == []


def test_prototypes_are_neurons_with_codes_in_their_synapses():
    network = Network((Dense(20), Dense(10)), (64,))
    use = Use(True, ONCHIP, frozen=1, prototypes=300)
    placement = place(network, LOIHI2, use)
    assert [str(p) for p in placement.populations] == ["input", "0 forward", "1 prototypes"]
    assert [(link.bits, link.learns, link.value) for link in placement.links] == [
        (2, False, 127),
        (8, True, 127 * 127),
    ]
    assert placement.steps == [0, 1, -(-20 * 127 * 127 // 32767)]
    assert broken(network, LOIHI2, use) == []
    # 20 axons with 300 codes each: four lists of 64 and one of 44; an axon a prototype that may be named
    codes, named = 20 * (4 * 576 + 384), 300 * 64
    assert placement.piece_resources["memory"].tolist()[1] == codes + named


def test_what_prototypes_break():
    pixels = Network((Dense(10),), (784,))
    (limit,) = broken(pixels, LOIHI2, Use(True, ONCHIP, prototypes=9))
    assert str(limit) == (
        "prototypes: nearness 2 x P - P P 25 > 24 bits of state; fewer features, or fewer bits (k_A)"
    )
    assert broken(Network((Dense(10),), (784,), "2788"), LOIHI2, Use(True, ONCHIP, prototypes=9)) == []
    chip = replace(LOIHI2, weight_bits=7, learning=False)
    quantities = [
        (k.quantity, k.value, k.limit) for k in broken(pixels, chip, Use(True, ONCHIP, prototypes=9))
    ]
    assert quantities[0] == ("code", 8, 7)
    assert quantities[-1] == ("synapses that learn", 1, 0)
    assert len(broken(pixels, chip, Use(prototypes=9))) == 2
    signed = Network((Dense(10),), (200,), signed_input=True)
    (limit,) = broken(signed, replace(LOIHI2, state_bits=23), Use(prototypes=9))
    assert (limit.value, limit.limit) == ((3 * 200 * 127**2).bit_length() + 1, 23)
