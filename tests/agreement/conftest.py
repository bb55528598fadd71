"""One comparison for every engine. Its tables are those of `experiments.benchmarks.agreement`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from experiments.benchmarks.agreement import other_control
from wage_neuro import Dense, Network, NumpyEngine, Rules, initial_state
from wage_neuro.layers import SPARED, UNKNOWN


@pytest.fixture(scope="session")
def assert_agree(assert_same_state, assert_same_arrays, sparse_images) -> Callable[..., int]:
    """Learn, answer, go on under another control: every logit, weight, exponent and count is numpy's.

    n : samples learned under each control; answers : samples answered after each, of which Lava counts the
    black ones that fill the last batch, too, where black is a signed code; watched : for engines that count.
    Returns how many weights learning has changed.
    """

    def compare(build, network, rules, n=96, seed=3, log2_etas=(3, 0), watched=True, answers=21) -> int:
        begin, controls = initial_state(network, seed), (*log2_etas, other_control(network))
        images, labels = sparse_images(n * len(controls), network.input_shape, network.classes, seed)
        oracle = NumpyEngine(network, rules, state=begin)
        with build(network, rules, state=begin) as engine:
            both = oracle, engine
            for k, control in enumerate(controls):
                part = slice(n * k, n * (k + 1))
                for each in both if watched else ():
                    each.watch(k)
                names, first = f"numpy and {engine.name}", oracle.state.step
                logits = [each.train(images[part], labels[part], control) for each in both]
                differ = np.flatnonzero((logits[0] != logits[1]).any(axis=1))[:1] // rules.samples_an_update
                at = f"{names}, step {first + int(differ.sum())}, last layer"
                assert_same_arrays(*logits, f"{at}: logits in training")
                at = f"{names}, after step {oracle.state.step - 1}"
                assert_same_state(oracle.state, engine.state, at)
                assert_same_arrays(*(each.predict(images[:answers]) for each in both), f"{at}: answers")
                one, other = (each.activity() for each in both)
                assert one.samples == other.samples
                assert bool(one.samples) == bool(watched and k)
                assert_same_arrays(one.counts, other.counts, f"{at}: activity, (layer, field)")
                if rules.consolidation:
                    for each in both:
                        each.consolidate(n // rules.samples_an_update)
                    assert_same_state(oracle.state, engine.state)
                    assert oracle.state.importance[-1][0].any()
            # the error of softmax has not the units of logits
            if rules.loss != "softmax" and "recalls former logits" in engine.supports.abilities:
                former = logits[0]
                former[::3], former[1::3, 0], former[::5, 1] = UNKNOWN, UNKNOWN, SPARED
                logits = [
                    each.train_recalling(images[part], labels[part], former, log2_etas[0]) for each in both
                ]
                assert_same_arrays(*logits, "logits of samples recalled")
                assert_same_state(oracle.state, engine.state)
        return sum(int((a != b).sum()) for a, b in zip(oracle.state.S, begin.S, strict=True))

    return compare


@pytest.fixture(scope="session")
def assert_goes_on(assert_same_state, sparse_images) -> Callable[..., None]:
    """Check that an engine goes on from numpy's state, and that a state handed in or out stays as it was."""

    def check(build, rules) -> None:
        network = Network((Dense(12), Dense(3)), (10,))
        images, labels = sparse_images(192, (10,), 3)
        whole, half = NumpyEngine(network, rules), NumpyEngine(network, rules)
        whole.train(images, labels, 1)
        half.train(images[:96], labels[:96], 1)
        before = half.state
        kept = [S.copy() for S in before.S]
        with build(network, rules, state=before) as engine:
            engine.train(images[96:], labels[96:], 1)
            after = engine.state
            assert_same_state(whole.state, after)
            engine.train(images[:96], labels[:96], 1)
        assert_same_state(whole.state, after)
        assert all(np.array_equal(a, b) for a, b in zip(before.S, kept, strict=True))

    return check


@pytest.fixture(scope="session")
def assert_same_in_parts(assert_same_state, assert_same_arrays, sparse_images) -> Callable[..., None]:
    """Check batches of 100 of more samples than an engine takes in together, of none, of read-only images."""

    def check(build, samples) -> None:
        network, rules = Network((Dense(12), Dense(3)), (10,)), Rules(batch=100)
        images, labels = sparse_images(samples, (10,), 3)
        images.setflags(write=False)
        one, other = NumpyEngine(network, rules), build(network, rules)
        assert_same_arrays(one.train(images, labels, 1), other.train(images, labels, 1), "logits in training")
        assert_same_arrays(one.predict(images), other.predict(images), "logits")
        assert other.predict(images[:0]).shape == other.train(images[:0], labels[:0], 1).shape == (0, 3)
        assert_same_state(one.state, other.state)

    return check
