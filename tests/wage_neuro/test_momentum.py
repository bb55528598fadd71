"""Integer momentum: against Python ints, in the step of a layer, in a state, a checkpoint, and refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wage_neuro import Dense, Network, NumpyEngine, Rules, initial_state, layers
from wage_neuro.bits import K_MAX
from wage_neuro.checkpoint import Checkpoint, load, save
from wage_neuro.control import Control, LayerControl
from wage_neuro.errors import CheckpointError, SettingError
from wage_neuro.fixed_point import log2_round, peak
from wage_neuro.learner import LayerLearner, Site
from wage_neuro.support import HEAD
from wage_neuro.train import Batch, Held, train_step

NET = Network((Dense(4), Dense(3)), (5,))
MOVING = Rules(batch=2, momentum=3)
TOP = 2**15 - 1
CODES = st.integers(-TOP, TOP)
EVERY = ": every synapse would move at every sample; want batches of 2 or more"
DECAYS = st.integers(1, 7)


def batches(n: int, seed: int = 5) -> list[Batch]:
    rng = np.random.default_rng(seed)
    return [Batch(rng.integers(0, 128, (2, 5)).astype(np.int8), rng.integers(0, 3, 2)) for _ in range(n)]


@given(
    st.lists(st.tuples(CODES, st.integers(-(2**53), 2**53)), min_size=1, max_size=20),
    st.integers(0, 62),
    DECAYS,
)
def test_momentum_after_a_gradient(plain, pairs, exponent, decay):
    layer = Network((Dense(len(pairs)),), (1,)).layers[0]
    M, G = (np.array([values], dtype) for values, dtype in zip(zip(*pairs, strict=True), "hd", strict=True))
    new = layers.momentum_after(layer, M.astype(np.int16), G, exponent, Rules(momentum=decay))
    assert new.dtype == np.int16
    for m, g, found in zip(M[0].tolist(), G[0].tolist(), new[0].tolist(), strict=True):
        code = plain.clip(plain.rne(int(g), exponent - (15 - decay)), -TOP, TOP)
        assert found == (plain.clip(m - plain.rne(m, decay) + code, -TOP, TOP) if G.any() else m)


@given(st.integers(1, 2**20), DECAYS)
def test_a_gradient_that_stays_the_same_is_reached_and_one_that_turns_is_not(g, decay):
    layer, rules = Network((Dense(2),), (1,)).layers[0], Rules(momentum=decay)
    M = np.zeros((1, 2), np.int16)
    exponent = log2_round(g)
    for turn in range(12 << decay):
        M = layers.momentum_after(layer, M, np.array([[g, g if turn % 2 else -g]], float), exponent, rules)
    steady, turning = M[0].tolist()
    limit = min(TOP, g * 2**15 / 2**exponent)
    assert limit - 2**decay <= steady <= min(TOP, limit + 2**decay)
    assert abs(turning) <= 2 ** (16 - decay)


def test_a_layer_moves_by_its_momentum():
    network, state = NET, initial_state(NET, 3)
    learner = LayerLearner(
        Site(network.layers[1], 3, MOVING, 3), replace(state.layers[1], momentum=np.zeros((4, 3), np.int16))
    )
    rng, M, S = np.random.default_rng(1), np.zeros((4, 3), np.int16), state.S[1]
    for step in range(6):
        _, kept = learner.forward(rng.integers(0, 128, (2, 4)).astype(np.int8))
        learner.error(rng.integers(-900, 900, (2, 3)), kept, LayerControl(3, 9), step)
        G = learner.G
        assert G is not None
        M = layers.momentum_after(network.layers[1], M, G, log2_round(peak(G)), MOVING)
        # exponent 15: a momentum of 2**15 moves a weight by eta
        S = layers.update(
            network.layers[1], S, M.reshape(G.shape).astype(float), layers.Move(15, 3, 3, step), MOVING
        )
        learner.update(2, LayerControl(3, 9), step)
        assert np.array_equal(learner.state.momentum, M)
        assert np.array_equal(learner.state.S, S)
    assert np.abs(M).max() > 2**12


@pytest.mark.parametrize("shift", ["batch", "held"])
def test_without_a_gradient_nothing_moves(shift):
    rules = replace(MOVING, shift=shift)
    state = initial_state(NET)
    for batch in batches(8):
        state, _ = train_step(NET, state, batch, 3, rules)
    assert state.momentum is not None
    assert all(M.any() for M in state.momentum)
    black = Batch(np.zeros((2, 5), np.int8), np.array([0, 2]))
    after, _ = train_step(NET, state, black, 3, rules)
    assert np.array_equal(after.momentum[0], state.momentum[0])
    assert np.array_equal(after.S[0], state.S[0])
    frozen, _ = train_step(NET, state, batches(1)[0], Control(log2_eta=(None, 3)), rules)
    assert np.array_equal(frozen.momentum[0], state.momentum[0])
    assert not np.array_equal(frozen.momentum[1], state.momentum[1])


def test_a_state_in_motion_goes_on_to_the_same_bits(stopped_and_whole):
    half, state = stopped_and_whole(NET, MOVING, batches(8))
    still = half.having(momentum=[np.zeros_like(M) for M in half.momentum])
    assert still.layers[0] != half.layers[0]
    for batch in batches(8)[4:]:
        still, _ = train_step(NET, still, batch, 3, MOVING)
    assert any((a != b).any() for a, b in zip(still.S, state.S, strict=True))  # it was of use to keep it


def test_a_state_of_rules_without_momentum_starts_at_rest():
    state, _ = train_step(NET, initial_state(NET), batches(1)[0], 3, Rules(batch=2))
    assert state.momentum is None
    after, _ = train_step(NET, state, batches(1)[0], 3, MOVING)
    assert [M.shape for M in after.momentum] == [(5, 4), (4, 3)]
    with pytest.raises(SettingError, match=r"^momentum=0: the state has weights in motion, want 1 or more$"):
        NumpyEngine(NET, Rules(batch=2), state=after)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"momentum1": np.zeros((4, 2), np.int16)},
            r"layer 1: want int16 \(4, 3\) in -32767\.\.32767",
        ),
        ({"momentum0": np.zeros((5, 4), np.int32)}, "momentum of layer 0: want int16"),
        ({"momentum0": np.full((5, 4), -(2**15), np.int16)}, "momentum of layer 0: want int16"),
        ({"momentum1": None}, "momentum0 alone: want momentum of 2 layers"),
        (
            {"momentum2": np.zeros((4, 3), np.int16)},
            "an array 'momentum2': want weights, importance",
        ),
        (
            {"importance0": np.zeros((2, 5, 4), np.uint16)},
            "importance of synapses, where the rules",
        ),
    ],
)
def test_momentum_that_cannot_be_is_refused(tmp_path, change, message):
    state, _ = train_step(NET, initial_state(NET), batches(1)[0], 3, MOVING)
    path = tmp_path / "a.npz"
    save(path, Checkpoint(NET, MOVING, state))
    with np.load(path) as file:
        arrays = {**file, **change}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(CheckpointError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            {"batch": 1},
            "momentum=3 with batch=1" + EVERY,
        ),
        (
            {"batch": 8, "shift": "held", "pipelined": True},
            "momentum=3 with pipelined" + EVERY,
        ),
        ({"momentum": 8}, "momentum=8: want bits, 0..7"),
        ({"sharpness": 3}, "sharpness=3 with loss='sse': want loss='softmax'"),
        ({"sharpness": 8, "loss": "softmax"}, "sharpness=8: want bits, 0..7"),
    ],
)
def test_rules_that_are_none(rules, message):
    with pytest.raises(SettingError) as error:
        Rules(**{"momentum": 3, **rules})
    assert str(error.value) == message


def test_an_unquantized_layer_has_none():
    assert HEAD["momentum"] == (0,)
    head = Network((Dense(3, quantized=False),), (5,))
    assert head.bits.k_G < K_MAX == head.layers[0].bits.k_G
    with pytest.raises(SettingError, match=r"^momentum=3: an unquantized last layer \(3FCU\) has 0 only$"):
        NumpyEngine(head, Rules(loss="softmax", momentum=3))


def test_held_exponents_follow_the_gradient_and_not_the_momentum():
    rules = replace(MOVING, shift="held", hold=1000)
    with NumpyEngine(NET, rules) as moving, NumpyEngine(NET, replace(rules, momentum=0)) as plain_one:
        x, y = np.full((12, 5), 200, np.uint8), np.arange(12) % 3
        for engine in (moving, plain_one):
            engine.train(x, y, -16)  # hardly a weight moves
        for one, other in zip(moving.state.layers, plain_one.state.layers, strict=True):
            assert np.array_equal(one.S, other.S)
            assert one.gradient_held == other.gradient_held != Held()


def test_sharpness_counts_logits_more_often():
    layer = Network((Dense(4),), (5,)).layers[0]
    Z, labels = np.array([[40, 0, -7, 3]]), np.array([1])
    sharp = layers.output_error(layer, Z, labels, Rules(loss="softmax", sharpness=4))
    assert np.array_equal(sharp, layers.output_error(layer, Z << 4, labels, Rules(loss="softmax")))
    flat = layers.output_error(layer, Z, labels, Rules(loss="softmax"))
    assert sharp[0, 0] > flat[0, 0]
