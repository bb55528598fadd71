"""The training step: equal to Python ints for every width, pure, quiet where there is nothing to learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wage_neuro import (
    AvgPool,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Network,
    Rules,
    initial_state,
    predict,
    random_bits,
    train,
    train_step,
)
from wage_neuro import layers as wage
from wage_neuro.bits import code_dtype
from wage_neuro.control import LayerControl
from wage_neuro.train import Batch, Held, Learner, State, exponent_of, next_held

DENSE = (Dense(6), Dense(5), Dense(3))
AVERAGE = (Conv(3, 3), AvgPool(2), Conv(2, 2), Flatten(), Dense(4), Dense(3))
CONV = (Conv(3, 3), MaxPool(3, 2), Conv(2, 2, 1, "VALID"), Flatten(), Dense(4), Dense(3))

# Each width of each kind at least twice, in pairs that change from row to row.
SPREAD = [
    tuple(2 + (i * factor + offset) % 15 for factor in (1, 2, 4, 7)) for offset in (0, 5) for i in range(15)
] + [(2, 2, 2, 2), (16, 16, 16, 16), (2, 8, 8, 8), (2, 16, 16, 16), (16, 2, 2, 2)]


@pytest.fixture
def assert_steps_are_plain(plain_train, assert_same_state, assert_same_arrays, random_state, batch_of):
    def check(net, rules, log2_eta=3, steps=2):
        state = random_state(net, rules)
        for step in range(steps):
            x, labels = batch_of(net, rules.batch, seed=step)
            expected, logits = plain_train(net, state, x, labels, log2_eta, rules)
            state, found = train_step(net, state, Batch(x, labels), log2_eta, rules)
            assert_same_arrays(found, logits, "logits")
            assert_same_state(state, expected)
            kinds = [code_dtype(layer.bits.k_G) for layer in net.layers]
            assert [S.dtype for S in state.S] == kinds

    return check


@pytest.mark.parametrize("widths", SPREAD, ids=lambda widths: "-".join(map(str, widths)))
def test_every_width_is_plain(widths, assert_steps_are_plain):
    net = Network(DENSE, (7,), "-".join(map(str, widths)), signed_input=True)
    for stored_range, update in (("authors", "wide"), ("paper", "wide"), ("paper", "ternary")):
        assert_steps_are_plain(net, Rules(batch=4, stored_range=stored_range, update=update))


@pytest.mark.parametrize("widths", ["2888", "16-16-16-16", "2-16-8-16", "3-9-12-6", "8448"])
@pytest.mark.parametrize("specs", [DENSE, CONV, AVERAGE], ids=["dense", "conv", "average"])
@pytest.mark.parametrize(
    "rules",
    [
        Rules(batch=3, stored_range="paper"),
        Rules(batch=3, shift="held", hold=5),
        Rules(batch=3, gamma=4),
        Rules(batch=3, shift="held", hold=2, update="ternary", loss="one-sided", margin=2),
        Rules(batch=1, update="coincidence", loss="one-sided"),
        Rules(batch=1, update="coincidence", shift="held", margin=4),
    ],
    ids=lambda rules: f"{rules.update}-{rules.shift}-{rules.loss}",
)
def test_every_rule_is_plain(specs, rules, widths, assert_steps_are_plain):
    net = Network(specs, (7,) if specs is DENSE else (7, 6, 2), widths, signed_input=specs is CONV)
    assert_steps_are_plain(net, rules, log2_eta=1, steps=5 if specs is DENSE else 3)


@pytest.mark.parametrize("widths", ["2888", "2-16-8-16", "3-9-12-6", "8448", "2-2-2-2"])
@pytest.mark.parametrize("batch", [1, 3, 6])
@pytest.mark.parametrize("last", [Dense(3), Dense(3, quantized=False)], ids=str)
def test_softmax_is_plain(last, batch, widths, assert_steps_are_plain):
    for shift in ("batch", "held"):
        rules = Rules(batch=batch, shift=shift, hold=5, loss="softmax", margin=2, gamma=4)
        assert_steps_are_plain(Network((*DENSE[:2], last), (7,), widths), rules, log2_eta=4)
        assert_steps_are_plain(Network((*CONV[:-1], last), (7, 6, 2), widths), rules, log2_eta=4)
        assert_steps_are_plain(Network((last,), (7,), widths), rules, log2_eta=6)


@pytest.mark.parametrize("update", ["wide", "ternary", "coincidence"])
@pytest.mark.parametrize("shift", ["batch", "held"])
def test_a_step_leaves_what_it_is_given(shift, update, assert_same_state, random_state, batch_of):
    net = Network(CONV, (7, 6, 2))
    rules = Rules(batch=1 if update == "coincidence" else 5, shift=shift, update=update)
    state = random_state(net, rules)
    x, labels = batch_of(net, rules.batch)
    copies = state.having(S=[s.copy() for s in state.S]), x.copy(), labels.copy()
    for array in (*state.S, x, labels):
        array.flags.writeable = False  # a write would raise
    for _ in range(3):
        new, logits = train_step(net, state, Batch(x, labels), 3, rules)
        again, same_logits = train_step(net, state, Batch(x, labels), 3, rules)
        assert_same_state(new, again)
        assert np.array_equal(logits, same_logits)
        assert new.step == state.step + 1
        state = new
    assert all(np.array_equal(one, other) for one, other in zip(copies[1:], (x, labels), strict=True))


def test_the_first_state_is_unchanged_after_training(assert_same_state, batch_of):
    net = Network(DENSE, (7,))
    first = initial_state(net, seed=4)
    state = first
    for step in range(4):
        state, _ = train_step(net, state, Batch(*batch_of(net, 8, step)), 3, Rules(batch=8))
    assert_same_state(first, initial_state(net, seed=4))
    assert any(not np.array_equal(a, b) for a, b in zip(first.S, state.S, strict=True))


@pytest.mark.parametrize("update", ["wide", "ternary", "coincidence"])
@pytest.mark.parametrize("shift", ["batch", "held"])
@pytest.mark.parametrize("k_E", [2, 8, 16])
def test_nothing_to_learn(k_E, shift, update, assert_same_arrays):
    """The authors' formula gives 0 / 0 here. Warnings are errors in these tests."""
    net = Network((Dense(2),), (3,), f"2-8-8-{k_E}")
    S = np.array([[64, 0], [64, 0], [64, 0]], np.int8)
    rules = Rules(batch=1, shift=shift, update=update)
    for held in (Held(), Held(3, 1)):
        state = State.of((S,), seed=0, error_held=(held,), gradient_held=(held,))
        # logits exactly at the target: no error; an input of zeros: an error, but no gradient
        for x in ([127, 127, 2], [0, 0, 0]):
            new, logits = train_step(net, state, Batch(np.array([x], np.int8), np.array([0])), 16, rules)
            assert logits.tolist() == [[sum(x), 0]]
            assert_same_arrays(new.S[0], S, "weights")
            assert new.step == 1
            assert new.gradient_held == (held,)
            assert sum(x) == 0 or new.error_held == (held,)


