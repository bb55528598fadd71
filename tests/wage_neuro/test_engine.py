"""The numpy engine: the step in parts, and the errors that every engine raises before it starts."""

from __future__ import annotations

import re

import numpy as np
import pytest

from wage_neuro import Dense, Flatten, Network, NumpyEngine, Rules, initial_state, predict, train, train_step
from wage_neuro.engine import check_training_input
from wage_neuro.errors import DataError, SettingError
from wage_neuro.train import Batch

NET = Network((Flatten(), Dense(12), Dense(3)), (3, 3, 1))
RULES = Rules(batch=4)


def data(n, sparse_images):
    return sparse_images(n, NET.input_shape, NET.classes)


def test_training_is_step_after_step(sparse_images, assert_same_state):
    images, labels = data(12, sparse_images)
    with NumpyEngine(NET, RULES, seed=3) as engine:
        assert (engine.network, engine.rules, engine.name) == (NET, RULES, "numpy")
        assert_same_state(engine.state, initial_state(NET, 3))
        logits = engine.train(images, labels, log2_eta=1)
    state, parts = initial_state(NET, 3), []
    for i in (0, 4, 8):
        state, part = train_step(
            NET, state, Batch(NET.encode(images[i : i + 4]), labels[i : i + 4]), 1, RULES
        )
        parts.append(part)
    assert_same_state(engine.state, state)
    assert np.array_equal(logits, np.concatenate(parts))


@pytest.mark.parametrize("cuts", [[4, 8], [8], [0, 4], []])
def test_calls_may_be_cut_between_batches(cuts, sparse_images, assert_same_state):
    images, labels = data(12, sparse_images)
    whole, parts = NumpyEngine(NET, RULES), NumpyEngine(NET, RULES)
    logits = whole.train(images, labels, 0)
    pieces = zip(np.split(images, cuts), np.split(labels, cuts), strict=True)
    found = [parts.train(*piece, 0) for piece in pieces]
    assert np.array_equal(np.concatenate(found), logits)
    assert_same_state(parts.state, whole.state)


def test_a_given_state_goes_on(sparse_images, assert_same_state):
    images, labels = data(8, sparse_images)
    one = NumpyEngine(NET, RULES, seed=1)
    one.train(images[:4], labels[:4], 2)
    other = NumpyEngine(NET, RULES, state=one.state)
    one.train(images[4:], labels[4:], 2)
    other.train(images[4:], labels[4:], 2)
    assert_same_state(one.state, other.state)


@pytest.mark.parametrize("part", [1, 3, 512])
def test_predictions_in_parts_equal_the_whole(part, monkeypatch, sparse_images, assert_same_state):
    images, labels = data(8, sparse_images)
    engine = NumpyEngine(NET, RULES)
    engine.train(images, labels, 3)
    before, whole = engine.state, predict(NET, engine.state, NET.encode(images))
    monkeypatch.setattr(train, "PREDICT_PART", part)
    assert np.array_equal(engine.predict(images), whole)
    assert np.array_equal(np.concatenate([engine.predict(images[:5]), engine.predict(images[5:])]), whole)
    assert engine.predict(images[:0]).shape == (0, 3)
    assert_same_state(engine.state, before)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": np.zeros((4, 3, 3, 1))}, DataError, "images of float64: want uint8 grey levels 0..255"),
        (
            {"images": np.zeros((4, 10), np.uint8)},
            DataError,
            "images of shape (10,): this network takes (3, 3, 1)",
        ),
        ({"labels": np.zeros(4)}, DataError, "labels of shape (4,) and type float64: want 4 whole numbers"),
        (
            {"labels": np.zeros(3, int)},
            DataError,
            "labels of shape (3,) and type int64: want 4 whole numbers",
        ),
        ({"labels": np.array([0, 1, 2, 3])}, DataError, "label 3: this network has outputs 0..2"),
        ({"rules": Rules(batch=3)}, SettingError, "4 samples: want a multiple of the batch, 3"),
        ({"rules": Rules(batch=128)}, SettingError, "4 samples: want a multiple of the batch, 128"),
        ({"log2_eta": 17}, SettingError, "eta=2**17: want 2**-16 .. 2**16"),
        ({"log2_eta": -17}, SettingError, "eta=2**-17: want 2**-16 .. 2**16"),
        ({"log2_eta": float("nan")}, SettingError, "eta=2**nan: want 2**-16 .. 2**16"),
        ({"log2_eta": 0.5}, SettingError, "eta=2**0.5: want 2**-16 .. 2**16"),
    ],
)
def test_input_that_cannot_be_learned(change, error, message, assert_same_state):
    given = {
        "images": np.zeros((4, 9), np.uint8),
        "labels": np.zeros(4, int),
        "log2_eta": 0,
        "rules": RULES,
        **change,
    }
    rules = given.pop("rules")
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        check_training_input(NET, rules, Batch(given["images"], given["labels"]), given["log2_eta"])
    engine = NumpyEngine(NET, rules)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        engine.train(**given)
    assert_same_state(engine.state, initial_state(NET))


@pytest.mark.parametrize(
    ("former", "message"),
    [
        (np.zeros((3, 3), np.int64), "former logits of int64 and shape (3, 3): want int64 (4, 3)"),
        (np.zeros((4, 3)), "former logits of float64 and shape (4, 3): want int64 (4, 3)"),
        (np.full((4, 3), 1525), "former logit 1525: this network's stay within -1524..1524"),
    ],
)
def test_former_logits_that_are_none_of_the_network(former, message, assert_same_state):
    engine = NumpyEngine(NET, RULES)
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        engine.train_recalling(np.zeros((4, 9), np.uint8), np.zeros(4, int), former, 0)
    assert_same_state(engine.state, initial_state(NET))


