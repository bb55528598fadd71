"""Several cores, each with some of the layers: the bits of one, as the numpy engine has them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="the extra wage-neuro[rtl]")

from mappings.hardware.rtl.chain import Chain, split
from mappings.hardware.rtl.core import NeuroCore
from mappings.hardware.rtl.engine import RtlEngine, RtlOptions
from mappings.hardware.rtl.python_simulation import PythonSimulation
from mappings.hardware.rtl.shape import shapes
from wage_neuro import Dense, Network, NumpyEngine, initial_state
from wage_neuro.control import Control
from wage_neuro.errors import SettingError

NETWORK = Network((Dense(6), Dense(4), Dense(3)), (9,))


@pytest.mark.parametrize(
    ("cores", "changes", "controls"),
    [
        (2, {}, [3, Control(log2_eta=(1, None, 2), hold=(3, 9, 2))]),
        (3, {"feedback": "random", "generator": "philox4x32"}, [2]),
        (3, {"update": "coincidence", "margin": 1}, [3, 0]),
    ],
)
def test_a_chain_gives_the_numpy_engines_bits(cores, changes, controls, contest, strict):
    parts = split(shapes(NETWORK, strict(**changes)), cores)
    assert len(parts) == cores
    chain = Chain([PythonSimulation(NeuroCore(part)) for part in parts], parts)
    oracle = contest(chain, NETWORK, strict(**changes), controls, samples=5)
    begin = initial_state(NETWORK, 7)
    assert all((a != b).any() for a, b in zip(oracle.state.S[:1], begin.S[:1], strict=True)), "nothing moved"
    assert chain.samples == 5 * len(controls) + 1
    assert chain.sample_cycles > 0


def test_an_error_of_nothing_ends_in_every_core(strict, assert_same_state):
    """A sample that has its margin changes no weight, and counts as a step in each core."""
    parts = split(shapes(NETWORK, strict()), 3)
    chain = Chain([PythonSimulation(NeuroCore(part)) for part in parts], parts)
    oracle = NumpyEngine(NETWORK, strict(margin=0), seed=3)
    state = oracle.state
    for S in state.S:
        S[...] = 0
    chain.write_state(state)
    chain.set_control(3)
    chain.learn(np.zeros(9, np.int8), 1)
    assert [driver.read_state().step for driver in chain.drivers] == [1, 1, 1]


def test_an_engine_of_several_cores(strict, assert_same_state, sparse_images):
    images, labels = sparse_images(6, NETWORK.input_shape, 3)
    oracle = NumpyEngine(NETWORK, strict(), seed=5)
    with RtlEngine(NETWORK, strict(), seed=5, options=RtlOptions(simulator="python", cores=2)) as engine:
        assert np.array_equal(engine.train(images, labels, 2), oracle.train(images, labels, 2))
        assert np.array_equal(engine.predict(images), oracle.predict(images))
        assert_same_state(engine.state, oracle.state)
        assert engine.cycles > 0


@pytest.mark.parametrize(
    ("sizes", "cores", "layers"),
    [
        ((30, 4, 4, 4), 2, [1, 3]),
        ((4, 4, 30, 4), 2, [3, 1]),
        ((4, 30, 8, 2), 2, [2, 2]),
        ((4, 4, 4), 3, [1, 1, 1]),
        ((4, 4), 1, [2]),
    ],
)
def test_the_fullest_core_has_the_least(sizes, cores, layers, strict):
    made = shapes(Network(tuple(map(Dense, sizes)), (8,)), strict())
    parts = split(made, cores)
    assert [len(part) for part in parts] == layers
    assert [shape.index for part in parts for shape in part] == list(range(len(sizes)))


@pytest.mark.parametrize(
    ("cores", "changes", "message"),
    [
        (4, {}, "cores=4: want 1..3, a layer or more on each"),
        (0, {}, "cores=0: want 1..3, a layer or more on each"),
        (2, {"feedback": "direct"}, "feedback='direct': the rtl core on several cores has"),
        (2, {"pipelined": True, "batch": 4}, "pipelined=True: the rtl core on several cores has False only"),
    ],
)
def test_what_a_chain_has_not(cores, changes, message, strict):
    with pytest.raises(SettingError) as found:
        split(shapes(NETWORK, strict(**changes)), cores)
    assert str(found.value).startswith(message)
