"""Brian2 engine = numpy engine, through code that shares none of the arithmetic: layers x modes x targets."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest

b2 = pytest.importorskip("brian2", reason="brian2 is an optional extra")

from experiments.training import Config, Run
from mappings import brian2 as mapping
from mappings.brian2 import Brian2Engine
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.train import Held

LAYERS = {
    "dense": ((Dense(24), Dense(5)), (30,)),
    "one layer": ((Dense(5),), (30,)),
    "dense on images": ((Flatten(), Dense(5)), (6, 5, 2)),
    "conv SAME": ((Conv(4, 3), Flatten(), Dense(5)), (6, 7, 2)),
    "conv VALID, stride 2": ((Conv(4, 3, 2, "VALID"), Conv(3, 2), Flatten(), Dense(5)), (9, 8, 1)),
    "conv, pooling": (
        (Conv(4, 3), MaxPool(2), Conv(6, 3), MaxPool(3, 2), Flatten(), Dense(8), Dense(5)),
        (12, 12, 1),
    ),
}
MODES = {
    "paper": Rules(batch=16),
    "paper's range, ternary": Rules(batch=16, update="ternary", stored_range="paper"),
    "held": Rules(batch=16, shift="held", hold=40),
    "one-sided, margin": Rules(batch=16, loss="one-sided", margin=3),
    "coincidence": Rules(batch=1, shift="held", update="coincidence", loss="one-sided"),
    "pipelined": Rules(batch=12, shift="held", hold=30, update="ternary", pipelined=True),
    "pipelined coincidence": Rules(batch=16, shift="held", update="coincidence", pipelined=True),
    "one sample at a time": Rules(batch=1, shift="held", update="ternary", loss="one-sided", margin=3),
}
SMALL_MODES = [mode for mode in MODES if MODES[mode].batch == 1]


@pytest.fixture(scope="module")
def cython(tmp_path_factory):
    """Brian2's Cython target with a cache of its own; skipped where nothing can compile."""
    if not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("no C++ compiler found for Brian2's Cython target")
    pytest.importorskip("Cython")
    before = b2.prefs.codegen.runtime.cython.cache_dir
    b2.prefs.codegen.runtime.cython.cache_dir = str(tmp_path_factory.mktemp("cython"))
    yield "cython"
    b2.prefs.codegen.runtime.cython.cache_dir = before


@pytest.fixture
def same_training(sparse_images, assert_same_state, assert_same_arrays):
    """Learn, answer, learn again with another eta; everything equal after each."""

    def check(network, rules, n=96, seed=3, codegen="numpy", etas=(3, -1)) -> None:
        images, labels = sparse_images(2 * n, network.input_shape, network.classes, seed)
        oracle = NumpyEngine(network, rules, seed=seed)
        start = oracle.state
        with Brian2Engine(network, rules, seed=seed, codegen=codegen) as engine:
            for part, log2_eta in ((slice(0, n), etas[0]), (slice(n, 2 * n), etas[1])):
                one = oracle.train(images[part], labels[part], log2_eta)
                other = engine.train(images[part], labels[part], log2_eta)
                assert_same_arrays(one, other, "logits in training")
                assert_same_arrays(oracle.predict(images[:21]), engine.predict(images[:21]), "logits")
                assert_same_state(oracle.state, engine.state)
        assert any((a != b).any() for a, b in zip(start.S, oracle.state.S, strict=True))

    return check


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LAYERS)
def test_brian2_equals_numpy(name, mode, same_training):
    specs, shape = LAYERS[name]
    same_training(Network(specs, shape), MODES[mode], n=24 if mode in SMALL_MODES else 48)