def test_former_logits_have_no_place_in_softmax():
    engine = NumpyEngine(NET, Rules(batch=4, loss="softmax"))
    with pytest.raises(SettingError, match=r"^loss='softmax' with former logits: want 'sse' or 'one-sided'$"):
        engine.train_recalling(np.zeros((4, 9), np.uint8), np.zeros(4, int), np.zeros((4, 3), np.int64), 0)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (Rules(), "loss='sse': an unquantized last layer (3FCU) has 'softmax' only"),
        (
            Rules(loss="softmax", update="ternary"),
            "update='ternary': an unquantized last layer (3FCU) has 'wide' only",
        ),
        (
            Rules(loss="softmax", feedback="direct"),
            "feedback='direct': an unquantized last layer (3FCU) has 'transposed' only",
        ),
    ],
)
def test_an_unquantized_layer_learns_in_its_own_way_alone(rules, message):
    with pytest.raises(SettingError, match=f"^{re.escape(message)}$"):
        NumpyEngine(Network.parse("6FC-3FCU", (9,)), rules)


def test_an_unquantized_layer_learns_softmax_regression(sparse_images):
    """Alone it is softmax regression by SGD: a float one, sharing no code, ends near the same weights."""
    net, rules = Network((Dense(3, quantized=False),), (12,)), Rules(batch=32, loss="softmax")
    images, labels = sparse_images(32 * 60, (12,), 3)
    labels = (images.reshape(len(images), 3, 4).sum(axis=2)).argmax(axis=1)
    engine = NumpyEngine(net, rules, seed=2)
    W = engine.state.S[0] / 2**15
    engine.train(images, labels, log2_eta=3)
    for x, y in zip(np.split(net.encode(images) / 128, 60), np.split(labels, 60), strict=True):
        e = np.exp(x @ W)
        W = W - 2 * x.T @ (e / e.sum(axis=1, keepdims=True) - np.eye(3)[y]) / 32  # eta / 4 of the mean
        W = W.clip(-32767 / 2**15, 32767 / 2**15)
    found = engine.state.S[0] / 2**15
    assert np.abs(found - W).max() < 0.002
    assert np.abs(found - initial_state(net, 2).S[0] / 2**15).max() > 0.3
    assert (engine.predict(images).argmax(axis=1) == labels).mean() > 0.9


@pytest.mark.parametrize(("loss", "same"), [("softmax", True), ("sse", False)])
def test_the_error_of_softmax_is_met_whole(loss, same, sparse_images):
    """Cut off at gamma it would sum to more than 0 over the classes, and drive all weights to one bound."""
    images, labels = data(48, sparse_images)
    one, other = (NumpyEngine(NET, Rules(batch=8, loss=loss, gamma=gamma), seed=3) for gamma in (1, 8))
    for engine in (one, other):
        engine.train(images[:8], labels[:8], 1)
    assert np.array_equal(one.state.S[-1], other.state.S[-1]) is same
    assert not np.array_equal(one.state.S[0], other.state.S[0])


def test_former_logits_keep_an_answer_as_it_was(sparse_images):
    """Labels that change from one call to the next change the answers less."""
    images, labels = data(40, sparse_images)
    drift = {}
    for recalling in (True, False):
        engine = NumpyEngine(NET, RULES, seed=3)
        for _ in range(20):
            engine.train(images, labels, 1)
        before = engine.predict(images)
        for _ in range(20):
            if recalling:
                engine.train_recalling(images, (labels + 1) % 3, before, 1)
            else:
                engine.train(images, (labels + 1) % 3, 1)
        drift[recalling] = np.abs(engine.predict(images) - before).mean()
    assert drift[True] < 0.9 * drift[False]


@pytest.mark.parametrize("log2_eta", [-16, 0, 16, np.int64(3)])
def test_input_that_can_be_learned(log2_eta):
    check_training_input(NET, RULES, Batch(np.zeros((8, 9), np.uint8), np.zeros(8, np.uint8)), log2_eta)


@pytest.mark.parametrize(("last", "learned"), [("drop", 16), ("pad", 24)])
def test_samples_that_fill_no_batch(last, learned, sparse_images, assert_same_state):
    images, labels = sparse_images(21, NET.input_shape, NET.classes)
    again = np.resize(np.arange(21), learned)
    with NumpyEngine(NET, Rules(batch=8)) as one, NumpyEngine(NET, Rules(batch=8)) as other:
        logits = one.train(images, labels, 3, last=last)
        assert np.array_equal(logits, other.train(images[again], labels[again], 3)[:21])
        assert_same_state(one.state, other.state)
        before = one.state
        with pytest.raises(SettingError, match=r"^21 samples: want a multiple of the batch, 8$"):
            one.train(images, labels, 3)
        with pytest.raises(SettingError, match=r"^last='fill': want refuse, drop or pad$"):
            one.train(images, labels, 3, last="fill")
        with pytest.raises(DataError, match=r"want 24 whole numbers|want 21 whole numbers"):
            one.train(images, labels[:5], 3, last=last)
        assert one.state == before
        assert one.train(images[:16], labels[:16], 3, last=last).shape == (16, NET.classes)