def test_a_batch_with_its_margin_is_not_learned():
    net = Network((Dense(2),), (3,))
    state = State.of((np.array([[64, 0]] * 3, np.int8),), seed=0)
    x, labels = np.array([[127, 127, 127]] * 2, np.int8), np.array([0, 0])
    for margin, learns in ((0, True), (8, False), (1, False)):
        new, _ = train_step(net, state, Batch(x, labels), 3, Rules(batch=2, margin=margin))
        assert np.array_equal(new.S[0], state.S[0]) != learns


def test_unset_exponents_send_nothing(batch_of):
    """With shift='held' a layer learns its exponent from the step before, so the error creeps down."""
    net, rules = Network((Dense(20), Dense(20), Dense(3)), (20,)), Rules(batch=16, shift="held")
    state, moved = initial_state(net, 5), []
    known = []
    x, labels = batch_of(net, 16)
    for _ in range(5):
        new, _ = train_step(net, state, Batch(x, labels), 3, rules)
        moved.append([not np.array_equal(a, b) for a, b in zip(new.S, state.S, strict=True)])
        held = new.error_held, new.gradient_held
        known.append([[h.exponent is not None for h in kind] for kind in held])
        state = new
    assert known[0] == [[False, False, True], [False] * 3]
    assert known[1] == [[False, True, True], [False, False, True]]
    assert known[2] == [[True] * 3, [False, True, True]]
    assert known[3] == [[True] * 3, [True] * 3]
    assert moved == [[False] * 3, [False] * 3, [False, False, True], [False, True, True], [True] * 3]


@pytest.mark.parametrize("cut", [1, 2, 3, 6])
def test_held_exponents_make_a_batch_independent_of_its_cut(cut, random_state, batch_of):
    """Sample after sample: the same codes, gradients that add up, the same next exponents."""
    net, rules = Network(CONV, (7, 6, 2)), Rules(batch=6, shift="held")
    state = random_state(net, rules)
    state = state.having(error_held=[Held(m) for m in (9, 8, 9, 11)], gradient_held=(Held(14),) * 4)
    x, labels = batch_of(net, 6)
    expected, _ = train_step(net, state, Batch(x, labels), 0, rules)

    learners = Learner(net, state, rules).layers
    control = LayerControl(0, rules.hold)
    for first in range(0, 6, cut):
        a, kept = x[first : first + cut], []
        for learner in learners:
            a, keep = learner.forward(a.reshape(len(a), *learner.layer.in_shape))
            kept.append(keep)
        D = wage.output_error(net.layers[-1], a, labels[first : first + cut], rules)
        for learner in reversed(learners):
            D = learner.error(D, kept[learner.layer.index], control, state.step)
    for learner, wanted in zip(learners, expected.layers, strict=True):
        learner.update(6, control, state.step)
        assert learner.state == wanted


