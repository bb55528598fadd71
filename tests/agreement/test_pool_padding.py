"""Pooling with incomplete windows: every engine gives the numpy engine's bits, or refuses it by name."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from experiments.benchmarks.agreement import MODES
from experiments.engines import make_engine
from mappings.chips.chip import Chip
from mappings.chips.placement import Use, place
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, initial_state
from wage_neuro.errors import NetworkError
from wage_neuro.kernels import native

PADDED = Network(
    (Conv(4, 3), MaxPool(3, 2, "SAME"), Conv(6, 3), MaxPool(2, None, "SAME"), Flatten(), Dense(5)), (10, 9, 1)
)


def engine(name, network, rules, state=None, **options):
    return make_engine(name, network, rules, state or initial_state(network), **options)


@pytest.mark.parametrize("mode", ["paper", "random feedback", "direct feedback", "one sample at a time"])
@pytest.mark.parametrize(("name", "needs"), [("lava", "lava"), ("torch", "torch"), ("compiled", "numpy")])
def test_an_engine_that_knows_them_agrees(name, needs, mode, assert_agree):
    pytest.importorskip(needs)
    if name == "compiled" and not native.is_here():
        pytest.skip("no compiled library: make kernels builds it")
    assert assert_agree(partial(engine, name), PADDED, MODES[mode], n=24 if "one" in mode else 48) > 0


def test_the_structural_model_agrees(assert_agree):
    pytest.importorskip("lava")
    from experiments.benchmarks.agreement import OVERLAP

    build = partial(engine, "lava", model="structural", widths=OVERLAP)
    assert assert_agree(build, PADDED, MODES["one sample at a time"], n=24) > 0


def test_brian2_refuses_them():
    pytest.importorskip("brian2")
    with pytest.raises(NetworkError, match="engine 'brian2' has no incomplete pooling windows"):
        engine("brian2", PADDED, MODES["paper"])


def test_formats_refuse_them(tmp_path):
    pytest.importorskip("nir")
    from mappings.formats import nir
    from mappings.formats import program as learning_program
    from mappings.formats.inference import Inference
    from wage_neuro.checkpoint import Checkpoint

    saved = Checkpoint(PADDED, MODES["paper"], initial_state(PADDED))
    with pytest.raises(NetworkError, match="a learning program has no incomplete pooling windows"):
        learning_program.to_program(saved)
    with pytest.raises(NetworkError, match="a NIR graph has no incomplete pooling windows"):
        nir.to_nir(Inference.of(saved))


def test_a_chip_s_pooling_hears_the_places_that_are_there():
    placement = place(PADDED, Chip.load("loihi2"), Use(True, MODES["one sample at a time"]))
    layer = PADDED.layers[0]
    (h, w, c), (size, step) = layer.z_shape, (3, 2)
    heard = [
        sum(0 <= y * step - before + i < n for i in range(size))
        for n, before, windows in ((h, layer.pool_padding[0], 5), (w, layer.pool_padding[2], 5))
        for y in range(windows)
    ]
    pool = next(g for g in placement.geometries if g.link.role == "pool")
    third = next(g for g in placement.geometries if g.link.role == "third factor")
    assert pool.connections == third.connections == int(np.sum(heard[:5]) * np.sum(heard[5:])) * c
