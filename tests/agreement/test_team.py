"""A team = one process: every stored weight, exponent, logit and count, for any number of members."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.benchmarks.agreement import MODES, NETWORKS
from mappings.cluster.team import Traffic, Wire, WiredTeam, float_bytes
from mappings.engines.compiled import CompiledEngine
from wage_neuro import Dense, Flatten, Network, NumpyEngine, Rules
from wage_neuro.errors import SettingError
from wage_neuro.kernels import native
from wage_neuro.team import cut, weight_parts, whole

TEAMS = ("paper", "paper's range, ternary", "held", "held, ternary", "one-sided, margin", "softmax",
         "sharp softmax, momentum", "held, momentum", "lower upper boundary", "random feedback",
         "direct feedback", "new beside recalled")  # fmt: skip
ENGINES = {"numpy": NumpyEngine, **({"compiled": CompiledEngine} if native.is_here() else {})}


class Room:
    """Where the members of a team of threads meet."""

    def __init__(self, size: int) -> None:
        self.barrier, self.shown = threading.Barrier(size, timeout=60), [None] * size


class ThreadWire(Wire):
    def __init__(self, rank: int, size: int, room: Room) -> None:
        self.rank, self.size, self.room = rank, size, room

    def objects(self, own: Any) -> list[Any]:
        self.room.shown[self.rank] = own
        self.room.barrier.wait()
        found = list(self.room.shown)
        self.room.barrier.wait()
        return found

    def exchange(self, to: Sequence[np.ndarray], sizes: Sequence[int]) -> Any:
        found = [each[self.rank] for each in self.objects([part.copy() for part in to])]
        assert [len(part) for part in found] == list(sizes)
        return found

    def arrived(self, sent: Any) -> np.ndarray:
        return np.concatenate(sent)

    def gather(self, own: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
        found = self.objects(own)
        assert [len(part) for part in found] == list(sizes)
        return np.concatenate(found)

    def most(self, values: np.ndarray) -> np.ndarray:
        return np.max(self.objects(values), axis=0)

    def total(self, values: np.ndarray) -> np.ndarray:
        return np.sum(self.objects(values), axis=0)


class TeamOfThreads:
    """Engines in threads, in the place of one engine."""

    def __init__(self, kind, size, network, rules, state=None) -> None:
        room = Room(size)
        self.teams = [WiredTeam(ThreadWire(rank, size, room)) for rank in range(size)]
        self.supports, self.name = kind.supports, f"{kind.name} on {size} ranks"
        self.rules, self.pool = rules, ThreadPoolExecutor(size)
        self.engines = [
            kind(network, rules, state=state, options=kind.Options(team=team)) for team in self.teams
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pool.shutdown()

    def all(self, work):
        """What every member answers to work(engine, team)."""
        return list(self.pool.map(work, self.engines, self.teams))

    def train(self, images, labels, control):
        return self._train(images, labels, None, control)

    def train_recalling(self, images, labels, former, control):
        return self._train(images, labels, former, control)

    def _train(self, images, labels, former, control):
        batch, n = self.rules.batch, len(images)

        def own(values, team):
            return values.reshape(n // batch, batch, *values.shape[1:])[:, team.rows(batch)].reshape(
                -1, *values.shape[1:]
            )

        def learn(engine, team):
            if former is None:
                return engine.train(own(images, team), own(labels, team), control)
            return engine.train_recalling(own(images, team), own(labels, team), own(former, team), control)

        parts = [p.reshape(n // batch, -1, p.shape[-1]) for p in self.all(learn)]
        return np.concatenate(parts, axis=1).reshape(n, -1)

    def predict(self, images):
        answers = self.all(lambda engine, team: engine.predict(images[team.rows(len(images))]))
        return np.concatenate(answers)

    def watch(self, every):
        for engine in self.engines:
            engine.watch(every)

    def activity(self):
        found = self.all(lambda engine, team: engine.activity())
        assert all(np.array_equal(each.counts, found[0].counts) for each in found)
        return found[0]

    @property
    def state(self):
        states = self.all(lambda engine, team: whole(engine.state, team))
        assert all(other == states[0] for other in states[1:])
        return states[-1]


def team_of(engine: str, size: int):
    def build(network, rules, state=None):
        return TeamOfThreads(ENGINES[engine], size, network, rules, state)

    return build


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mode", TEAMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_three_are_as_one(name, mode, engine, assert_agree):
    assert assert_agree(team_of(engine, 3), NETWORKS[name], MODES[mode], n=32, answers=10) > 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1, 2, 4, 5, 8, 16])
def test_any_number_is_as_one(size, engine, assert_agree):
    """16 members have one sample each; 5 have 4, 3, 3, 3, 3."""
    for mode in ("held, ternary", "paper", "sharp softmax, momentum"):
        assert_agree(team_of(engine, size), NETWORKS["conv, pooling"], MODES[mode], n=32)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bits", ["2222", "2-8-16-16", "4-6-12-10", "2-16-16-16"])
def test_other_widths(bits, engine, assert_agree):
    """Sums of 2 to 7 bytes, weights of 1 and 2."""
    for mode in ("paper", "held, ternary", "softmax"):
        assert_agree(team_of(engine, 2), replace(NETWORKS["dense"], bits=bits), MODES[mode])


@pytest.mark.parametrize("engine", ENGINES)
def test_metaplastic(engine, assert_agree):
    rules = Rules(batch=16, shift="held", update="ternary", metaplasticity=5)
    assert_agree(team_of(engine, 2), NETWORKS["dense"], rules)


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(2, 6),
    batch=st.integers(6, 20),
    units=st.integers(1, 90),
    update=st.sampled_from(["wide", "ternary"]),
    shift=st.sampled_from(["batch", "held"]),
    momentum=st.sampled_from([0, 2]),
    engine=st.sampled_from(sorted(ENGINES)),
)
def test_any_cut(size, batch, units, update, shift, momentum, engine, assert_agree):
    network = Network((Flatten(), Dense(units), Dense(3)), (3, 4, 1))
    rules = Rules(batch=batch, update=update, shift=shift, hold=30, momentum=momentum)
    assert_agree(team_of(engine, size), network, rules, n=3 * batch)


def test_images_without_error_are_learned_from_the_others(assert_agree):
    """One member's rows have all their margin: it still takes part in every step of the others."""
    network, rules = Network((Dense(6), Dense(2)), (4,)), Rules(batch=4, loss="one-sided", margin=1)
    images = np.zeros((8, 4), np.uint8)
    images[2:4] = images[6:] = 255  # the second member's: the first one's outputs are all 0
    labels = np.array([0, 0, 0, 1] * 2)
    for engine in ENGINES.values():
        alone = NumpyEngine(network, rules, seed=5)
        with TeamOfThreads(engine, 2, network, rules, alone.state) as team:
            before = alone.state
            assert np.array_equal(alone.train(images, labels, 6), team.train(images, labels, 6))
            assert all(np.array_equal(a, b) for a, b in zip(alone.state.S, team.state.S, strict=True))
        assert any((a != b).any() for a, b in zip(before.S, alone.state.S, strict=True))


