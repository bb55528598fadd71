"""The pieces of a layer, joined again, are the layer."""

from __future__ import annotations

import numpy as np
import pytest

from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, layers, neurocore
from wage_neuro.fixed_point import log2_round
from wage_neuro.layers import Draw
from wage_neuro.train import Held

LAYERS = {
    "dense": Network((Dense(7), Dense(3)), (11,)).layers[0],
    "conv": Network((Conv(4, 3), Flatten(), Dense(3)), (6, 7, 2)).layers[0],
    "conv, pooling": Network((Conv(2, 2), Conv(4, 3), MaxPool(2), Flatten(), Dense(3)), (7, 6, 2)).layers[1],
    "conv, overlapping pooling": Network(
        (Conv(2, 2), Conv(4, 3, 2, "VALID"), MaxPool(3, 1), Flatten(), Dense(3)), (11, 12, 1)
    ).layers[1],
    "hidden dense": Network((Dense(7), Dense(6), Dense(3)), (11,)).layers[1],
}


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def sample(layer, rng):
    V = rng.integers(-1, 2, (layer.fan_in, layer.weight_shape[-1])).astype(layer.z_dtype)
    a = rng.integers(0, 128, (1, *layer.in_shape)) * (rng.random((1, *layer.in_shape)) < 0.5)
    E = rng.integers(-127, 128, (1, *layer.out_shape)).astype(np.int8)
    return V, a.astype(np.int16), E


@pytest.mark.parametrize("coincidence", [False, True], ids=["codes", "spikes"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_pieces_are_the_layer(name, coincidence, rng, assert_same_arrays):
    layer = LAYERS[name]
    for step in range(20):
        V, a, E = sample(layer, rng)
        out, kept = layers.forward(layer, V, a)
        A, masks = neurocore.activate(layer, neurocore.sums(layer, V, a))
        assert_same_arrays(out, A, "activations")
        for mask in ("active", "saturated", "winner"):
            assert_same_arrays(getattr(kept, mask), getattr(masks, mask), mask)

        pre, post = a, E
        if coincidence:
            pre, post = (
                layers.pre_spikes(layer, a, Draw(9, step)),
                layers.post_spikes(layer, E, 2, Draw(9, step)),
            )
        G, D = layers.backward(layer, V, kept, E, (pre, post))
        post = neurocore.unpool(layer, masks, post)
        pieces = neurocore.gradient(layer, pre, post)
        assert_same_arrays(G, pieces, "gradient")
        assert pieces.dtype == G.dtype
        assert neurocore.gradient_peak(layer, pre, post, pieces) == layers.peak(G)
        if layer.index:
            assert_same_arrays(
                D, neurocore.error_sums(layer, V, neurocore.unpool(layer, masks, E)), "error sums"
            )


def test_a_bank_of_threshold_neurons_rounds_the_logarithm():
    bank = neurocore.thresholds(2**13)
    for x in (*range(1, 2**13 + 1), -1, -5, -(2**13)):
        assert neurocore.exponent_reached(bank, np.array([x, 1])) == log2_round(abs(x))
    assert neurocore.exponent_reached(bank, np.zeros(3)) == neurocore.UNKNOWN
    assert len(neurocore.thresholds(0)) == 1


def test_a_wide_bank_is_exact_at_every_threshold():
    bank = neurocore.thresholds(2**31 - 1)
    assert len(bank) == 32
    for m, threshold in enumerate(bank.tolist()):
        assert log2_round(threshold) == m
        assert threshold == 1 or log2_round(threshold - 1) == m - 1


@pytest.mark.parametrize("hold", [1, 2, 7])
def test_a_tracker_is_held(hold, rng):
    bank, exponent, below, held = neurocore.thresholds(4000), neurocore.UNKNOWN, 0, Held()
    seen = set()
    for _ in range(2000):
        peak = int(rng.integers(0, 2 ** rng.integers(1, 12)) * (rng.random() < 0.9))
        held = held.after(peak, 1, hold)
        reached = neurocore.exponent_reached(bank, np.array([-peak]))
        exponent, below = neurocore.tracker_step(exponent, below, reached, hold)
        assert (None if exponent == neurocore.UNKNOWN else exponent, below) == (held.exponent, held.below)
        seen.add(exponent)
    assert len(seen) > 5


def test_a_counter_that_is_too_narrow_stays_where_it_is():
    assert neurocore.tracker_step(5, 3, reached=2, hold=10, fit=lambda count: min(count, 3)) == (5, 3)
    assert neurocore.tracker_step(5, 3, reached=2, hold=4) == (4, 0)
