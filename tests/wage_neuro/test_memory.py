"""The reservoir: what it keeps, what it recalls, and that neither depends on how the stream is cut."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wage_neuro import layers
from wage_neuro.errors import SettingError
from wage_neuro.memory import MemoryForm, Reservoir, pack, slots_to_keep, slots_to_recall, unpack, with_gaps


def _kept(seed: int, n: int, size: int) -> list[int]:
    """Numbers of the samples that are in memory after n, by algorithm R as it is written."""
    memory = [-1] * size
    for number, slot in enumerate(slots_to_keep(seed, 0, n, size)):
        if slot >= 0:
            memory[slot] = number
    return memory


def test_reservoir_keeps_each_sample_with_the_same_chance():
    n, size, seeds = 50, 10, 2000
    counts = np.bincount(np.concatenate([_kept(seed, n, size) for seed in range(seeds)]), minlength=n)
    expected = seeds * size / n
    deviation = (counts - expected) / np.sqrt(expected * (1 - size / n))
    assert np.abs(deviation).max() < 4.5
    assert 0.5 < deviation.std() < 1.5


@pytest.mark.parametrize("size", [1, 2, 7])
def test_what_is_kept_is_algorithm_r_in_plain_numbers(size):
    """Sample i replaces slot w mod (i + 1) where there is one; the first ones fill the memory in turn."""
    n, words = 400, np.random.Philox(key=np.array([5, 8], np.uint64)).random_raw(400).tolist()
    kept = [i if i < size else word % (i + 1) for i, word in enumerate(words)]
    expected = [slot if slot < size else -1 for slot in kept]
    assert slots_to_keep(5, 0, n, size).tolist() == expected
    assert expected[:size] == list(range(size))
    assert {-1} < set(expected[size:])


def test_what_is_recalled_in_plain_numbers():
    words = np.random.Philox(key=np.array([5, 9], np.uint64)).random_raw(40).tolist()
    filled = [1, 2, 3, *[4] * 37]
    expected = [word % there for word, there in zip(words, filled, strict=True)]
    assert slots_to_recall(5, 0, 40, np.array(filled)).tolist() == expected
    assert set(expected) == {0, 1, 2, 3}


@pytest.mark.parametrize("recalled", [1, 2, 7])
@pytest.mark.parametrize("step", [1, 3])
def test_a_memory_in_plain_numbers(step, recalled):
    """Step by step with lists: the new ones are kept first, and only what is filled is recalled."""
    size, n = 4, 36
    memory = Reservoir.empty(size, (3,), 40, seed=5)
    mixed = memory.interleave(*_samples(n), step, recalled)
    keep, recall = (
        np.random.Philox(key=np.array([5, purpose], np.uint64)).random_raw(recalled * n).tolist()
        for purpose in (8, 9)
    )
    held: list[int] = []
    expected: list[int] = []
    for first in range(0, n, step):
        for i in range(first, first + step):
            slot = i if i < size else keep[i] % (i + 1)
            if slot == len(held) < size:
                held.append(i)
            elif slot < size:
                held[slot] = i
        expected += range(first, first + step)
        expected += [held[recall[i] % len(held)] for i in range(first * recalled, (first + step) * recalled)]
    assert mixed.images[:, 0].tolist() == expected
    assert memory.images[:, 0].tolist() == held
    assert memory.seen == n


def test_recalls_are_uniform_over_what_is_there():
    slots = slots_to_recall(0, 0, 20_000, np.full(20_000, 8))
    counts = np.bincount(slots, minlength=8)
    assert len(counts) == 8
    assert np.abs(counts - 2500).max() < 4.5 * np.sqrt(2500 * 7 / 8)
    filled = np.arange(1, 501)
    assert (slots_to_recall(0, 0, 500, filled) < filled).all()


@pytest.mark.parametrize("first", [0, 1, 6, 4095])
def test_slots_are_a_function_of_the_number_alone(first):
    whole = slots_to_keep(7, 0, 5000, 30)
    assert np.array_equal(whole[first : first + 50], slots_to_keep(7, first, 50, 30))
    filled = np.full(5000, 30)
    assert np.array_equal(
        slots_to_recall(7, 0, 5000, filled)[first : first + 50], slots_to_recall(7, first, 50, filled[:50])
    )


def _samples(n: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.arange(n)
    return np.repeat(numbers.astype(np.uint8)[:, None], 3, axis=1), numbers % 10


@pytest.mark.parametrize("step", [1, 4])
def test_interleave_puts_recalled_samples_behind_new_ones(step):
    memory = Reservoir.empty(5, (3,), 10, seed=1)
    mixed = memory.interleave(*_samples(40), step)
    images, labels = mixed.images, mixed.labels
    new = images.reshape(-1, 2, step, 3)[:, 0].reshape(40, 3)
    assert np.array_equal(new, _samples(40)[0])
    assert np.array_equal(labels, images[:, 0] % 10)
    for i, recalled in enumerate(images.reshape(-1, 2, step, 3)[:, 1, :, 0]):
        assert (recalled < (i + 1) * step).all()  # nothing from the future
        there = {number for number in _kept(1, (i + 1) * step, 5) if number >= 0}
        assert set(recalled.tolist()) <= there


def test_interleave_does_not_depend_on_how_the_stream_is_cut(assert_same_arrays):
    whole, parts = (Reservoir.empty(7, (3,), 10, seed=2) for _ in range(2))
    images, labels = _samples(60)
    expected = whole.interleave(images, labels, 2)
    found = [parts.interleave(images[a:b], labels[a:b], 2) for a, b in ((0, 6), (6, 8), (8, 60))]
    for what in ("images", "labels", "kept", "recalled"):
        pieces = np.concatenate([getattr(part, what) for part in found])
        assert_same_arrays(getattr(expected, what), pieces, what)
    assert_same_arrays(whole.images, parts.images, "memory")
    assert whole.seen == parts.seen == 60


def test_memory_counts_its_bytes():
    assert Reservoir.empty(200, (28, 28, 1), 10, 0).bytes == 200 * 785
    assert Reservoir.empty(200, (28, 28, 1), 1000, 0).bytes == 200 * 786
    assert Reservoir.empty(200, (28, 28, 1), 10, 0, form=MemoryForm(with_logits=True)).bytes == 200 * (
        785 + 40
    )
    for bits, a_image in ((1, 98), (2, 196), (4, 392)):
        assert Reservoir.empty(200, (28, 28, 1), 10, 0, form=MemoryForm(bits=bits)).bytes == 200 * (
            a_image + 1
        )
    assert Reservoir.empty(200, (3, 3, 1), 10, 0, form=MemoryForm(bits=2)).bytes == 200 * (
        3 + 1
    )  # 9 pixels take 3 bytes
    assert (
        Reservoir.empty(200, (28, 28, 1), 10, 0, form=MemoryForm(keep="balanced")).bytes == 200 * 785 + 10 * 9
    )


def test_memory_forgets_the_logits_of_an_image_that_is_replaced():
    memory = Reservoir.empty(2, (3,), 4, seed=0, form=MemoryForm(with_logits=True))
    images, labels = _samples(60)
    both = np.array([0, 1])
    assert (memory.former_logits(both) == layers.UNKNOWN).all()
    for i in range(60):
        kept = memory.interleave(images[i : i + 1], labels[i : i + 1], 1).kept
        if kept[0] >= 0:
            assert (memory.former_logits(kept) == layers.UNKNOWN).all()
        memory.keep_logits(kept, np.full((1, 4), 10 * i))
    assert memory.former_logits(both)[:, 0].tolist() == [10 * int(n) for n in memory.images[:, 0]]


@pytest.mark.parametrize(("bits", "keep"), [(8, "reservoir"), (2, "balanced")])
@pytest.mark.parametrize("recalled", [1, 3])
@pytest.mark.parametrize("lanes", [1, 2, 3, 5, 6])
def test_fill_does_not_depend_on_the_lanes(lanes, recalled, bits, keep, assert_same_arrays):
    step, (images, labels) = 3, _samples(60)
    expected, memory = (
        Reservoir.empty(7, (3,), 10, seed=2, form=MemoryForm(bits=bits, keep=keep)) for _ in range(2)
    )
    mixed = expected.interleave(images, labels, step, recalled)
    order, numbers = with_gaps(images, labels, step, recalled)
    for first in range(0, len(order), lanes):
        part = slice(first, first + lanes)
        memory.fill(order[part], numbers[part], step, first, recalled)
    assert_same_arrays(mixed.images, order, "images")
    assert_same_arrays(mixed.labels, numbers, "labels")
    for name, array in expected.arrays.items():
        assert_same_arrays(array, memory.arrays[name], name)


@pytest.mark.parametrize("keep", ["reservoir", "balanced"])
@pytest.mark.parametrize(("step", "recalled"), [(1, 1), (3, 1), (1, 3)])
def test_logits_of_steps_that_are_learned_at_once(step, recalled, keep, assert_same_arrays):
    """As one step after another: with an oracle whose logits are the image's number."""

    def learned(memory: Reservoir, at_once) -> np.ndarray:
        images, labels = _samples(240)
        found, counts, first = [], [], 0
        while first < 240:
            n = at_once(memory, labels[first:])
            mixed = memory.interleave(images[first : first + n], labels[first : first + n], step, recalled)
            found.append(memory.former_logits(mixed.recalled))
            memory.keep_logits(mixed.kept, np.repeat(images[first : first + n, :1], 10, axis=1))
            counts.append(n)
            first += n
        assert max(counts) <= 60
        return np.concatenate(found), counts

    one, many = (
        Reservoir.empty(20, (3,), 10, 3, form=MemoryForm(with_logits=True, keep=keep)) for _ in range(2)
    )
    expected, _ = learned(one, lambda memory, labels: step)
    found, counts = learned(many, lambda memory, labels: memory.steps_apart(labels[:60], step, recalled))
    assert_same_arrays(expected, found, "former logits")
    assert_same_arrays(one.logits, many.logits, "kept logits")
    assert max(counts) > (2 * step if recalled == 1 else step)
    assert all(n % step == 0 for n in counts)
    assert (found == layers.UNKNOWN).any()
    assert (found >= 0).any()