@pytest.mark.parametrize("engine", ENGINES)
def test_momentum_is_lost_where_only_others_have_a_gradient(engine):
    """The first member's weights are those of 16 inputs that are black in the second batch."""
    network, rules = Network((Dense(8), Dense(2)), (32,)), Rules(batch=4, momentum=2)
    assert weight_parts(256, 2)[0] == slice(0, 16 * 8)
    images = np.random.default_rng(0).integers(0, 256, (8, 32)).astype(np.uint8)
    images[4:, :16] = 0
    alone = NumpyEngine(network, rules, seed=5)
    with TeamOfThreads(ENGINES[engine], 2, network, rules, alone.state) as team:
        moved = []
        for part in (slice(0, 4), slice(4, 8)):
            for learner in (alone, team):
                learner.train(images[part], np.array([0, 1, 1, 0]), 3)
            assert alone.state == team.state
            moved.append(alone.state.momentum[0][:16])
    assert 0 < np.abs(moved[1]).sum() < np.abs(moved[0]).sum()


def test_bytes_sent_are_counted():
    """24 x 40 + 40 x 3 weights, 4 samples a member: sums of 17 bits in 3 bytes, maxima of 2 and 2 layers."""
    network, rules = Network((Dense(40), Dense(3)), (24,)), Rules(batch=8, update="ternary")
    images, labels = np.full((8, 24), 90, np.uint8), np.arange(8) % 3
    with TeamOfThreads(NumpyEngine, 2, network, rules) as team:
        team.train(images, labels, 3)
        sent = [member.traffic for member in team.teams]
    parts = [[p.stop - p.start for p in weight_parts(n, 2)] for n in (960, 120)]
    assert parts == [[512, 448], [120, 0]]
    for me, other in ((0, 1), (1, 0)):
        assert sent[me].sums == 3 * sum(part[other] for part in parts)
        assert sent[me].steps == sum(-(-part[me] // 4) for part in parts)
        assert sent[me].maxima == 8 * (1 + 1 + 2)
        assert sent[me].learning < float_bytes(network.n_weights, 2)
        assert sent[me].metrics == 0
    assert Traffic(1, 2, 3, 4).to_json() == {"sums": 1, "steps": 2, "maxima": 3, "metrics": 4}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (Rules(batch=2), "batch=2: 3 ranks share the samples of each update, 2; want as many ranks or fewer"),
        (Rules(batch=8, shift="held", pipelined=True), "batch=8 with pipelined: 3 ranks share the samples of"
         " each update, 1; want as many ranks or fewer"),
        (Rules(batch=8, consolidation=3), "consolidation=3 on 3 ranks: want 0, or one rank"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("engine", ENGINES)
def test_refused(engine, rules, message):
    with pytest.raises(SettingError) as error:
        TeamOfThreads(ENGINES[engine], 3, NETWORKS["dense"], rules)
    assert str(error.value) == message


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_that_are_not_whole(engine):
    with TeamOfThreads(ENGINES[engine], 3, NETWORKS["dense"], Rules(batch=8)) as team:
        last = team.engines[2]
        with pytest.raises(SettingError) as error:
            last.train(np.zeros((3, 30), np.uint8), np.zeros(3, int), 3)
    assert str(error.value) == "3 samples: want a multiple of this rank's rows of the batch of 8, 2"


@given(n=st.integers(0, 3000), parts=st.integers(1, 12))
def test_cuts_hold_all_once(n, parts):
    for cuts in (cut(n, parts), weight_parts(n, parts)):
        assert np.array_equal(np.concatenate([np.arange(n)[p] for p in cuts]), np.arange(n))
        assert len(cuts) == parts
        assert all(p.start % 128 == 0 or p.start == p.stop == n for p in weight_parts(n, parts))
