"""Pipelined learning against Python ints: which weights a sample meets on its way up and down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wage_neuro import (
    Control,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Network,
    NumpyEngine,
    Rules,
    initial_state,
    layers,
)
from wage_neuro.activity import FIELDS

NETS = {
    "one layer": Network((Dense(3),), (5,)),
    "dense": Network((Dense(8), Dense(7), Dense(3)), (6,), "3-8-10-8"),
    "conv": Network((Conv(3, 3), MaxPool(3, 2), Conv(2, 2), Flatten(), Dense(3)), (7, 6, 1)),
}


@pytest.fixture
def plain_run(plain, plain_train):
    """Sample j learns at layer i when j - 1 have; forward it met weights that fewer had changed.

    At layer i it goes up at time j + i. Its error comes down at j + 2 L - i: on its way up it missed the
    last 2 (L - i) samples. Direct feedback is there at j + L + 1 in the last layer, one later in the others.
    """

    def run(net, state, x, labels, log2_eta, rules, hold=None):
        L, states, logits, counts = len(net.layers), [state], [], []
        late = [2 * (L - i) for i in range(L)]
        if rules.feedback == "direct":
            late = [L + 2 - i for i in range(L - 1)] + [2]
        for j in range(len(x)):
            S = [states[max(0, j - late[i])].S[i] for i in range(L)]
            one = slice(j, j + 1)
            trace: list = []
            new, Z = plain_train(net, states[j], x[one], labels[one], log2_eta, rules, hold, S, trace)
            if j % 3 == 0:
                counts.append(plain.activity(net.specs, trace, states[j].S, new.S, rules))
            states.append(new)
            logits.append(Z[0].tolist())
        return states[-1], logits, counts

    return run


@pytest.fixture
def assert_pipelined_is_plain(plain_run, sparse_images, assert_same_state):
    def check(net, rules, log2_eta=0, hold=None):
        control = log2_eta if hold is None else Control(log2_eta=tuple(log2_eta), hold=tuple(hold))
        state = initial_state(net, 6)
        images, labels = sparse_images(24, net.input_shape, net.classes)
        engine = NumpyEngine(net, rules, state=state)
        engine.watch(3)
        for part in (slice(0, 12), slice(12, 24)):  # it drains between batches
            found = engine.train(images[part], labels[part], control)
            state, logits, counts = plain_run(
                net, state, net.encode(images[part]), labels[part], log2_eta, rules, hold
            )
            assert found.tolist() == logits
            activity = engine.activity()
            assert activity.samples == len(counts) == 4
            for i, layer in enumerate(activity.counts):
                for field, count in zip(FIELDS, layer, strict=True):
                    assert count == sum(sample[i][field] for sample in counts), f"{field} of layer {i}"
            assert_same_state(engine.state, state)
        return [not np.array_equal(a, b) for a, b in zip(state.S, initial_state(net, 6).S, strict=True)]

    return check


@pytest.mark.parametrize("feedback", ["transposed", "random", "direct"])
@pytest.mark.parametrize("update", ["wide", "ternary", "coincidence"])
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_weights_that_a_sample_meets(net, update, feedback, assert_pipelined_is_plain):
    rules = Rules(batch=12, shift="held", hold=3, update=update, pipelined=True, feedback=feedback)
    assert any(assert_pipelined_is_plain(net, rules))


@pytest.mark.parametrize("feedback", ["transposed", "random", "direct"])
def test_control_of_each_layer(feedback, assert_pipelined_is_plain):
    rules = Rules(batch=12, shift="held", update="ternary", pipelined=True, feedback=feedback)
    for frozen in range(3):
        log2_eta: list[int | None] = [2, 0, 1]
        log2_eta[frozen] = None
        moved = assert_pipelined_is_plain(NETS["dense"], rules, log2_eta, [2, 5, 3])
        assert moved == [i != frozen for i in range(3)]


@pytest.mark.parametrize("update", ["wide", "ternary", "coincidence"])
@pytest.mark.parametrize("feedback", ["transposed", "random", "direct"])
def test_a_pipeline_of_one_sample_is_a_batch_of_one(feedback, update, sparse_images, assert_same_state):
    net, one = NETS["conv"], Rules(batch=1, shift="held", update=update, feedback=feedback)
    images, labels = sparse_images(9, net.input_shape, net.classes)
    runs = [NumpyEngine(net, replace(one, pipelined=pipelined), seed=4) for pipelined in (False, True)]
    for run in runs:
        assert run.train(images, labels, 2).shape == (9, 3)
    assert_same_state(runs[0].state, runs[1].state)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (Rules(batch=5, shift="held", pipelined=True, new_shift=2), list(range(20))),
        (Rules(batch=4, shift="held", pipelined=True, new_shift=2), list(range(20))),
        (Rules(batch=1, shift="held", new_shift=2), list(range(20))),
        (Rules(batch=4, shift="held", new_shift=2), [0, 4, 8, 12, 16]),
    ],
    ids=str,
)
def test_new_and_recalled_samples_are_told_by_their_number(rules, expected, sparse_images, monkeypatch):
    """A pipelined batch may be odd: a sample is an update, and the next batch goes on with the other kind."""
    numbers, quiet_new = [], layers.quiet_new

    def noted(D, first, given):
        numbers.append(first)
        return quiet_new(D, first, given)

    monkeypatch.setattr(layers, "quiet_new", noted)
    net = NETS["dense"]
    engine = NumpyEngine(net, rules)
    for part in np.split(np.arange(20), 2 if rules.batch != 4 else 1):
        images, labels = sparse_images(20, net.input_shape, net.classes)
        engine.train(images[part], labels[part], 1)
    assert numbers == expected
