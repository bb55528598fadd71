"""Control of each layer: its own step size and hold, or none at all, against Python ints."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from wage_neuro import Control, Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules
from wage_neuro.control import LayerControl, control_of
from wage_neuro.errors import SettingError
from wage_neuro.train import Batch, Held, train_step

NETS = {
    "dense": Network((Dense(6), Dense(5), Dense(3)), (7,), "3-8-10-8"),
    "conv": Network((Conv(3, 3), MaxPool(3, 2), Conv(2, 2, 2), Flatten(), Dense(3)), (7, 6, 2)),
}
MODES = {
    "paper": Rules(batch=3),
    "held": Rules(batch=3, shift="held", hold=5, update="ternary"),
    "coincidence": Rules(batch=1, shift="held", hold=2, update="coincidence", loss="one-sided"),
    "random feedback": Rules(batch=3, shift="held", feedback="random"),
    "direct feedback": Rules(batch=3, feedback="direct"),
}
every_mode = pytest.mark.parametrize("rules", MODES.values(), ids=MODES)
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


# --- what a control says -----------------------------------------------------------------------------


def test_a_number_is_one_eta_for_all():
    rules = Rules(hold=9)
    for control in (
        2,
        np.int64(2),
        Control(log2_eta=2),
        Control(log2_eta=(2, 2, 2)),
        Control(log2_eta=[2, 2, 2]),
        Control(log2_eta=2, hold=9),
    ):
        assert control_of(control).of_layers(3, rules) == (LayerControl(2, 9),) * 3
    assert all(
        type(c.log2_eta) is type(c.hold) is int
        for c in Control(log2_eta=np.int8(2), hold=np.int8(9)).of_layers(2, rules)
    )


def test_one_of_each_layer():
    found = Control(log2_eta=(None, -16, 16), hold=(1, 2, 2**31 - 1)).of_layers(3, Rules())
    assert found == (LayerControl(None, 1), LayerControl(-16, 2), LayerControl(16, 2**31 - 1))
    assert Control(log2_eta=None).of_layers(2, Rules(hold=4)) == (LayerControl(None, 4),) * 2


@pytest.mark.parametrize(
    ("control", "text"),
    [
        (Control(log2_eta=(1, 2)), "2 values of eta: want one for each of the 3 layers"),
        (Control(log2_eta=()), "0 values of eta: want one for each of the 3 layers"),
        (Control(log2_eta=0, hold=(5, 5, 5, 5)), "4 values of hold: want one for each of the 3 layers"),
        (Control(log2_eta=(0, 17, 0)), "eta=2**17: want 2**-16 .. 2**16"),
        (-17, "eta=2**-17: want 2**-16 .. 2**16"),
        (True, "eta=2**True: want 2**-16 .. 2**16"),
        (Control(log2_eta=(0, np.True_, 0)), "eta=2**True: want 2**-16 .. 2**16"),
        (1.0, "eta=2**1.0: want 2**-16 .. 2**16"),
        (Control(log2_eta=(0, 0, float("nan"))), "eta=2**nan: want 2**-16 .. 2**16"),
        (Control(log2_eta=float("-inf")), "eta=2**-inf: want 2**-16 .. 2**16"),
        ("3", "eta=2**3: want 2**-16 .. 2**16"),
        (Control(log2_eta=((1,), 0, 0)), "eta=2**(1,): want 2**-16 .. 2**16"),
        (Control(log2_eta=0, hold=0), "hold=0: want a whole number in 1..2147483647"),
        (Control(log2_eta=0, hold=(5, -1, 5)), "hold=-1: want a whole number in 1..2147483647"),
        (Control(log2_eta=0, hold=(5, 2**31, 5)), "hold=2147483648: want a whole number in 1..2147483647"),
        (Control(log2_eta=0, hold=True), "hold=True: want a whole number in 1..2147483647"),
        (Control(log2_eta=0, hold=2.0), "hold=2.0: want a whole number in 1..2147483647"),
        (Control(log2_eta=0, hold=float("nan")), "hold=nan: want a whole number in 1..2147483647"),
        (Control(log2_eta=0, hold=(5, None, 5)), "hold=None: want a whole number in 1..2147483647"),
    ],
    ids=str,
)
@pytest.mark.parametrize("pipelined", [False, True])
def test_refused_before_anything_is_learned(control, text, pipelined, sparse_images, assert_same_state):
    net = NETS["dense"]
    engine = NumpyEngine(net, Rules(batch=3, shift="held", pipelined=pipelined))
    before = engine.state
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        engine.train(*sparse_images(6, net.input_shape, net.classes), control)
    assert_same_state(engine.state, before)


# --- learning ----------------------------------------------------------------------------------------


def each_step(net, rules, batch_of, steps):
    for step in range(steps):
        yield batch_of(net, rules.batch, step)


@every_mode
@every_net
def test_the_same_for_all_is_one_number(net, rules, random_state, batch_of, assert_same_state):
    one = other = random_state(net, rules)
    for x, labels in each_step(net, rules, batch_of, 6):
        one, logits = train_step(net, one, Batch(x, labels), 2, rules)
        other, same = train_step(
            net, other, Batch(x, labels), Control(log2_eta=(2, 2, 2), hold=(rules.hold,) * 3), rules
        )
        assert_same_state(one, other)
        assert np.array_equal(logits, same)
    assert not any(np.array_equal(a, b) for a, b in zip(one.S, random_state(net, rules).S, strict=True))


@every_mode
@every_net
@pytest.mark.parametrize(
    "first", [(3, -2, 1), (None, 2, 0), (2, None, 1), (1, 2, None), (None, None, None)], ids=str
)
def test_each_layer_is_plain(
    net, rules, first, random_state, batch_of, plain_train, assert_same_state, assert_same_arrays
):
    """Control changes on the way: what was frozen learns again, with other holds."""
    state = random_state(net, rules)
    ways = [(first, (2, 4, 7))] * 6 + [((1, 1, 1), (7, 1, 3))] * 5
    for (log2_eta, hold), (x, labels) in zip(ways, each_step(net, rules, batch_of, len(ways)), strict=True):
        expected, logits = plain_train(net, state, x, labels, list(log2_eta), rules, list(hold))
        before = state
        state, found = train_step(net, state, Batch(x, labels), Control(log2_eta=log2_eta, hold=hold), rules)
        assert_same_arrays(found, logits, "logits")
        assert_same_state(state, expected)
        for i, eta in enumerate(log2_eta):
            assert eta is not None or state.S[i] is before.S[i]
            assert eta is not None or state.gradient_held[i] == before.gradient_held[i]
    assert not any(np.array_equal(a, b) for a, b in zip(state.S, random_state(net, rules).S, strict=True))


@every_mode
@every_net
@pytest.mark.parametrize("frozen", range(3))
def test_below_a_frozen_layer(net, rules, frozen, random_state, batch_of, assert_same_arrays):
    """Other layers learn as from a layer that learned but was put back to its weights after every step."""
    etas: list[int | None] = [2, 2, 2]
    etas[frozen] = None
    one = other = first = random_state(net, rules)

    def with_frozen(values, kept):
        return tuple(kept if i == frozen else value for i, value in enumerate(values))

    for x, labels in each_step(net, rules, batch_of, 10):
        one, logits = train_step(net, one, Batch(x, labels), Control(log2_eta=tuple(etas)), rules)
        other, same = train_step(net, other, Batch(x, labels), 2, rules)
        other = other.having(
            S=with_frozen(other.S, first.S[frozen]),
            gradient_held=with_frozen(other.gradient_held, Held()),
        )
        assert_same_arrays(logits, same, "logits")
        assert one.error_held == other.error_held
        assert one.gradient_held == other.gradient_held
        for i, (a, b) in enumerate(zip(one.S, other.S, strict=True)):
            assert_same_arrays(a, b, f"stored weights of layer {i}")
    moved = [not np.array_equal(a, b) for a, b in zip(one.S, first.S, strict=True)]
    assert moved == [i != frozen for i in range(3)]


@every_mode
def test_a_frozen_network_answers(rules, random_state, batch_of):
    """Nothing but the errors' exponents changes, and those as if it learned."""
    net = NETS["conv"]
    first = random_state(net, rules)
    x, labels = batch_of(net, rules.batch)
    state, logits = train_step(net, first, Batch(x, labels), Control(log2_eta=None), rules)
    learned, same = train_step(net, first, Batch(x, labels), 2, rules)
    assert np.array_equal(logits, same)
    assert state == replace(first.having(error_held=learned.error_held), step=1)


def test_hold_of_a_layer_is_its_own(random_state, batch_of):
    """A layer's exponents step down by its own hold and by nobody else's."""
    net, rules = NETS["dense"], Rules(batch=3, shift="held", hold=10**6)
    high = random_state(net, rules).having(error_held=(Held(40),) * 3, gradient_held=(Held(50),) * 3)
    x, labels = batch_of(net, 3)
    for i in range(3):
        hold = tuple(3 if j == i else 4 for j in range(3))
        state, _ = train_step(net, high, Batch(x, labels), Control(log2_eta=0, hold=hold), rules)
        # errors of one layer shifted by 2**40 are all 0, so the layers below see none and keep theirs
        assert state.error_held[2] == (Held(39) if i == 2 else Held(40, 3))
        later, _ = train_step(
            net,
            high.having(error_held=(Held(8), Held(9), Held(10))),
            Batch(x, labels),
            Control(log2_eta=0, hold=hold),
            rules,
        )
        for j, held in enumerate(later.gradient_held):
            assert held == (Held(49) if j == i else Held(50, 3))
