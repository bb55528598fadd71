"""Prototypes as a Process of the Lava graph = those in numpy, to the last bit, counts included."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lava", reason="lava-nc is not installed")

from mappings.engines.lava.prototypes import LavaPrototypeEngine
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, Rules, initial_state
from wage_neuro.prototypes import PART, PrototypeEngine, Prototypes

SHAPE, CLASSES, SEED = (8, 8, 1), 5, 3
RULES = Rules(batch=1, shift="held", update="ternary")


@pytest.mark.parametrize(
    "specs",
    [(Flatten(), Dense(CLASSES)), (Conv(4, 3), MaxPool(2), Flatten(), Dense(30), Dense(CLASSES))],
    ids=["pixels", "conv, dense"],
)
def test_lava_equals_numpy_and_resumes(specs, sparse_images, assert_same_state, assert_same_arrays):
    network = Network(specs, SHAPE)
    images, labels = sparse_images(300, SHAPE, CLASSES)
    labels = (images.reshape(300, -1)[:, :4].argmax(axis=1) + labels % 2) % CLASSES
    room = (40, network.layers[-1].in_shape[0], np.int8, SEED, 1)
    one, held = Prototypes.empty(*room), Prototypes.empty(*room)
    state = initial_state(network, SEED)
    oracle = PrototypeEngine(network, RULES, state, one)
    for part in (slice(0, 230), slice(230, 300)):
        with LavaPrototypeEngine(network, RULES, state, held) as engine:
            for each in (oracle, engine):
                each.watch(1)
            expected = oracle.train(images[part], labels[part], 0)
            assert_same_arrays(expected, engine.train(images[part], labels[part], 0), "logits in learning")
            asked = images[: PART + 3]
            assert_same_arrays(oracle.predict(asked), engine.predict(asked), "logits")
            counted, found = oracle.activity(), engine.activity()
            assert counted.samples == found.samples > 0
            assert_same_arrays(counted.counts, found.counts, "activity")
            assert_same_state(oracle.state, engine.state)
            held = engine.prototypes
    for name, array in one.arrays.items():
        assert_same_arrays(array, held.arrays[name], name)
        assert array.dtype == held.arrays[name].dtype
    assert one.seen == held.seen == 300
    assert one.count == 40
