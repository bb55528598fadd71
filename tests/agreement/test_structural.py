"""Structural Lava models = numpy engine: the parts of a layer give the bits of the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("lava", reason="lava-nc is not installed")

from experiments import datasets
from experiments.benchmarks.agreement import MODES, NETWORKS, OVERLAP, RECORDED
from mappings.engines.lava.engine import LavaEngine, LavaOptions
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules

ONE_BY_ONE = ("one sample at a time", "coincidence", "pipelined", "pipelined coincidence")
DENSE = Network((Dense(24), Dense(16), Dense(5)), (30,))


@pytest.fixture
def agrees(assert_agree):
    def check(network, rules, widths=OVERLAP, answers=21) -> None:
        def build(*args, **kwargs):
            engine = LavaEngine(*args, options=LavaOptions(model="structural", widths=widths), **kwargs)
            assert engine.unproven == []
            return engine

        n = 24 if rules.batch == 1 else 48
        assert assert_agree(build, network, rules, n, answers=answers) > 0

    return check


@pytest.mark.parametrize("mode", ONE_BY_ONE)
@pytest.mark.parametrize("name", RECORDED)
def test_structural_equals_numpy(name, mode, agrees):
    agrees(NETWORKS[name], MODES[mode])


@pytest.mark.parametrize(
    "network",
    [
        NETWORKS["one layer"],
        replace(NETWORKS["conv VALID, stride 2"], signed_input=True),
        Network((Conv(3, 3), MaxPool(2), Flatten(), Dense(5)), (6, 6, 2), "3-7-9-5"),
    ],
    ids=["one layer", "VALID, stride 2, signed input", "other widths"],
)
def test_other_networks(network, agrees):
    agrees(network, MODES["pipelined"], widths=None, answers=MODES["pipelined"].batch)


def test_the_paper_s_range_and_a_short_hold(agrees):
    rules = replace(MODES["one sample at a time"], stored_range="paper", hold=5, generator="philox4x32")
    agrees(DENSE, rules)


@pytest.mark.parametrize("network", ["32FC", pytest.param("8C3-MP2-8C3-MP2", marks=pytest.mark.slow)])
def test_an_epoch_of_digits(network, assert_same_arrays, assert_same_state):
    data = datasets.load("digits")
    images, labels = data.train_images, data.train_labels
    network, batch = Network.parse(network, images.shape[1:], 10), len(images) // 3
    rules = Rules(batch=batch, shift="held", hold=500, update="ternary", loss="one-sided", pipelined=True)
    oracle = NumpyEngine(network, rules)
    assert len(images) == 3 * batch
    with LavaEngine(network, rules, options=LavaOptions(model="structural")) as engine:
        logits = oracle.train(images, labels, 2)
        assert_same_arrays(logits, engine.train(images, labels, 2), "logits")
        assert_same_state(oracle.state, engine.state)
    assert (logits[-300:].argmax(axis=1) == labels[-300:]).mean() > 0.4


def test_goes_on_from_a_state(sparse_images, assert_same_state):
    rules = replace(MODES["pipelined coincidence"], generator="philox4x32")
    images, labels = sparse_images(64, DENSE.input_shape, 5)
    whole = NumpyEngine(DENSE, rules)
    whole.train(images[:32], labels[:32], 2)
    with LavaEngine(DENSE, rules, state=whole.state, options=LavaOptions(model="structural")) as engine:
        engine.train(images[32:], labels[32:], 2)
        whole.train(images[32:], labels[32:], 2)
        assert_same_state(whole.state, engine.state)


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
    with LavaEngine(network, rules, options=LavaOptions(model="structural")) as engine:
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
    with LavaEngine(DENSE, rules, options=LavaOptions(model="structural")) as engine:
        engine.layers[1].procs.transposed.update_step.set(np.array([1]))
        engine.train(images, labels, 3)
        assert (np.not_equal(*copies(engine, 1))).any()
        assert np.array_equal(*copies(engine, 2))
