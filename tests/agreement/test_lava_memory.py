"""A memory as a Process of the Lava graph = the reservoir in front of the numpy engine, to the last bit."""

from __future__ import annotations

from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lava", reason="lava-nc is not installed")

from mappings.engines.lava.engine import LavaEngine, LavaOptions
from processes.widths import Widths
from wage_neuro import Control, Dense, Flatten, Network, NumpyEngine, Rules, State
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.fixed_point import log2_round
from wage_neuro.layers import UNKNOWN
from wage_neuro.memory import MemoryForm, Replay, Reservoir

SHAPE, CLASSES, SEED = (6, 5, 1), 5, 3
NETWORK = Network((Flatten(), Dense(12), Dense(CLASSES)), SHAPE)
ONE = Rules(batch=1, shift="held", update="ternary", loss="one-sided", margin=3)


def shifted(images: np.ndarray, first: int) -> np.ndarray:
    """Depends on the place of each image, as augmentation does."""
    return np.stack([np.roll(image, (first + i) % 3, axis=0) for i, image in enumerate(images)])


def reservoir(size: int, **form: Any) -> Reservoir:
    return Reservoir.empty(size, SHAPE, CLASSES, SEED, form=MemoryForm(**form))


def both(size, step, rules, samples, cuts, control=2, recalled=1, form=MappingProxyType({}), **options):
    """Learn the samples, cut in parts, in numpy and in Lava; return the engines' ends."""
    memory, oracle = reservoir(size, **form), NumpyEngine(NETWORK, rules, SEED)
    parts = [tuple(a[first:last] for a in samples) for first, last in pairwise(cuts)]
    expected, found = [], []
    oracle.watch(2)
    for x, y in parts:
        first = (1 + recalled) * memory.seen
        mixed = memory.interleave(x, y, step, recalled)
        expected.append(oracle.train(shifted(mixed.images, first), mixed.labels, control))
    replay = Replay(reservoir(size, **form), step, shifted, recalled)
    with LavaEngine(NETWORK, rules, SEED, options=LavaOptions(replay=replay, **options)) as engine:
        engine.watch(2)
        for x, y in parts:
            found.append(engine.train_new(x, y, control))
            activity = engine.activity()
            engine.predict(x[:3])  # is not remembered
            engine.activity()
        ends = engine.state, engine.read_memory(), activity
    return (oracle, memory, expected), (*ends, found)


@pytest.mark.parametrize(
    ("size", "step", "rules", "options"),
    [
        (1, 1, ONE, {}),
        (5, 1, ONE, {}),
        (100, 1, ONE, {"model": "structural"}),
        (9, 4, Rules(batch=8, shift="held"), {}),
        (9, 4, Rules(batch=8, shift="held"), {"lanes": 2}),
        (9, 4, Rules(batch=8, shift="held"), {"lanes": 1}),
        (9, 1, Rules(batch=1, shift="held", update="ternary", new_shift=1, recalled=3), {"recalled": 3}),
        (
            9,
            2,
            Rules(batch=8, shift="held", new_shift=1, recalled=3),
            {"recalled": 3, "lanes": 2, "form": {"bits": 2}},
        ),
        (9, 1, ONE, {"recalled": 2, "form": {"bits": 1, "keep": "balanced"}}),
        (9, 2, Rules(batch=4, shift="held"), {"lanes": 1, "form": {"bits": 4, "keep": "balanced"}}),
        (6, 3, Rules(batch=6), {}),
        (7, 2, Rules(batch=8, shift="held", update="ternary", pipelined=True), {}),
    ],
    ids=str,
)
def test_a_memory_in_the_graph_equals_the_reservoir(
    size, step, rules, options, sparse_images, assert_same_state, assert_same_arrays
):
    samples = sparse_images(48, SHAPE, CLASSES)
    (oracle, memory, expected), (state, kept, _, found) = both(
        size, step, rules, samples, (0, 12, 48), **options
    )
    assert_same_arrays(np.concatenate(expected), np.concatenate(found), "logits")
    assert_same_state(oracle.state, state)
    assert memory.seen == kept.seen == 48
    for name, array in memory.arrays.items():
        assert_same_arrays(array, kept.arrays[name], name)
        assert array.dtype == kept.arrays[name].dtype