@pytest.mark.parametrize("log2_eta", [-4, 0, 3, 16])
@pytest.mark.parametrize("update", ["ternary", "coincidence"])
def test_small_updates_move_by_one_at_most(update, log2_eta, random_state, batch_of):
    rules = Rules(batch=1 if update == "coincidence" else 8, update=update)
    net = Network(CONV, (7, 6, 2))
    state = random_state(net, rules)
    for step in range(3):
        new, _ = train_step(net, state, Batch(*batch_of(net, rules.batch, step)), log2_eta, rules)
        for a, b in zip(state.S, new.S, strict=True):
            assert abs(a.astype(int) - b).max() <= 1
        state = new


@pytest.mark.parametrize("shift", ["batch", "held"])
def test_order_of_the_samples_does_not_matter(shift, assert_same_state, batch_of):
    net, rules = Network(CONV, (7, 6, 2)), Rules(batch=8, shift=shift)
    one = other = initial_state(net, 2)
    for step in range(4):
        x, labels = batch_of(net, 8, step)
        order = random_bits.permutation(3, step, 8)
        one, _ = train_step(net, one, Batch(x, labels), 3, rules)
        other, _ = train_step(net, other, Batch(x[order], labels[order]), 3, rules)
        assert_same_state(one, other)


def test_seed_and_step_name_the_random_bits(batch_of):
    net, rules = Network((Dense(40),), (40,)), Rules(batch=8)
    state, data = initial_state(net, 1), batch_of(net, 8)
    new = [
        train_step(net, s, Batch(*data), -2, rules)[0].S[0]
        for s in (state, replace(state, seed=2), replace(state, step=1))
    ]
    assert not np.array_equal(new[0], new[1])
    assert not np.array_equal(new[0], new[2])


# --- exponents ---------------------------------------------------------------------------------------

PEAK = st.integers(0, 2**40)


@given(st.none() | st.integers(0, 40), st.integers(0, 20), PEAK, st.integers(1, 10), st.integers(1, 30))
def test_peak_hold(plain, exponent, below, peak, samples, hold):
    after = Held(exponent, below).after(peak, samples, hold)
    assert (after.exponent, after.below) == plain.held((exponent, below), peak, samples, hold)


def test_down_by_one_after_hold_samples():
    held, seen = Held().after(2**10, 1, 4), []
    for _ in range(12):
        held = held.after(1, 1, 4)
        seen.append(held.exponent)
    assert seen == [10, 10, 10, 9, 9, 9, 9, 8, 8, 8, 8, 7]
    assert held.after(2**7, 1, 4) == Held(7, 0)  # reached again: counting starts anew


@given(PEAK, st.none() | st.integers(0, 40))
def test_which_exponent_a_batch_gets(plain, peak, exponent):
    held = Held(exponent, 3)
    assert exponent_of(held, peak, Rules()) == plain.exponent(peak)
    assert next_held(held, peak, 2, Rules(), 7) == held
    rules = Rules(shift="held", hold=7)
    assert exponent_of(held, peak, rules) == exponent
    assert next_held(held, peak, 2, rules, 7) == held.after(peak, 2, 7)


# --- first state, predictions ------------------------------------------------------------------------


def test_initial_state_is_named_by_its_seed(assert_same_state):
    net = Network(CONV, (7, 6, 2))
    assert_same_state(initial_state(net, 3), initial_state(net, 3))
    assert not np.array_equal(initial_state(net, 3).S[0], initial_state(net, 4).S[0])
    state = initial_state(net, np.int64(3))
    assert type(state.seed) is int  # a checkpoint's JSON cannot hold another
    assert_same_state(state, initial_state(net, 3))


@pytest.mark.parametrize("part", [1, 3, 7, 512])
@pytest.mark.parametrize("n", [0, 1, 7, 10])
def test_predictions_in_parts(part, n, monkeypatch, plain, random_state, batch_of):
    net, rules = Network(CONV, (7, 6, 2)), Rules(batch=1)
    state = random_state(net, rules)
    x, labels = batch_of(net, n)
    monkeypatch.setattr(train, "PREDICT_PART", part)
    logits = predict(net, state, x)
    assert (logits.shape, logits.dtype) == ((n, 3), np.int64)
    if n:
        assert np.array_equal(logits, train_step(net, state, Batch(x, labels), 0, rules)[1])
