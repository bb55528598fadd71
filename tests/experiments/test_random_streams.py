"""Ten streams of random bits: each use draws from the one that is its own, and no two are one."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.continual.streams import Stream, tasks_of
from experiments.datasets.augment import Augment
from wage_neuro import Conv, Dense, Flatten, Network, NumpyEngine, Rules, initial_state, layers, random_bits
from wage_neuro.feedback import feedback_weights
from wage_neuro.memory import Reservoir, slots_to_keep, slots_to_recall
from wage_neuro.random_bits import permutation

SEED = 987654321  # of nothing else, as fixed feedback is kept
NETWORK = Network((Conv(2, 3), Flatten(), Dense(3)), (4, 4, 1))
LAYER = NETWORK.layers[1]
IMAGES, LABELS = np.full((4, 4, 4, 1), 200, np.uint8), np.array([0, 1, 2, 0])


def learn(update: str) -> None:
    state = initial_state(NETWORK, SEED)
    NumpyEngine(NETWORK, Rules(batch=1, shift="held", update=update), state=state).train(IMAGES, LABELS, 0)


USES = {
    "initial weights": (lambda: layers.initial_weights(LAYER, SEED), [0]),
    "rounding of updates": (lambda: learn("ternary"), [0, 1]),
    "order of an epoch": (lambda: permutation(SEED, 3, 10), [2]),
    "spikes of learning": (
        lambda: (
            layers.pre_spikes(LAYER, np.ones((1, 32), int), layers.Draw(SEED, 1)),
            layers.post_spikes(LAYER, np.ones((1, 3), int), 0, layers.Draw(SEED, 1)),
        ),
        [3, 4],
    ),
    "random feedback": (
        lambda: feedback_weights(LAYER, 3, Rules(batch=1, shift="held", feedback="random"), SEED),
        [5],
    ),
    "direct feedback": (
        lambda: feedback_weights(NETWORK.layers[0], 3, Rules(batch=1, shift="held", feedback="direct"), SEED),
        [5],
    ),
    "augmentation": (lambda: Augment.parse("crop1-flip").apply(IMAGES, SEED, 0, slice(0, 4)), [6]),
    "order of a stream": (
        lambda: Stream(tasks_of("split-digits", tasks=2), "class", seed=SEED).samples(0, 9),
        [7],
    ),
    "what is kept": (lambda: slots_to_keep(SEED, 0, 9, 5), [8]),
    "what is recalled": (lambda: slots_to_recall(SEED, 0, 9, np.full(9, 5)), [9]),
    "a memory": (lambda: Reservoir.empty(2, (4, 4, 1), 3, SEED).interleave(IMAGES, LABELS, 1), [8, 9]),
}


@pytest.mark.parametrize("use", USES)
def test_each_use_has_a_stream_of_its_own(use, monkeypatch):
    drawn, philox = set(), np.random.Philox

    def noted(key, counter):
        assert key[0] == SEED
        drawn.add(int(key[1]))
        return philox(key=key, counter=counter)

    monkeypatch.setattr(np.random, "Philox", noted)
    work, streams = USES[use]
    work()
    assert sorted(drawn) == streams


def test_no_two_are_one():
    names = ("INIT", "UPDATE", "ORDER", "PRE", "POST", "FEEDBACK", "AUGMENT", "STREAM", "KEEP", "RECALL")
    assert [getattr(random_bits, name) for name in names] == list(range(10))
    assert {stream for _, streams in USES.values() for stream in streams} == set(range(10))


def test_spikes_before_and_after_the_synapse_are_drawn_apart():
    """Equal probabilities of one half: the same stream would make equal spikes of them."""
    layer, codes = NETWORK.layers[0], np.full((1, 64), 64)
    draw = layers.Draw(SEED, 1)
    pre, post = layers.pre_spikes(layer, codes, draw), layers.post_spikes(layer, codes, 0, draw)
    raw = [random_bits.bits16((SEED, purpose, 0, 1), 0, 64) < 2**15 for purpose in (3, 4)]
    assert np.array_equal(pre[0], raw[0])
    assert np.array_equal(post[0], raw[1])
