"""Structural Lava models = numpy engine: the parts of a layer give the bits of the whole."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lava", reason="lava-nc needs Python 3.10")

from experiments import datasets
from mappings.lava import LavaEngine
from processes.widths import Widths
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules
from wage_neuro.control import Control

MODES = {
    "pipelined ternary": Rules(batch=8, shift="held", hold=5, update="ternary", pipelined=True),
    "pipelined coincidence": Rules(batch=12, shift="held", update="coincidence", pipelined=True),
    "strict ternary": Rules(
        batch=1, shift="held", hold=5, update="ternary", loss="one-sided", margin=3, stored_range="paper"
    ),
    "strict coincidence": Rules(batch=1, shift="held", hold=5, update="coincidence", loss="one-sided"),
}
DENSE = Network((Dense(24), Dense(16), Dense(5)), (30,))
CONV = Network((Conv(4, 3), MaxPool(2), Conv(6, 3), MaxPool(3, 2), Flatten(), Dense(5)), (10, 10, 1))
OVERLAP = Widths(error=9, post=10)  # overlapping windows add up to four errors at one place


def assert_agree(network, rules, images, labels, widths, assert_same_arrays, assert_same_state):
    """Learn, answer, learn again with another eta, in one graph; compare everything twice."""
    half = len(images) // 2
    oracle = NumpyEngine(network, rules, seed=3)
    with LavaEngine(network, rules, seed=3, model="structural", widths=widths) as engine:
        assert engine.unproven == []
        for part, log2_eta in ((slice(0, half), 3), (slice(half, None), 0)):
            one = oracle.train(images[part], labels[part], log2_eta)
            other = engine.train(images[part], labels[part], log2_eta)
            assert_same_arrays(one, other, "logits in training")
            assert_same_arrays(oracle.predict(images[:5]), engine.predict(images[:5]), "logits")
            assert_same_state(oracle.state, engine.state)
    untrained = NumpyEngine(network, rules, seed=3).state
    assert all((a != b).any() for a, b in zip(oracle.state.S, untrained.S, strict=True))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("network", [DENSE, CONV], ids=str)
def test_structural_equals_numpy(network, mode, sparse_images, assert_same_arrays, assert_same_state):
    images, labels = sparse_images(48, network.input_shape, 5)
    assert_agree(network, MODES[mode], images, labels, OVERLAP, assert_same_arrays, assert_same_state)


@pytest.mark.parametrize(
    "network",
    [
        Network((Dense(5),), (30,)),
        Network((Conv(4, 3, 2, "VALID"), Conv(3, 2), Flatten(), Dense(5)), (9, 8, 1), signed_input=True),
        Network((Conv(3, 3), MaxPool(2), Flatten(), Dense(5)), (6, 6, 2), "3-7-9-5"),
    ],
    ids=["one layer", "VALID, stride 2, signed input", "other widths"],
)
def test_other_networks(network, sparse_images, assert_same_arrays, assert_same_state):
    images, labels = sparse_images(48, network.input_shape, 5)
    rules = MODES["pipelined ternary"]
    assert_agree(network, rules, images, labels, None, assert_same_arrays, assert_same_state)


@pytest.mark.parametrize("network", ["32FC", "8C3-MP2-8C3-MP2"])
def test_an_epoch_of_digits(network, assert_same_arrays, assert_same_state):
    data = datasets.load("digits")
    images, labels = data.train_images, data.train_labels
    network, batch = Network.parse(network, images.shape[1:], 10), len(images) // 3
    rules = Rules(batch=batch, shift="held", hold=500, update="ternary", loss="one-sided", pipelined=True)
    oracle = NumpyEngine(network, rules)
    assert len(images) == 3 * batch
    with LavaEngine(network, rules, model="structural") as engine:
        logits = oracle.train(images, labels, 2)
        assert_same_arrays(logits, engine.train(images, labels, 2), "logits")
        assert_same_state(oracle.state, engine.state)
    assert (logits[-300:].argmax(axis=1) == labels[-300:]).mean() > 0.4


def test_goes_on_from_a_state(sparse_images, assert_same_state):
    rules = MODES["pipelined coincidence"]
    images, labels = sparse_images(48, DENSE.input_shape, 5)
    whole = NumpyEngine(DENSE, rules)
    whole.train(images[:24], labels[:24], 2)
    with LavaEngine(DENSE, rules, state=whole.state, model="structural") as engine:
        engine.train(images[24:], labels[24:], 2)
        whole.train(images[24:], labels[24:], 2)
        assert_same_state(whole.state, engine.state)


@pytest.mark.parametrize("mode", ["pipelined ternary", "pipelined coincidence", "strict ternary"])
@pytest.mark.parametrize(
    "network", [DENSE, Network((Conv(4, 3), MaxPool(2), Conv(6, 3), Flatten(), Dense(5)), (8, 8, 1))], ids=str
)
def test_control_and_activity(network, mode, sparse_images, assert_same_state):
    """Frozen layers, step sizes and holds of each layer; the parts' counts add up to the layer's."""
    rules = MODES[mode]
    images, labels = sparse_images(48, network.input_shape, 5)
    oracle = NumpyEngine(network, rules)
    oracle.watch(2)
    with LavaEngine(network, rules, model="structural") as engine:
        engine.watch(2)
        for part, control in (
            (slice(0, 24), Control((3, None, 2), hold=4)),
            (slice(24, 48), Control(1, hold=(3, 9, 5))),
        ):
            for each in (oracle, engine):
                each.train(images[part], labels[part], control)
                each.predict(images[:1])
            assert_same_state(oracle.state, engine.state)
            one, other = oracle.activity(), engine.activity()
            assert one.counts.any(axis=0).all()
            assert np.array_equal(one.counts, other.counts)


# --- the two copies ----------------------------------------------------------------------------------


def copies(engine, layer):
    """Stored weights of the forward and of the transposed synapses, in the forward layout."""
    parts = engine.layers[layer].procs
    return parts.synapses.S.get(), np.swapaxes(parts.transposed.S.get(), -1, -2)


def time_steps(engine, images, labels):
    """Learn one batch, a time step at a time."""
    engine._set_all("learning", 1)
    for layer in engine.layers:
        engine._set(layer, "log2_eta", 3)
    engine._images[0], engine._labels[0] = images, labels
    for step in range(engine.schedule.steps(True)):
        engine._graph.run(1)
        yield step


@pytest.mark.parametrize("update", ["ternary", "coincidence"])
def test_the_copies_are_equal_after_every_step(update, sparse_images, assert_same_arrays):
    network = Network((Conv(3, 3), MaxPool(2), Conv(4, 3), Flatten(), Dense(5)), (6, 6, 1))
    rules = Rules(batch=16, shift="held", hold=5, update=update, pipelined=True)
    images, labels = sparse_images(16, network.input_shape, 5)
    with LavaEngine(network, rules, model="structural") as engine:
        changes, before = [0, 0], [copies(engine, 1)[0], copies(engine, 2)[0]]
        for step in time_steps(engine, images, labels):
            for i, layer in enumerate((1, 2)):
                forward, transposed = copies(engine, layer)
                assert_same_arrays(forward, transposed, f"copies of layer {layer} after step {step}")
                changes[i] += (forward != before[i]).any()
                before[i] = forward
    assert min(changes) > 5


@pytest.mark.parametrize("update", ["ternary", "coincidence"])
def test_other_random_bits_make_the_copies_differ(update, sparse_images):
    rules = Rules(batch=24, shift="held", hold=5, update=update, pipelined=True)
    images, labels = sparse_images(24, DENSE.input_shape, 5)
    with LavaEngine(DENSE, rules, model="structural") as engine:
        engine.layers[1].procs.transposed.update_step.set(np.array([1]))
        engine.train(images, labels, 3)
        assert (np.not_equal(*copies(engine, 1))).any()
        assert np.array_equal(*copies(engine, 2))
