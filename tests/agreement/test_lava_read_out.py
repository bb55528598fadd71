"""Prototypes and a discriminant as a Process of Lava's graph = those in numpy, to the last bit and count."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lava", reason="lava-nc is not installed")

from mappings.engines.lava.read_out import LavaDiscriminantEngine, LavaPrototypeEngine
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, Rules, initial_state
from wage_neuro.bits import Bits
from wage_neuro.discriminant import Discriminant, DiscriminantEngine
from wage_neuro.prototypes import PART, PrototypeEngine, Prototypes

SHAPE, CLASSES, SEED = (8, 8, 1), 5, 3
RULES = Rules(batch=1, shift="held", update="ternary")


def prototypes(features):
    return Prototypes.empty(40, features, np.int8, SEED, 1)


def discriminant(features):
    empty = Discriminant.empty(features, CLASSES, Bits(), 8)
    empty.most = 128  # sums are halved on the way
    return empty


@pytest.mark.parametrize(
    "specs",
    [(Flatten(), Dense(CLASSES)), (Conv(4, 3), MaxPool(2), Flatten(), Dense(30), Dense(CLASSES))],
    ids=["pixels", "conv, dense"],
)
@pytest.mark.parametrize(
    ("kind", "in_lava", "empty"),
    [
        (PrototypeEngine, LavaPrototypeEngine, prototypes),
        (DiscriminantEngine, LavaDiscriminantEngine, discriminant),
    ],
    ids=["prototypes", "discriminant"],
)
def test_lava_equals_numpy_and_resumes(
    kind, in_lava, empty, specs, sparse_images, assert_same_state, assert_same_arrays
):
    network = Network(specs, SHAPE)
    images, labels = sparse_images(300, SHAPE, CLASSES)
    labels = (images.reshape(300, -1)[:, :4].argmax(axis=1) + labels % 2) % CLASSES
    one, held = (empty(network.layers[-1].in_shape[0]) for _ in range(2))
    state = initial_state(network, SEED)
    oracle = kind(network, RULES, state, one)
    for part in (slice(0, 230), slice(230, 300)):
        with in_lava(network, RULES, state, held) as engine:
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
            held = engine.held
    for name, array in one.arrays.items():
        assert array.any()
        assert_same_arrays(array, held.arrays[name], name)
        assert array.dtype == held.arrays[name].dtype
    assert one.seen == held.seen == 300
