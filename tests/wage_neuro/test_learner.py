"""A layer in the middle of learning: what an update changes, and the same in parts as a team has it."""

from __future__ import annotations

import numpy as np
import pytest

from wage_neuro import Network, NumpyEngine, Rules, initial_state, layers
from wage_neuro.activity import FIELDS
from wage_neuro.control import LayerControl
from wage_neuro.learner import LayerLearner, Site

CONTROL = LayerControl(log2_eta=3, hold=9)


def met(name: str, rules: Rules) -> LayerLearner:
    """The first layer of a network that has met an error."""
    network, rng = Network.parse(name, (30,), 5), np.random.default_rng(2)
    learner = LayerLearner(Site(network.layers[0], 5, rules, 7), initial_state(network, 7).layers[0])
    out, kept = learner.forward(rng.integers(0, 128, (8, 30)).astype(np.int8))
    learner.error(rng.integers(-500, 500, out.shape), kept, CONTROL, 0)
    return learner


@pytest.mark.parametrize("update", ["wide", "ternary"])
def test_what_has_changed_is_visible(update):
    learner = met("24FC", Rules(batch=8, update=update))
    before, V = learner.state.S, learner.visible()
    for step in range(40):  # ternary, 33 steps cross a threshold
        learner.G = np.sign(learner.state.S, dtype=np.float64) * 9
        learner.update(8, CONTROL, step)
    assert not np.array_equal(learner.state.S, before)
    assert not np.array_equal(learner.visible(), V)
    assert np.array_equal(learner.visible(), layers.visible_weights(learner.layer, learner.state.S))


@pytest.mark.parametrize("feedback", ["transposed", "random"])
def test_the_first_layer_sends_no_error_back(feedback):
    """Nobody is below: no operation of its feedback is counted; the next layer's are."""
    network, rng = Network.parse("24FC", (30,), 5), np.random.default_rng(2)
    state, rules = initial_state(network, 7), Rules(batch=8, feedback=feedback)
    at = [list(FIELDS).index(name) for name in ("errors", "error_operations", "error_synapses_reached")]
    seen = []
    for layer, own in zip(network.layers, state.layers, strict=True):
        learner, counts = LayerLearner(Site(layer, 5, rules, 7), own), np.zeros(len(FIELDS), np.int64)
        out, kept = learner.forward(rng.integers(0, 128, (8, *layer.in_shape)).astype(np.int8))
        sent = learner.error(rng.integers(-500, 500, out.shape), kept, CONTROL, 0, counts)
        assert (sent is None) == (layer.index == 0)
        seen.append((counts[at] > 0).tolist())
    assert seen == [[True, False, False], [True, True, True]]


def test_statistics_follow_a_gradient():
    learner = met("24FCN", Rules(batch=8))
    before = learner.state.norm
    learner.update(8, CONTROL, 0)
    assert not np.array_equal(learner.state.norm, before)


@pytest.mark.parametrize("update", ["wide", "ternary"])
def test_moved_in_parts_it_is_the_same(update):
    rules = Rules(batch=8, update=update)
    whole, parts = met("24FC", rules), met("24FC", rules)
    G = whole.G.reshape(-1).astype(np.int64)
    whole.update(8, CONTROL, 4)
    parts.send(CONTROL)
    cut = [slice(0, 256), slice(256, len(G))]
    # every member moves its part of what all had before
    moved = []
    for part in cut:
        before = parts.state
        moved.append(parts.move(part, G[part], int(np.abs(G).max()), 4, None))
        after, parts.state = parts.state, before
    parts.state = after
    parts.take(np.concatenate(moved))
    assert np.array_equal(parts.state.S, whole.state.S)
    assert not np.array_equal(whole.state.S, met("24FC", rules).state.S)


@pytest.mark.parametrize(
    "rules",
    [Rules(batch=4), Rules(batch=4, momentum=3), Rules(batch=1, shift="held", consolidation=5)],
    ids=["batch", "momentum", "consolidation"],
)
def test_stopped_in_the_middle_of_a_batch_none_of_it_is_learned(rules, monkeypatch, assert_same_state):
    """Goes on to the same bits as if that batch had never begun."""
    network, rng = Network.parse("24FC-16FC", (30,), 5), np.random.default_rng(3)
    images, labels = rng.integers(0, 256, (16, 30), dtype=np.uint8), np.arange(16) % 5
    one = NumpyEngine(network, rules, state=initial_state(network, 7))
    with one:
        one.train(images[:8], labels[:8], 3)
        before, calls = one.state, []
        other = NumpyEngine(network, rules, state=before)

        def stopped(*words):
            calls.append(words)
            if len(calls) == 2:  # the last layer has changed, the one below not yet
                raise KeyboardInterrupt
            return update(*words)

        update = layers.update
        with monkeypatch.context() as patch:
            patch.setattr(layers, "update", stopped)
            with pytest.raises(KeyboardInterrupt):
                one.train(images[8 : 8 + rules.batch], labels[8 : 8 + rules.batch], 3)
        assert len(calls) == 2
        assert_same_state(one.state, before)
        for each in (one, other):
            each.train(images[8:], labels[8:], 3)
        assert_same_state(one.state, other.state)
