"""Compiled engine = numpy engine: every stored weight, exponent and logit, over layers x modes x widths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from experiments.agreement import MODES, NETWORKS, modes_of
from mappings.compiled import CompiledEngine
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules, initial_state
from wage_neuro.errors import DataError, EngineError, NetworkError, SettingError
from wage_neuro.fixed_point import log2_round
from wage_neuro.kernels import build, native
from wage_neuro.kernels.numpy_kernels import set_threads, thread_count
from wage_neuro.random_bits import INIT, POST, UPDATE, words
from wage_neuro.train import Held

if not native.is_here():
    pytest.skip("no compiled kernels here: python -m wage_neuro.kernels.build", allow_module_level=True)

SETS = native.instruction_sets()
WIDTHS = ["2222", "3-7-9-5", "2-8-16-16", "4-6-12-10", "8-8-6-8", "2-16-16-16"]


@pytest.fixture(params=SETS)
def isa(request, monkeypatch):
    monkeypatch.setenv(native.VARIABLE, request.param)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("mode", modes_of("compiled"))
@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_equals_numpy(name, mode, assert_agree):
    assert assert_agree(CompiledEngine, NETWORKS[name], MODES[mode]) > 0


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("mode", ["paper", "pipelined", "coincidence", "softmax"])
@pytest.mark.parametrize("bits", WIDTHS)
def test_other_widths(bits, mode, assert_agree):
    for name in ("dense", "conv, pooling"):
        assert_agree(CompiledEngine, replace(NETWORKS[name], bits=bits), MODES[mode])


@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(data=st.data())
def test_any_small_network(data, assert_agree):
    pick = lambda *values: data.draw(st.sampled_from(values))  # noqa: E731
    specs = []
    for _ in range(data.draw(st.integers(0, 2))):
        channels = pick(1, 3, 4, 17, 32, 33)
        specs.append(Conv(channels, pick(1, 2, 3, 5), pick(1, 2, 3), pick("SAME", "VALID")))
        if data.draw(st.booleans()):
            specs.append(MaxPool(pick(1, 2, 3), pick(None, 1, 2)))
    specs += [Flatten(), *(Dense(units) for units in data.draw(st.lists(st.integers(1, 140), max_size=2)))]
    widths = "-".join(str(data.draw(st.one_of(st.just(k), st.integers(2, 16)))) for k in (2, 8, 8, 8))
    loss = pick("sse", "one-sided", "softmax")
    try:
        network = Network(
            (*specs, Dense(pick(1, 2, 10))), (23, 22, pick(1, 2, 3, 5)), widths, signed_input=pick(False, True)
        )
    except NetworkError:  # a kernel larger than what is left of the image
        return
    batch, pipelined = pick(1, 2, 3, 24), data.draw(st.booleans())
    single = batch == 1 or pipelined
    rules = Rules(
        batch,
        "held" if pipelined else pick("batch", "held"),
        pick(1, 3, 1000),
        pick("wide", "ternary", "coincidence") if single else pick("wide", "ternary"),
        pick("authors", "paper"),
        loss,
        pick(0, 3, 8),
        pipelined,
        pick("transposed", "random", "direct"),
        metaplasticity=pick(0, 0, 3),
        gamma=pick(1, 8),
    )
    seed, log2_eta = data.draw(st.integers(0, 2**64 - 1)), pick(-16, -3, 0, 16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(native.VARIABLE, pick(*SETS))
        assert_agree(CompiledEngine, network, rules, n=24, seed=seed, log2_etas=(log2_eta, 3))


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


@pytest.mark.usefixtures("isa")
def test_even_images(assert_same_state):
    """Ties among positive products, of which the first wins."""
    network, rules = NETWORKS["conv, pooling"], MODES["paper"]
    images = np.repeat(np.arange(16, dtype=np.uint8) * 17, 144).reshape(16, 12, 12, 1)
    one, other = NumpyEngine(network, rules), CompiledEngine(network, rules)
    for engine in (one, other):
        engine.train(images, np.arange(16) % 5, 3)
    assert_same_state(one.state, other.state)


@pytest.mark.usefixtures("isa")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 40),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.integers(0, 9),
)
def test_philox_is_numpys(seed, layer, step, first, groups):
    for purpose in (INIT, UPDATE, POST):
        drawn = native.philox(seed, purpose, layer, step, first, groups)
        assert np.array_equal(drawn, words(seed, purpose, layer, step, 4 * first, 32 * groups))


@pytest.mark.usefixtures("isa")
def test_log2_round_on_either_side_of_every_half():
    for n in range(1, 53):
        half = int(np.sqrt(2.0) * 2.0**n)
        for x in (2**n - 1, 2**n, half - 1, half, half + 1, half + 2, 2**n + 1):
            assert native.log2_round(x) == log2_round(x), x


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
