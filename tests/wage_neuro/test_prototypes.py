"""Prototypes against plain Python whole numbers; cuts, room, what is counted."""

from __future__ import annotations

import numpy as np
import pytest

from wage_neuro import Dense, Network, Rules, initial_state
from wage_neuro.errors import DataError, SettingError
from wage_neuro.prototypes import _LAYER, NOWHERE, PART, PrototypeEngine, Prototypes
from wage_neuro.random_bits import UPDATE, bits16

D, CLASSES, SEED = 12, 4, 7


def samples(n: int, top: int = 127, noise: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clouds, so that there are errors and right answers."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, CLASSES, n)
    centres = rng.integers(0, top, (CLASSES, D))
    x = np.clip(centres[labels] + rng.integers(-noise, noise, (n, D)), 0, top)
    return x.astype(np.int8), labels


class Plain:
    """The same in plain Python, one sample at a time."""

    def __init__(self, most: int, margin: int) -> None:
        self.most, self.margin, self.rows = most, margin, []  # a row: codes, label, wins, born
        self.errors = self.changed = 0

    def far(self, x: list[int], codes: list[int]) -> int:
        return sum((a - p) ** 2 for a, p in zip(x, codes, strict=True))

    def learn(self, number: int, x: list[int], label: int) -> None:
        far = 10**9
        right = min([self.far(x, row[0]) for row in self.rows if row[1] == label], default=far)
        wrong = min([self.far(x, row[0]) for row in self.rows if row[1] != label], default=far)
        self.errors += right >= wrong
        leads = wrong == far or 8 * (wrong - right) >= self.margin * wrong
        if right < wrong and leads:
            row = next(row for row in self.rows if row[1] == label and self.far(x, row[0]) == right)
            row[2] += 1
            k = row[2].bit_length() - 1
            r = bits16((SEED, UPDATE, _LAYER, number), 0, D).tolist()
            steps = [
                (abs(a - p) * 2**16 // 2**k + bit) // 2**16 for a, p, bit in zip(x, row[0], r, strict=True)
            ]
            codes = [p + (s if a > p else -s) for a, p, s in zip(x, row[0], steps, strict=True)]
        else:
            codes = x
            if len(self.rows) < self.most:
                row = [[0] * D, label, 1, number]
                self.rows.append(row)
            else:
                row = min(self.rows, key=lambda row: (row[2], row[3]))
                row[1:] = label, 1, number
        self.changed += sum(a != b for a, b in zip(codes, row[0], strict=True))
        row[0] = codes


@pytest.mark.parametrize("margin", [0, 1, 3])
@pytest.mark.parametrize("most", [1, 9, 400])
def test_equal_to_plain_python(most, margin):
    x, labels = samples(300)
    plain, found = Plain(most, margin), Prototypes.empty(most, D, np.int8, SEED, margin)
    for number, (row, label) in enumerate(zip(x.tolist(), labels.tolist(), strict=True)):
        plain.learn(number, row, label)
    learned = found.learn(x, labels)
    assert found.codes[: found.count].tolist() == [row[0] for row in plain.rows]
    for place, name in enumerate(("labels", "wins", "born"), start=1):
        assert getattr(found, name)[: found.count].tolist() == [row[place] for row in plain.rows]
    assert (learned.errors, learned.changed, found.seen) == (plain.errors, plain.changed, 300)
    assert 0 < plain.errors < 300
    assert found.count == most or plain.errors <= found.count < 300


def test_it_does_not_matter_how_the_stream_is_cut(assert_same_arrays):
    x, labels = samples(200)
    whole, parts = (Prototypes.empty(20, D, np.int8, SEED) for _ in range(2))
    whole.learn(x, labels)
    for first, last in ((0, 1), (1, 70), (70, 200)):
        parts.learn(x[first:last], labels[first:last])
    for name, array in whole.arrays.items():
        assert_same_arrays(array, parts.arrays[name], name)


def test_the_first_to_go_is_the_oldest_of_the_least_useful():
    x = np.repeat(np.array([[0], [40], [80], [120]], np.int8), D, axis=1)
    prototypes = Prototypes.empty(3, D, np.int8, SEED)
    prototypes.learn(x[[0, 1, 0, 2, 3]], np.array([0, 1, 0, 2, 3]))
    assert prototypes.labels.tolist() == [0, 3, 2]
    prototypes.learn(x[[1]], np.array([1]))
    assert prototypes.labels.tolist() == [0, 3, 1]


def test_a_prototype_moves_by_less_the_more_it_has_won():
    one = Prototypes.empty(1, D, np.int8, SEED)
    low, high = np.zeros((1, D), np.int8), np.full((1, D), 64, np.int8)
    one.learn(low, np.array([0]))
    places = []
    for _ in range(5):
        one.learn(high, np.array([0]))
        places.append(one.codes[0].tolist())
    # steps of 1/2, 1/2, 1/4, 1/4 are whole; the next, of 9/4, is 2 or 3
    assert places[:4] == [[place] * D for place in (32, 48, 52, 55)]
    assert set(places[4]) == {57, 58}


def test_wide_codes_are_exact():
    """Far past the range of float32."""
    x = np.array([[2**15 - 1] * 40, [2**15 - 2] * 40, [0] * 40], np.int16)
    prototypes = Prototypes.empty(3, 40, np.int16, SEED)
    prototypes.learn(x, np.array([0, 1, 2]))
    rows = x.tolist()
    expected = [
        [sum(2 * a * b - b * b for a, b in zip(sample, row, strict=True)) for row in rows] for sample in rows
    ]
    assert prototypes.nearness(x).tolist() == expected


def test_engine_answers_and_counts():
    network = Network((Dense(D), Dense(CLASSES)), (6,))
    state = initial_state(network, SEED)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (90, 6)).astype(np.uint8), rng.integers(0, CLASSES, 90)
    prototypes = Prototypes.empty(50, D, np.int8, SEED)
    with PrototypeEngine(network, Rules(batch=1, shift="held"), state, prototypes) as engine:
        assert (engine.predict(images) == NOWHERE).all()
        assert engine.activity().samples == 0  # nobody watches
        engine.watch(1)
        answers = engine.train(images, labels, 3)
        assert (answers[:PART] == NOWHERE).all()
        assert (answers[PART:] > NOWHERE).all()
        activity = engine.activity()
        assert activity.samples == 90
        assert activity.a_sample("updates")[0] == 0 < activity.a_sample("updates")[1]
        assert activity.a_sample("spikes")[0] == activity.a_sample("inputs")[1]
        assert prototypes.count <= 90 * activity.a_sample("errors")[1] <= 90
        assert engine.state.step == 90
        logits = engine.predict(images)
        assert np.array_equal(engine.state.S[0], state.S[0])
        counted = engine.activity()
        x, codes = engine.features(images), prototypes.codes[: prototypes.count]
        met = [(a != 0) & (P != 0) for a in x for P in codes]
        assert 90 * counted.a_sample("synaptic_operations")[1] == pytest.approx(np.sum(met))
        assert 90 * counted.a_sample("synapses_reached")[1] == pytest.approx((x != 0).sum() * len(codes))
        for label in range(CLASSES):
            mine = prototypes.labels[: prototypes.count] == label
            x = engine.features(images)
            assert np.array_equal(logits[:, label], prototypes.nearness(x)[:, mine].max(axis=1))
        with pytest.raises(DataError, match="label 4"):
            engine.train(images[:1], np.array([4]), 0)


def test_room_for_none():
    with pytest.raises(SettingError, match="memory=0: prototypes need room for 1 or more"):
        Prototypes.empty(0, D, np.int8, SEED)
