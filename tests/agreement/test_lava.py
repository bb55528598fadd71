"""Lava engine = numpy engine: every stored weight, exponent and logit, over layers x modes x lanes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

pytest.importorskip("lava", reason="lava-nc is not installed")

from experiments.benchmarks.agreement import MODES, NETWORKS, is_slow, modes_of
from experiments.runs.training import Config, Run
from mappings.engines.lava.engine import LavaEngine, LavaOptions
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules, State
from wage_neuro.rules import MARGIN_UNITS

PAIRS = [
    pytest.param(name, mode, marks=[pytest.mark.slow] if is_slow(name, mode) else [], id=f"{name}-{mode}")
    for name in NETWORKS
    for mode in modes_of("lava")
]


@pytest.mark.parametrize(("name", "mode"), PAIRS)
def test_lava_equals_numpy(name, mode, assert_agree):
    """One graph for all of it."""
    lanes = 4 if mode in ("held", "direct feedback") else None
    n = 32 if MODES[mode].batch == 1 else 96
    assert (
        assert_agree(partial(LavaEngine, options=LavaOptions(lanes=lanes)), NETWORKS[name], MODES[mode], n)
        > 0
    )


@pytest.mark.parametrize("name", ["dense", "conv, pooling"])
def test_importance_is_a_var(name, sparse_images, assert_same_state):
    """Counted, raised where a task ends, and handed on: the same bits, in one graph."""
    network = NETWORKS[name]
    rules = Rules(batch=4, shift="held", update="ternary", metaplasticity=1, consolidation=5)
    images, labels = sparse_images(48, network.input_shape, 5)
    oracle = NumpyEngine(network, rules)
    with LavaEngine(network, rules, options=LavaOptions(lanes=1)) as engine:
        for part in (slice(0, 24), slice(24, 48)):
            for each in (oracle, engine):
                each.train(images[part], labels[part], 3)
            assert_same_state(oracle.state, engine.state)
            for each in (oracle, engine):
                each.consolidate(6)
        assert_same_state(oracle.state, engine.state)
    assert oracle.state.importance[-1][0].max() > 1
    with LavaEngine(network, rules, state=oracle.state) as engine:
        for each in (oracle, engine):
            each.train(images, labels, 3)
        assert_same_state(oracle.state, engine.state)


@pytest.mark.parametrize("bits", ["2222", "3-7-9-5", "2-8-16-16", "4-6-12-10"])
def test_other_widths(bits, sparse_images, assert_same_state):
    network, rules = Network((Conv(3, 3), MaxPool(2), Flatten(), Dense(4)), (6, 6, 1), bits), Rules(batch=8)
    images, labels = sparse_images(80, (6, 6, 1), 4)
    numpy_engine = NumpyEngine(network, rules)
    numpy_engine.train(images, labels, 2)
    with LavaEngine(network, rules) as lava_engine:
        lava_engine.train(images, labels, 2)
        assert_same_state(numpy_engine.state, lava_engine.state)


@pytest.mark.parametrize(
    "specs", [(Dense(20), Dense(10)), (Conv(4, 3), MaxPool(2), Flatten(), Dense(10))], ids=["dense", "conv"]
)
def test_lanes_do_not_matter(specs, sparse_images, assert_same_state):
    """Batch 128, held Shift, 1, 4, 32 and 128 samples a time step: the same bits."""
    shape = (8, 8, 1)
    specs = specs if isinstance(specs[0], Conv) else (Flatten(), *specs)
    network, rules = Network(specs, shape), Rules(batch=128, shift="held", hold=256)
    images, labels = sparse_images(128 * 5, shape, 10)
    oracle = NumpyEngine(network, rules)
    oracle.train(images, labels, 3)
    assert oracle.state.error_held[0].exponent is not None
    for lanes in (1, 4, 32, 128):
        with LavaEngine(network, rules, options=LavaOptions(lanes=lanes)) as engine:
            engine.train(images, labels, 3)
            assert_same_state(oracle.state, engine.state)


def test_several_epochs_of_digits(tmp_path, assert_same_state):
    """The whole of a run, evaluations included: metrics and weights after three epochs."""
    config = Config(
        data="digits", network="8C3-MP2-12C3-MP2-32FC", epochs=3, eta="8, 2@2", seed=5, rules=Rules(batch=16)
    )
    ends = {}
    for name in ("numpy", "lava"):
        run = Run.start(config, tmp_path / name)
        (tmp_path / name).mkdir()
        with run.engine(name) as engine:
            rows = run.fit(engine)
            logits = run.predict(engine)
            ends[name] = engine.state, [{**row, "seconds": 0} for row in rows], logits
    assert_same_state(ends["numpy"][0], ends["lava"][0])
    assert ends["numpy"][1] == ends["lava"][1]
    assert np.array_equal(ends["numpy"][2], ends["lava"][2])
    assert ends["lava"][1][-1]["accuracy"] > 0.5


def test_goes_on_from_a_state(sparse_images, assert_same_state):
    network, rules = Network((Dense(12), Dense(3)), (10,)), Rules(batch=8, shift="held", hold=20)
    images, labels = sparse_images(160, (10,), 3)
    whole = NumpyEngine(network, rules)
    whole.train(images, labels, 1)
    half = NumpyEngine(network, rules)
    half.train(images[:80], labels[:80], 1)
    with LavaEngine(network, rules, state=half.state, options=LavaOptions(lanes=2)) as engine:
        engine.train(images[80:], labels[80:], 1)
        assert_same_state(whole.state, engine.state)


@pytest.mark.parametrize("batch", [5, 6])
def test_new_samples_of_a_pipelined_batch(batch, sparse_images, assert_same_state):
    """Of an odd batch, too: which samples are new depends on all that went before, in a resumed run also."""
    network = Network((Dense(8), Dense(3)), (10,))
    rules = Rules(batch=batch, shift="held", update="ternary", pipelined=True, new_shift=7)
    images, labels = sparse_images(6 * batch, (10,), 3)
    oracle, other = NumpyEngine(network, rules), NumpyEngine(network, replace(rules, new_shift=0))
    state = None
    for part in (slice(0, batch), slice(batch, 3 * batch), slice(3 * batch, 6 * batch)):
        with LavaEngine(network, rules, state=state) as engine:
            for each in (oracle, other, engine):
                each.train(images[part], labels[part], 3)
            state = engine.state
        assert_same_state(oracle.state, state)
    assert oracle.state.error_held != other.state.error_held


def test_a_margin_and_former_logits_of_wide_sums(sparse_images, assert_same_state):
    """What is made of a product of 31 bits has more: it must not wrap."""
    network = Network((Dense(3),), (600,), "8-14-12-12")
    layer = network.layers[0]
    assert 2**29 < layer.z_bound < 2**30 < layer.z_bound * MARGIN_UNITS
    rules = Rules(batch=4, shift="held", loss="one-sided", margin=8)
    images, labels = np.full((16, 600), 255, np.uint8), np.arange(16) % 3
    weight = np.full(layer.weight_shape, 1024, np.int16)
    weight[:, 1] *= -1
    state = State.of((weight,), seed=0)
    oracle = NumpyEngine(network, rules, state=state)
    logits = oracle.train(images, labels, 3)
    assert np.abs(logits).max() * MARGIN_UNITS > 2**31
    with LavaEngine(network, rules, state=state) as engine:
        assert np.array_equal(engine.train(images, labels, 3), logits)
        assert_same_state(oracle.state, engine.state)
