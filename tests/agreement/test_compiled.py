"""Compiled engine = numpy engine: every stored weight, exponent and logit, over layers x modes x widths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the extra wage-neuro[compiled]")

from experiments.agreement import MODES, NETWORKS, modes_of
from mappings import compiled_kernels
from mappings.compiled import CompiledEngine
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules, initial_state
from wage_neuro.errors import DataError, SettingError
from wage_neuro.fixed_point import log2_round
from wage_neuro.random_bits import INIT, POST, UPDATE, words
from wage_neuro.train import Held

WIDTHS = ["2222", "3-7-9-5", "2-8-16-16", "4-6-12-10", "8-8-6-8", "2-16-16-16"]


@pytest.mark.parametrize("mode", modes_of("compiled"))
@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_equals_numpy(name, mode, assert_agree):
    assert assert_agree(CompiledEngine, NETWORKS[name], MODES[mode]) > 0


@pytest.mark.parametrize("mode", ["paper", "pipelined", "coincidence"])
@pytest.mark.parametrize("bits", WIDTHS)
def test_other_widths(bits, mode, assert_agree):
    for name in ("dense", "conv, pooling"):
        assert_agree(CompiledEngine, replace(NETWORKS[name], bits=bits), MODES[mode])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_small_network(data, assert_agree):
    pick = lambda *values: data.draw(st.sampled_from(values))  # noqa: E731
    specs = []
    for _ in range(data.draw(st.integers(0, 2))):
        specs.append(Conv(pick(1, 3, 17), pick(1, 2, 3), pick(1, 2), pick("SAME", "VALID")))
        if data.draw(st.booleans()):
            specs.append(MaxPool(pick(1, 2), pick(None, 1)))
    specs += [Flatten(), *(Dense(units) for units in data.draw(st.lists(st.integers(1, 40), max_size=2)))]
    network = Network((*specs, Dense(pick(1, 2, 10))), (23, 22, pick(1, 2)), signed_input=pick(False, True))
    batch, pipelined = pick(1, 2, 24), data.draw(st.booleans())
    single = batch == 1 or pipelined
    rules = Rules(
        batch,
        "held" if pipelined else pick("batch", "held"),
        pick(1, 3, 1000),
        pick("wide", "ternary", "coincidence") if single else pick("wide", "ternary"),
        pick("authors", "paper"),
        pick("sse", "one-sided"),
        pick(0, 3, 8),
        pipelined,
        pick("transposed", "random", "direct"),
    )
    seed, log2_eta = data.draw(st.integers(0, 2**64 - 1)), pick(-16, -3, 0, 16)
    assert_agree(CompiledEngine, network, rules, seed=seed, log2_etas=(log2_eta, 3))


@pytest.mark.parametrize("mode", ["held", "one sample at a time", "pipelined"])
def test_goes_on_from_a_state(mode, assert_goes_on):
    assert_goes_on(CompiledEngine, MODES[mode])


def test_many_samples_at_once(assert_same_in_parts):
    assert_same_in_parts(CompiledEngine, samples=300)


def test_black_images_teach_nothing_but_the_outputs_see_them(assert_same_state):
    """All products are 0: ties in every pooling window, no gradient anywhere."""
    network, rules = NETWORKS["conv, pooling"], MODES["one sample at a time"]
    images, labels = np.zeros((5, 12, 12, 1), np.uint8), np.arange(5)
    one, other = NumpyEngine(network, rules), CompiledEngine(network, rules)
    assert not one.train(images, labels, 3).any()
    other.train(images, labels, 3)
    assert_same_state(one.state, other.state)
    assert other.state.step == 5
    assert other.state.error_held[-1].exponent is not None


def test_the_first_maximum_wins():
    """Ties among positive products, which images of one grey level make everywhere."""
    Z = np.array([3, 5, 5, 1, 5, 2, 5, 5, 5], np.int32).reshape(1, 3, 3, 1)
    out, gate, winner = np.empty((1, 2, 2, 1), np.int8), *np.empty((2, 1, 2, 2, 1), np.uint8)
    compiled_kernels.activate(Z, 2, 1, 0, 4, out, gate, winner)
    assert winner.ravel().tolist() == [1, 0, 1, 0]
    assert out.ravel().tolist() == [4, 4, 4, 4]
    assert (gate == compiled_kernels.SATURATED).all()


def test_even_images(assert_same_state):
    network, rules = NETWORKS["conv, pooling"], MODES["paper"]
    images = np.repeat(np.arange(16, dtype=np.uint8) * 17, 144).reshape(16, 12, 12, 1)
    one, other = NumpyEngine(network, rules), CompiledEngine(network, rules)
    for engine in (one, other):
        engine.train(images, np.arange(16) % 5, 3)
    assert_same_state(one.state, other.state)


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 40),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.integers(0, 32),
)
def test_philox_is_numpys(seed, layer, step, first, blocks):
    drawn = np.empty(4 * blocks, np.uint64)
    for purpose in (INIT, UPDATE, POST):
        compiled_kernels.philox(np.uint64(seed), purpose, layer, step, first, drawn)
        assert np.array_equal(drawn, words(seed, purpose, layer, step, 4 * first, 4 * blocks))


def test_every_block_of_a_large_layer():
    drawn = np.empty(128, np.uint64)
    whole = words(7, UPDATE, 2, 99, 0, 784 * 512 // 4)
    for first in range(0, 784 * 512 // 16, 32):
        compiled_kernels.philox(np.uint64(7), UPDATE, 2, 99, first, drawn)
        assert np.array_equal(drawn, whole[4 * first : 4 * first + 128])


def test_log2_round_on_either_side_of_every_half():
    for n in range(1, 53):
        half = int(np.sqrt(2.0) * 2.0**n)
        for x in (2**n - 1, 2**n, half - 1, half, half + 1, half + 2, 2**n + 1):
            assert compiled_kernels.log2_round(x) == log2_round(x), x


def test_weights_outside_the_range_are_refused():
    network = Network((Dense(3),), (4,))
    begin = initial_state(network)
    outside = replace(begin, S=(np.full((4, 3), -100, np.int8),))
    with pytest.raises(
        SettingError, match=r"^stored weights of layer 0 reach 100: stored_range='authors' ends at 64$"
    ):
        CompiledEngine(network, Rules(), state=outside)
    CompiledEngine(network, Rules(stored_range="paper"), state=outside).close()


def test_bad_data_is_refused_and_changes_nothing(sparse_images, assert_same_state):
    network = Network((Dense(3),), (4,))
    images, labels = sparse_images(8, (4,), 3)
    with CompiledEngine(network, Rules(batch=4)) as engine:
        with pytest.raises(DataError, match=r"^label 3: "):
            engine.train(images, np.full(8, 3), 0)
        with pytest.raises(DataError, match=r"^images of float64: "):
            engine.predict(images / 255)
        with pytest.raises(SettingError, match=r"^7 samples: want a multiple of the batch, 4$"):
            engine.train(images[:7], labels[:7], 0)
        assert_same_state(engine.state, initial_state(network))


def test_a_held_exponent_that_is_unknown_stays_unknown():
    network = Network((Dense(3),), (4,))
    with CompiledEngine(network, MODES["one sample at a time"]) as engine:
        assert engine.state.error_held == (Held(),)
