"""A layer by itself: the compiled kernels against numpy, message for message and bit for bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from wage_neuro import Network, Rules
from wage_neuro.activity import FIELDS
from wage_neuro.control import LayerControl
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.kernels import native
from wage_neuro.kernels.layerwise import NativeLayer, NumpyLayer, layer_at_work
from wage_neuro.layers import initial_weights, no_importance
from wage_neuro.learner import Site
from wage_neuro.state import LayerState

NETWORKS = {
    "dense": Network.parse("70-40-6", (5, 5, 1), 6),
    "conv": Network.parse("5C3-MP2-6C3S2-6", (9, 9, 3), 6),
    "many channels": Network.parse("40C3-MP3S2-35C3-6", (9, 8, 5), 6),
    "16 bits": Network.parse("7C3-20-6", (6, 6, 1), 6, bits="3-9-12-11"),
    "wide sums": Network.parse("20-6", (9, 9, 1), 6, bits="8-16-12-12"),
}
RULES = {
    "batch": Rules(batch=6),
    "one": Rules(batch=1, shift="held", hold=3, update="ternary", metaplasticity=2, consolidation=3),
    "pipelined": Rules(batch=9, shift="held", update="ternary", pipelined=True, gamma=2),
    "coincidence": Rules(batch=1, shift="held", update="coincidence"),
    "random": Rules(batch=4, feedback="random"),
    "direct": Rules(batch=4, shift="held", feedback="direct", stored_range="paper"),
}
pytestmark = pytest.mark.skipif(not native.is_here(), reason="the compiled kernels are not built")


def both(layer, rules, signed=False):
    lanes, importance = rules.samples_an_update, no_importance(layer, rules)
    pair = (
        NumpyLayer(Site(layer, 6, rules, 5), lanes),
        layer_at_work(Site(layer, 6, rules, 5), lanes, in_flight=3, signed_in=signed),
    )
    for each in pair:
        each.put(LayerState(S=initial_weights(layer, 5).astype(np.int16), importance=importance))
    return pair


def assert_equal_memory(one, other):
    assert one.get() == other.get()


def messages(layer, rules, rng, signed):
    """Codes and errors of 14 calls, some of them silent."""
    top, n = layer.bits.activation_max, rules.samples_an_update
    direct = rules.feedback == "direct" and not layer.is_last
    shape, size = ((n, 6), 100) if direct else ((n, *layer.out_shape), 30000)
    for t in range(14):
        a = rng.integers(-top if signed else 0, top + 1, (n, *layer.in_shape)).astype(np.int16)
        e = rng.integers(-size, size + 1, shape).astype(np.int32)
        yield t, a * (rng.random(a.shape) < 0.5), e * (t != 9)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", NETWORKS)
def test_messages_and_memory(name, rule):
    """Three samples in flight, some not kept, one forgotten, one learned frozen, all counted."""
    rng, rules, moved = np.random.default_rng(3), RULES[rule], 0
    for layer in NETWORKS[name].layers:
        pair = both(layer, rules, signed=layer.index == 0)
        assert isinstance(pair[1], NativeLayer) or pair[1].lanes > 1
        counts = np.zeros((2, len(FIELDS)), np.int64)
        for t, a, e in messages(layer, rules, rng, signed=layer.index == 0):
            assert np.array_equal(
                *(each.forward(a, t % 5 != 3, c) for each, c in zip(pair, counts, strict=True))
            )
            if len(pair[0].kept) < 3:
                continue
            if t == 6:
                for each in pair:
                    each.forget()
                continue
            control, before = LayerControl(None if t == 11 else 3, 4), pair[0].get().S
            sent = [each.error(e.copy(), control, t, True, c) for each, c in zip(pair, counts, strict=True)]
            assert sent[0] is sent[1] is None or np.array_equal(*sent)
            for each, c in zip(pair, counts, strict=True):
                each.update(control, t, c)
            moved += int((before != pair[0].get().S).sum())
            assert_equal_memory(*pair)
            assert np.array_equal(pair[0].visible(), pair[1].visible())
        assert np.array_equal(*counts)
    assert moved > 0


@pytest.mark.parametrize("first", ["wide", "ternary", "coincidence"])
def test_the_update_form_may_change_in_flight(first):
    rng, rules = np.random.default_rng(1), Rules(batch=1, shift="held", update=first)
    layer, states = NETWORKS["dense"].layers[1], []
    pair = both(layer, rules)
    for t, form in enumerate(("wide", "ternary", "coincidence", "ternary", "wide") * 2):
        a = rng.integers(0, 128, (1, *layer.in_shape)).astype(np.int16)
        message = rng.integers(-30000, 30000, (1, *layer.out_shape)).astype(np.int32)
        for each in pair:
            each.forward(a, True)
            each.follow(replace(rules, update=form))
            each.error(message, LayerControl(3, 10), t, True, None)
            each.update(LayerControl(3, 10), t, None)
        assert_equal_memory(*pair)
        states.append(pair[0].get().S)
    assert sum(bool((a != b).any()) for a, b in pairwise(states)) > 5


def test_what_is_left_to_numpy(monkeypatch):
    layer, rules = NETWORKS["dense"].layers[0], Rules(batch=4, shift="held")
    settings = {"in_flight": 2, "signed_in": False}
    assert isinstance(layer_at_work(Site(layer, 6, rules, 0), 2, **settings), NumpyLayer)
    assert isinstance(layer_at_work(Site(layer, 6, rules, 0), 4, kernels="numpy", **settings), NumpyLayer)
    with pytest.raises(EngineError, match=r"layer 70FC with lanes=2 is left to numpy"):
        layer_at_work(Site(layer, 6, rules, 0), 2, kernels="compiled", **settings)
    with pytest.raises(SettingError, match="kernels='fast': want auto or numpy or compiled"):
        layer_at_work(Site(layer, 6, rules, 0), 4, kernels="fast", **settings)
    monkeypatch.setattr(native, "is_here", lambda: False)
    assert isinstance(layer_at_work(Site(layer, 6, rules, 0), 4, **settings), NumpyLayer)
