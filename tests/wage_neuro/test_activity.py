"""Activity: every count equal to one made synapse after synapse in Python, and nothing learned otherwise."""

from __future__ import annotations

import json

import numpy as np
import pytest

from wage_neuro import AvgPool, Control, Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules
from wage_neuro.activity import FIELDS, Activity, Watch, count_feedback
from wage_neuro.errors import SettingError
from wage_neuro.layers import backward, forward
from wage_neuro.train import Batch, Learner

NETS = {
    "one layer": Network((Dense(3),), (5,)),
    "dense": Network((Dense(6), Dense(5), Dense(3)), (7,)),
    "SAME": Network((Conv(3, 3), Conv(2, 2), Flatten(), Dense(3)), (4, 5, 2), signed_input=True),
    "VALID, stride": Network((Conv(3, 3, 2), Conv(2, 2, 1, "VALID"), Flatten(), Dense(3)), (7, 6, 1)),
    "stride past the kernel": Network(
        (Conv(2, 2, 3, "VALID"), Conv(2, 1, 2), Flatten(), Dense(3)), (9, 8, 1)
    ),
    "average": Network((Conv(3, 3), AvgPool(2), Conv(2, 2), AvgPool(2), Flatten(), Dense(3)), (7, 6, 1)),
    "pooling": Network((Conv(3, 3), MaxPool(2), Conv(2, 2), MaxPool(2), Flatten(), Dense(3)), (7, 6, 1)),
    "overlapping": Network(
        (Conv(3, 3), MaxPool(3, 1), Conv(3, 2), MaxPool(3, 2), Flatten(), Dense(4), Dense(3)),
        (8, 7, 1),
        "2224",
    ),
}
NETS["padded pooling"] = Network(
    (Conv(3, 3), MaxPool(3, 2, "SAME"), Conv(2, 2), MaxPool(2, 3, "SAME"), Flatten(), Dense(3)), (7, 8, 1)
)
MODES = {
    "paper": Rules(batch=3),
    "held": Rules(batch=3, shift="held", hold=5, update="ternary", loss="one-sided", margin=2),
    "random feedback": Rules(batch=3, feedback="random"),
    "direct feedback": Rules(batch=3, shift="held", feedback="direct"),
    "coincidence": Rules(batch=1, update="coincidence"),
    "coincidence, direct feedback": Rules(batch=1, update="coincidence", shift="held", feedback="direct"),
}
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)
FORWARD = ("inputs", "spikes", "synaptic_operations", "synapses_reached")


def plain_counts(layers):
    """(layers, fields) counts of the plain reference's dictionaries."""
    assert all(set(layer) == set(FIELDS) for layer in layers)
    return np.array([[layer[field] for field in FIELDS] for layer in layers], np.int64)


@pytest.mark.parametrize("rules", MODES.values(), ids=MODES)
@every_net
def test_every_field_is_plain(net, rules, plain, plain_train, random_state, batch_of, assert_same_arrays):
    state, watch = random_state(net, rules), Watch(len(net.layers), 1)
    total = np.zeros_like(watch.counts)
    frozen = Control(log2_eta=(None, *[2] * (len(net.layers) - 1)))
    for step in range(8):
        x, labels = batch_of(net, rules.batch, step)
        x *= np.random.default_rng(step).random(x.shape) < 0.4
        control, etas = (2, 2) if step < 6 else (frozen, list(frozen.log2_eta))
        trace: list = []
        expected, _ = plain_train(net, state, x, labels, etas, rules, trace=trace)
        learner = Learner(net, state, rules)
        learner.watch = watch
        learner.learn(Batch(x, labels), control)
        found = watch.take()
        counts = plain_counts(plain.activity(net.specs, trace, state.S, expected.S, rules))
        assert found.samples == rules.batch
        for field, one, other in zip(FIELDS, found.counts.T, counts.T, strict=True):
            assert_same_arrays(one, other, field)
        total += counts
        state = learner.state
    seen = dict(zip(FIELDS, total.T, strict=True))
    # the first layer has none below; directly the last one's error meets the synapses of all others
    nowhere = -1 if rules.feedback == "direct" else 0
    for reached in ("error_synapses_reached", "error_operations"):
        assert seen[reached][nowhere] == 0
        assert seen.pop(reached).any() == (len(net.layers) > 1)
    assert all(count.any() for count in seen.values())
    assert (seen["synaptic_operations"] < seen["synapses_reached"]).any()  # some weights are 0