# --- bits a pixel ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_every_grey_level_is_kept_as_the_nearest(bits):
    grey = np.arange(256, dtype=np.uint8)[:, None]
    found = unpack(pack(grey, bits), bits, (1,))[:, 0].tolist()
    levels = [255 * level // (2**bits - 1) for level in range(2**bits)]
    assert found == [min(levels, key=lambda level: abs(level - x)) for x in range(256)]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("shape", [(1,), (3, 3, 1), (5,), (8,), (2, 2, 3)])
def test_packed_images_come_back(bits, shape, assert_same_arrays):
    top = 2**bits - 1
    images = (np.random.default_rng(0).integers(0, top + 1, (20, *shape)) * (255 // top)).astype(np.uint8)
    packed, pixels = pack(images, bits), math.prod(shape)
    assert packed.shape == (20, math.ceil(pixels * bits / 8))
    assert_same_arrays(images, unpack(packed, bits, shape), "images")
    for row, image in zip(packed.tolist(), images.reshape(20, -1).tolist(), strict=True):
        levels = "".join(f"{x // (255 // top):0{bits}b}" for x in image)
        assert "".join(f"{byte:08b}" for byte in row) == levels.ljust(8 * len(row), "0")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_what_is_recalled_was_kept_in_so_many_bits(bits, assert_same_arrays):
    images, labels = np.random.default_rng(0).integers(0, 256, (90, 5), np.uint8), np.arange(90) % 10
    whole, packed = (Reservoir.empty(7, (5,), 10, 4, form=MemoryForm(bits=b)) for b in (8, bits))
    full, few = (memory.interleave(images, labels, 1, 3) for memory in (whole, packed))
    expected = full.images.reshape(90, 4, 5).copy()
    expected[:, 1:] = unpack(pack(expected[:, 1:].reshape(-1, 5), bits), bits, (5,)).reshape(90, 3, 5)
    assert_same_arrays(expected, few.images.reshape(90, 4, 5), "learned")
    assert_same_arrays(pack(whole.images, bits), packed.images, "held")
    assert_same_arrays(packed.recall(np.arange(7)), unpack(packed.images, bits, (5,)), "as it is recalled")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 3}, "memory_bits=3: want 1, 2, 4 or 8"),
        ({"bits": 16}, "memory_bits=16: want 1, 2, 4 or 8"),
        ({"keep": "best"}, "keep='best': want reservoir or balanced"),
    ],
)
def test_memories_that_are_refused(options, message):
    with pytest.raises(SettingError, match=f"^{message}$"):
        Reservoir.empty(5, (3,), 10, 0, form=MemoryForm(**options))


