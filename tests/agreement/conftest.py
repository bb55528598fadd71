"""One comparison for every engine. Its tables are those of `experiments.benchmarks.agreement`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pytest

from experiments.benchmarks.agreement import other_control
from wage_neuro import Dense, Network, NumpyEngine, Rules, initial_state
from wage_neuro.activity import Activity
from wage_neuro.layers import SPARED, UNKNOWN
from wage_neuro.state import State


class Learned(NamedTuple):
    """What an engine has shown under one control."""

    first: int  # step
    logits: np.ndarray
    state: State
    answers: np.ndarray
    activity: Activity
    consolidated: State | None


@pytest.fixture(scope="session")
def work(sparse_images) -> Callable[..., Iterator[Learned]]:
    """Learn, answer, go on under another control, and show what came of each."""

    def of(engine, network, rules, n, seed, log2_etas, watched, answers) -> Iterator[Learned]:
        controls = (*log2_etas, other_control(network))
        images, labels = sparse_images(n * len(controls), network.input_shape, network.classes, seed)
        for k, control in enumerate(controls):
            part, first = slice(n * k, n * (k + 1)), engine.state.step
            if watched:
                engine.watch(k)
            logits = engine.train(images[part], labels[part], control)
            state, answered, activity = engine.state, engine.predict(images[:answers]), engine.activity()
            if rules.consolidation:
                engine.consolidate(n // rules.samples_an_update)
            consolidated = engine.state if rules.consolidation else None
            yield Learned(first, logits, state, answered, activity, consolidated)
        # the error of softmax has not the units of logits
        if rules.loss != "softmax" and "recalls former logits" in engine.supports.abilities:
            logits = logits.copy()
            logits[::3], logits[1::3, 0], logits[::5, 1:2] = UNKNOWN, UNKNOWN, SPARED
            logits = engine.train_recalling(images[part], labels[part], logits, log2_etas[0])
            yield Learned(engine.state.step, logits, engine.state, answered, activity, None)

    return of


@pytest.fixture(scope="session")
def assert_agree(assert_same_state, assert_same_arrays, work) -> Callable[..., int]:
    """Learn, answer, go on under another control: every logit, weight, exponent and count is numpy's.

    n : samples learned under each control; answers : samples answered after each, of which Lava counts the
    black ones that fill the last batch, too, where black is a signed code; watched : for engines that count.
    Returns how many weights learning has changed.
    """

    @lru_cache(maxsize=512)  # one oracle for all engines and instruction sets
    def of_numpy(network, rules, n, seed, *how) -> tuple[Learned, ...]:
        begin = initial_state(network, seed)
        return tuple(work(NumpyEngine(network, rules, state=begin), network, rules, n, seed, *how))

    def compare(build, network, rules, n=96, seed=3, log2_etas=(3, 0), watched=True, answers=21) -> int:
        how = network, rules, n, seed, log2_etas, watched, answers
        begin, oracle = initial_state(network, seed), of_numpy(*how)
        with build(network, rules, state=begin) as engine:
            names, shown = f"numpy and {engine.name}", list(work(engine, *how))
        controls = len(log2_etas) + 1
        assert len(shown) in {len(oracle), controls}
        for k, (one, other) in enumerate(zip(oracle, shown, strict=False)):
            differ = np.flatnonzero((one.logits != other.logits).any(axis=1))[:1] // rules.samples_an_update
            at = f"{names}, step {one.first + int(differ.sum())}, last layer"
            assert_same_arrays(one.logits, other.logits, f"{at}: logits in training")
            at = f"{names}, after step {one.state.step - 1}"
            assert_same_state(one.state, other.state, at)
            assert_same_arrays(one.answers, other.answers, f"{at}: answers")
            assert one.activity.samples == other.activity.samples
            assert bool(one.activity.samples) == bool(watched and k)
            assert_same_arrays(one.activity.counts, other.activity.counts, f"{at}: activity, (layer, field)")
            if one.consolidated:
                assert_same_state(one.consolidated, other.consolidated)
                assert one.consolidated.importance[-1][0].any()
        last = oracle[len(shown) - 1].state
        return sum(int((a != b).sum()) for a, b in zip(last.S, begin.S, strict=True))

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