def test_a_resumed_graph_goes_on_with_its_memory(sparse_images, assert_same_state, assert_same_arrays):
    images, labels = sparse_images(40, SHAPE, CLASSES)
    (oracle, memory, _), _ = both(8, 1, ONE, (images, labels), (0, 40))
    state, kept = None, reservoir(8)
    for part in (slice(0, 17), slice(17, 23), slice(23, 40)):
        replay = Replay(kept, 1, shifted)
        with LavaEngine(NETWORK, ONE, SEED, state=state, options=LavaOptions(replay=replay)) as engine:
            engine.train_new(images[part], labels[part], 2)
            state, kept = engine.state, engine.read_memory()
    assert_same_state(oracle.state, state)
    assert_same_arrays(memory.images, kept.images, "memory")


def test_random_features_with_a_memory_in_one_graph(sparse_images, assert_same_state, assert_same_arrays):
    """The layers below are frozen, the read-out learns by the delta rule: the cheapest learner of a chip."""
    control = Control(log2_eta=(None, 3))
    (oracle, _, _), (state, _, activity, _) = both(
        10, 1, ONE, sparse_images(40, SHAPE, CLASSES), (0, 40), control
    )
    assert_same_state(oracle.state, state)
    assert_same_arrays(NumpyEngine(NETWORK, ONE, SEED).state.S[0], state.S[0], "frozen features")
    counted = oracle.activity()
    assert counted.samples == activity.samples
    assert_same_arrays(counted.counts, activity.counts, "activity")
    changed = activity.a_sample("updates")
    assert changed[0] == 0 < changed[1]


def test_what_a_memory_in_the_graph_refuses(sparse_images):
    images, labels = sparse_images(12, SHAPE, CLASSES)
    rules = Rules(batch=8, shift="held")
    with LavaEngine(NETWORK, rules, options=LavaOptions(replay=Replay(reservoir(3), 4, shifted))) as engine:
        with pytest.raises(SettingError, match="want train_new"):
            engine.train(images[:8], labels[:8], 0)
        with pytest.raises(SettingError, match="6 new samples, 6 labels: want a multiple of 4"):
            engine.train_new(images[:6], labels[:6], 0)
        assert engine.read_memory().seen == 0
    with LavaEngine(NETWORK, rules) as engine:
        with pytest.raises(SettingError, match="train_new without a memory"):
            engine.train_new(images[:8], labels[:8], 0)
        with pytest.raises(SettingError, match="this graph has none"):
            engine.read_memory()
    other = Reservoir.empty(3, (4,), CLASSES, SEED)
    with pytest.raises(SettingError, match=r"a memory of images \(4,\): want \(6, 5, 1\)"):
        LavaEngine(NETWORK, rules, options=LavaOptions(replay=Replay(other, 4, shifted)))
    with pytest.raises(SettingError, match="step=0: want 1 or more"):
        LavaEngine(NETWORK, rules, options=LavaOptions(replay=Replay(reservoir(3), 0, shifted)))
    logits = Reservoir.empty(3, SHAPE, CLASSES, SEED, form=MemoryForm(with_logits=True))
    for refused in (Rules(batch=16, shift="held"), Rules(batch=8, shift="held", pipelined=True)):
        with pytest.raises(
            SettingError, match="with a memory that keeps logits: want 1 or 8 and not pipelined"
        ):
            LavaEngine(NETWORK, refused, options=LavaOptions(replay=Replay(logits, 4, shifted)))