def test_errors_that_cancel_at_a_place_are_no_error_there():
    """Windows that overlap may choose one place, where their errors add up, to 0 also."""
    net = Network((Conv(1, 1), Conv(1, 1), MaxPool(2, 1), Flatten(), Dense(2)), (2, 3, 1))
    layer = net.layers[1]
    a = np.array([0, 9, 0, 0, 0, 0], np.int8).reshape(1, 2, 3, 1)  # both windows choose the 9
    V = np.ones((1, 1), layer.z_dtype)
    _, kept = forward(layer, V, a)
    for errors, operations in (((5, -5), 0), ((5, -4), 1), ((5, 0), 1), ((0, 0), 0)):
        E = np.array(errors, np.int8).reshape(1, 1, 2, 1)
        counts = np.zeros(len(FIELDS), np.int64)
        count_feedback(counts, layer, V, kept, E)
        _, D = backward(layer, V, kept, E, None)
        assert counts[list(FIELDS).index("error_operations")] == operations == np.count_nonzero(D)


@every_net
def test_predictions_are_counted(net, plain, plain_train, random_state, batch_of, monkeypatch):
    monkeypatch.setattr("wage_neuro.train.PREDICT_PART", 2)
    rules, watch = Rules(batch=5), Watch(len(net.layers), 7)
    state, trace = random_state(net, rules), []
    x, labels = batch_of(net, 5)
    plain_train(net, state, x, labels, None, rules, trace=trace)
    learner = Learner(net, state, rules)
    learner.watch = watch
    learner.predict(x)
    found = watch.take()
    expected = plain.activity(net.specs, trace, state.S, state.S, rules)
    assert found.samples == 5
    for field, count in zip(FIELDS, found.counts.T, strict=True):
        assert count.tolist() == [layer[field] if field in FORWARD else 0 for layer in expected]


# --- what is counted when ----------------------------------------------------------------------------


def engine_of(rules, watch):
    engine = NumpyEngine(NETS["dense"], rules, seed=2)
    engine.watch(watch)
    return engine


@pytest.mark.parametrize("every", [1, 2, 3, 5, 100])
def test_every_so_many_steps(every, sparse_images, assert_same_arrays):
    """Counted together are the steps that are named, step 0 first, however the calls are cut."""
    images, labels = sparse_images(28, (7,), 3)
    one, other = engine_of(Rules(batch=4), 1), engine_of(Rules(batch=4), every)
    total = 0
    for step in range(7):
        batch = images[4 * step :][:4], labels[4 * step :][:4]
        one.train(*batch, 2)
        other.train(*batch, 2)
        total = total + one.activity().counts * (step % every == 0)
    found = other.activity()
    assert found.samples == 4 * len(range(0, 7, every))
    assert_same_arrays(found.counts, total, "activity")


def test_take_starts_at_0(sparse_images):
    engine = engine_of(Rules(batch=4), 1)
    images, labels = sparse_images(4, (7,), 3)
    engine.train(images, labels, 2)
    first = engine.activity()
    assert first.samples == 4
    assert first.counts.any()
    kept = first.counts.copy()
    empty = engine.activity()
    assert (empty.samples, empty.counts.any()) == (0, False)
    engine.predict(images)
    assert engine.activity().samples == 4
    assert np.array_equal(first.counts, kept)  # its counts are its own
    engine.train(images, labels, 2)
    engine.watch(3)
    assert engine.activity().samples == 0


def test_0_counts_nothing(sparse_images):
    images, labels = sparse_images(8, (7,), 3)
    for engine in (NumpyEngine(NETS["dense"], Rules(batch=4)), engine_of(Rules(batch=4), 0)):
        engine.train(images, labels, 2)
        engine.predict(images)
        found = engine.activity()
        assert (found.samples, found.counts.any()) == (0, False)
        assert found.a_sample("spikes") == [0.0] * 3  # and no division by 0


@pytest.mark.parametrize("rules", MODES.values(), ids=MODES)
@every_net
def test_watching_changes_no_bit(net, rules, sparse_images, assert_same_state, assert_same_arrays):
    images, labels = sparse_images(6 * rules.batch, net.input_shape, net.classes)
    runs = [NumpyEngine(net, rules, seed=5) for _ in range(2)]
    runs[1].watch(2)
    logits = [run.train(images, labels, 2) for run in runs]
    assert_same_arrays(*logits, "logits")
    assert_same_arrays(*(run.predict(images) for run in runs), "predictions")
    assert_same_state(runs[0].state, runs[1].state)
    assert runs[1].activity().samples == 9 * rules.batch


@pytest.mark.parametrize("every", [-1, True, 1.0, None, "2"])
def test_every_what(every):
    with pytest.raises(
        SettingError, match=f"^watch every={every!r}: want a whole number >= 0; 0 counts nothing$"
    ):
        NumpyEngine(NETS["dense"]).watch(every)


def test_a_sample():
    counts = np.arange(2 * len(FIELDS)).reshape(2, -1)
    found = Activity(3, counts)
    for place, field in enumerate(FIELDS):
        assert found.a_sample(field) == [place / 3, (place + len(FIELDS)) / 3]
    text = json.loads(json.dumps(found.to_json()))
    assert list(text) == list(FIELDS)
    assert text["spikes"] == [0.333, 3.333]