# --- the same room for every class -------------------------------------------------------------------


def _balanced_by_hand(labels: list[int], size: int, seed: int) -> list[int]:
    """Numbers held at the end, by the algorithm of Chrysakis and Moens as they write it."""
    drawn = np.random.Philox(key=np.array([seed, 8], np.uint64)).random_raw(len(labels)).tolist()
    held: list[int] = []
    offered, full = {}, set()
    for i, label in enumerate(labels):
        offered[label] = offered.get(label, 0) + 1
        if len(held) < size:
            held.append(i)
            continue
        mine = {c: [s for s, j in enumerate(held) if labels[j] == c] for c in {labels[j] for j in held}}
        largest = max(map(len, mine.values()))
        full |= {c for c, slots in mine.items() if len(slots) == largest}
        if label not in full:
            places = sorted(s for slots in mine.values() if len(slots) == largest for s in slots)
            held[places[drawn[i] % len(places)]] = i
        else:
            place = drawn[i] % offered[label]
            if place < len(mine.get(label, [])):
                held[mine[label][place]] = i
    return held


@pytest.mark.parametrize(("size", "step"), [(1, 1), (5, 1), (12, 2), (30, 7)])
def test_a_balanced_memory_by_hand(size, step):
    labels = np.random.default_rng(size).choice(4, 210, p=[0.7, 0.2, 0.07, 0.03])
    images = np.arange(210, dtype=np.uint8)[:, None]
    memory = Reservoir.empty(size, (1,), 4, seed=6, form=MemoryForm(keep="balanced"))
    memory.interleave(images, labels, step)
    assert memory.images[:, 0].tolist() == _balanced_by_hand(labels.tolist(), size, 6)
    assert memory.labels.tolist() == labels[memory.images[:, 0]].tolist()


def test_a_balanced_memory_gives_rare_classes_their_room():
    labels = np.random.default_rng(1).choice(5, 5000, p=[0.8, 0.1, 0.05, 0.04, 0.01])
    room = []
    for keep in ("reservoir", "balanced"):
        memory = Reservoir.empty(100, (1,), 5, seed=0, form=MemoryForm(keep=keep))
        memory.interleave(np.zeros((5000, 1), np.uint8), labels, 1)
        room.append(np.bincount(memory.labels, minlength=5).tolist())
    assert room[0][0] > 70
    assert room[1] == [20] * 5