@pytest.mark.parametrize(
    ("step", "rules", "recalled", "form", "options"),
    [
        (1, ONE, 1, {}, {}),
        (1, ONE, 1, {}, {"model": "structural", "strict": True}),
        (4, Rules(batch=8, shift="held"), 1, {}, {}),
        (4, Rules(batch=8, shift="held"), 1, {}, {"lanes": 2}),
        (2, Rules(batch=8, shift="held"), 3, {"bits": 2, "keep": "balanced"}, {"lanes": 2}),
    ],
    ids=str,
)
def test_a_memory_keeps_logits_too(
    step, rules, recalled, form, options, sparse_images, assert_same_state, assert_same_arrays
):
    images, labels = sparse_images(40, SHAPE, CLASSES)
    memory, replayed = (reservoir(6, with_logits=True, **form) for _ in range(2))
    oracle = NumpyEngine(NETWORK, rules, SEED)
    for first in range(0, 40, step):
        part = slice(first, first + step)
        mixed = memory.interleave(images[part], labels[part], step, recalled)
        former = np.full(((1 + recalled) * step, CLASSES), UNKNOWN)
        former[step:] = memory.former_logits(mixed.recalled)
        seen = shifted(mixed.images, (1 + recalled) * first)
        logits = oracle.train_recalling(seen, mixed.labels, former, 2)
        memory.keep_logits(mixed.kept, logits[:step])
    state = None
    for part in (slice(0, 16), slice(16, 40)):
        replay = Replay(replayed, step, shifted, recalled)
        with LavaEngine(
            NETWORK, rules, SEED, state=state, options=LavaOptions(replay=replay, **options)
        ) as engine:
            engine.train_new(images[part][:8], labels[part][:8], 2)
            engine.predict(images[:9])  # leaves no logits behind
            engine.train_new(images[part][8:], labels[part][8:], 2)
            state, replayed = engine.state, engine.read_memory()
    assert_same_state(oracle.state, state)
    for name, array in memory.arrays.items():
        assert_same_arrays(array, replayed.arrays[name], name)
    assert (replayed.former_logits(np.arange(6)) != UNKNOWN).any()


# --- the widest error --------------------------------------------------------------------------------

WIDEST = Network((Dense(2),), (4,))
WHITE = np.full((6, 4), 255, np.uint8)


def widest_state() -> State:
    """Every sum of a white image is at its bound, 508; the logits kept are at the other end of theirs."""
    return State.of((np.full((4, 2), 64, np.int8),), seed=0)


def opposite_memory() -> Replay:
    logits = np.full((1, 2), -508, np.int32)
    kept = Reservoir(WHITE[:1].copy(), np.zeros(1, np.uint8), 0, logits, seen=50)
    return Replay(kept, 1, lambda images, first: images)


@pytest.mark.parametrize("loss", ["sse", "one-sided"])
def test_the_structural_model_holds_the_widest_error_of_a_memory(loss, assert_same_state, assert_same_arrays):
    """Z - target and Z - former, each Z at its bound: three times as far as without a memory."""
    rules = Rules(batch=1, shift="held", update="ternary", loss=loss)
    labels, ends = np.zeros(6, np.int64), []
    for options in ({}, {"model": "structural", "strict": True}):
        with LavaEngine(
            WIDEST, rules, state=widest_state(), options=LavaOptions(replay=opposite_memory(), **options)
        ) as engine:
            assert engine.unproven == []
            logits = engine.train_new(WHITE, labels, 0)
            ends.append((logits, engine.state, engine.read_memory()))
    (one, state, memory), (other, found, kept) = ends
    assert one.max() == 508
    assert state.error_held[0].exponent == log2_round(3 * 508)  # 11; 10 is all that one Z reaches
    assert_same_arrays(one, other, "logits")
    assert_same_state(state, found)
    assert_same_arrays(memory.logits, kept.logits, "logits kept")


def test_a_width_that_such_a_memory_may_exceed_is_told():
    network = Network((Dense(2),), (4,), "2-8-8-3")
    rules, narrow = (
        Rules(batch=1, shift="held", hold=9, update="ternary"),
        Widths(state=11),
    )  # 508 + 256 fits, 3 * 508 + 256 not
    for replay, lines in ((None, []), (opposite_memory(), ["neurons: e_in", "error exponent: x_in"])):
        with LavaEngine(
            network, rules, options=LavaOptions(model="structural", widths=narrow, replay=replay)
        ) as engine:
            assert [line for part in lines for line in engine.unproven if part in line] == engine.unproven
            assert len(engine.unproven) == len(lines)
            assert all("may reach 1780, past its 11 bits" in line for line in engine.unproven)


def test_a_memory_whose_error_would_not_fit_a_message():
    """30 bits of Z and a target fit 32; three Z do not."""
    network = Network((Dense(3),), (900,), "8-14-12-12")
    logits = Reservoir.empty(3, (900,), 3, SEED, form=MemoryForm(with_logits=True))
    rules = Rules(batch=2, shift="held")
    with LavaEngine(
        network, rules, options=LavaOptions(replay=Replay(Reservoir.empty(3, (900,), 3, SEED), 1, shifted))
    ):
        pass
    bound = network.layers[0].z_bound
    with pytest.raises(EngineError, match=f"a sum may reach {3 * bound + network.layers[0].target}, past"):
        LavaEngine(network, rules, options=LavaOptions(replay=Replay(logits, 1, shifted)))
