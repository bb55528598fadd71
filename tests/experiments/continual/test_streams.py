"""Streams: which sample comes when, in every scenario, and what is refused."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from experiments import datasets
from experiments.continual.streams import Stream, rotation, tasks_of
from wage_neuro.errors import DataError, SettingError


def _cut(stream: Stream, places: list[int]) -> tuple[np.ndarray, np.ndarray]:
    parts = [stream.samples(a, b - a) for a, b in pairwise(places)]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


# --- order -------------------------------------------------------------------------------------------


def test_every_sample_of_a_task_comes_once_a_pass_and_tasks_in_order():
    data = datasets.load("digits")
    stream = Stream(tasks_of("split-digits"), "class", seed=3, passes=2)
    for task, (begin, end) in zip(stream.tasks, pairwise((0, *stream.ends)), strict=True):
        n = len(task.train)
        assert end - begin == 2 * n
        for first in (begin, begin + n):
            images, labels = stream.samples(first, n)
            assert set(labels) == set(task.classes)
            mine = data.train_images[np.isin(data.train_labels, task.classes)]
            assert sorted(map(bytes, images)) == sorted(map(bytes, mine))
    passes = [
        stream.samples(first, len(stream.tasks[0].train))[0] for first in (0, len(stream.tasks[0].train))
    ]
    assert not np.array_equal(*passes)


def test_a_stream_does_not_depend_on_how_it_is_cut_and_depends_on_its_seed(assert_same_arrays):
    tasks = tasks_of("split-digits")
    stream = Stream(tasks, "class", seed=1)
    whole = stream.samples(0, len(stream))
    for cut in ([0, 7, 400, len(stream)], [0, 1, 2, len(stream) - 1, len(stream)]):
        for one, other in zip(whole, _cut(Stream(tasks, "class", seed=1), cut), strict=True):
            assert_same_arrays(one, other, f"cut at {cut}")
    assert not np.array_equal(whole[0], Stream(tasks, "class", seed=2).samples(0, len(stream))[0])


def test_steps_are_whole_and_the_rest_of_a_task_is_left_out():
    tasks = tasks_of("split-digits")
    stream = Stream(tasks, "class", step=10, passes=3)
    lengths = np.diff((0, *stream.ends))
    assert lengths.tolist() == [3 * (len(task.train) // 10 * 10) for task in tasks]
    for task, begin, length in zip(tasks, (0, *stream.ends), lengths, strict=False):
        assert set(stream.samples(begin, length)[1]) == set(task.classes)


def test_a_mixed_stream_has_the_samples_of_all_tasks_shuffled():
    stream = Stream(tasks_of("split-digits"), "class", mixed=True)
    data = datasets.load("digits")
    images, labels = stream.samples(0, len(stream))
    assert stream.ends == (len(data.train_labels),)
    assert sorted(map(bytes, images)) == sorted(map(bytes, data.train_images))
    assert set(labels[:100]) == set(range(10))


# --- tasks and scenarios -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "outputs", "second"), [("class", 10, (2, 3)), ("task", 10, (2, 3)), ("domain", 2, (0, 1))]
)
def test_split_outputs(scenario, outputs, second):
    stream = Stream(tasks_of("split-digits", scenario), scenario)
    assert (stream.outputs, stream.tasks[1].outputs, stream.tasks[1].classes) == (outputs, second, (2, 3))
    _, labels = stream.tasks[1].test_samples()
    assert set(labels) == set(second)


def test_answers_know_the_task_only_where_the_scenario_says_so():
    logits = np.array([[9, 0, 1, 2, *[0] * 6], [0, 0, 5, 4, *[0] * 6]])
    for scenario, answers in (("task", [3, 2]), ("class", [0, 2])):
        stream = Stream(tasks_of("split-digits", scenario), scenario)
        assert stream.answers(stream.tasks[1], logits).tolist() == answers


def test_permutations_are_those_of_the_float_baselines():
    tasks = tasks_of("permuted-digits", "domain", tasks=3, seed=5)
    data = datasets.load("digits")
    assert tasks[0].pixels is None
    for t in (1, 2):
        order = np.random.default_rng(7919 * 6 + t).permutation(64)
        images, labels = tasks[t].test_samples(4)
        assert np.array_equal(images.reshape(4, 64), data.test_images[:4].reshape(4, 64)[:, order])
        assert labels.tolist() == data.test_labels[:4].tolist()
    assert Stream(tasks, "domain").outputs == 10
    assert Stream(tasks_of("permuted-digits", "class", tasks=3), "class").outputs == 30
    assert len(tasks_of("permuted-digits")) == 10


def test_rotations_turn_the_image():
    image = datasets.load("digits").train_images[:1]
    for degrees, turns in ((90, 1), (180, 2), (270, 3)):
        seen = image.reshape(-1)[rotation((8, 8, 1), degrees)].reshape(8, 8)
        assert np.array_equal(seen, np.rot90(image[0, :, :, 0], turns))
    oblique = rotation((9, 9, 2), 45)
    assert oblique.min() == -1
    assert oblique.max() < 9 * 9 * 2
    assert (oblique[oblique >= 0] % 2 == np.indices((9, 9, 2))[2].reshape(-1)[oblique >= 0]).all()
    names = [task.name for task in tasks_of("rotated-digits", "domain", tasks=4)]
    assert names == ["rotated 0°", "rotated 45°", "rotated 90°", "rotated 135°"]


def test_black_comes_in_where_a_rotation_looks_outside():
    task = tasks_of("rotated-digits", "domain", tasks=4)[1]
    images, _ = task.training_samples(np.arange(50))
    outside = task.pixels == -1
    assert outside.any()
    assert not images.reshape(50, -1)[:, outside].any()
    assert images.any()


def test_one_data_set_after_another_and_an_npz_cut_by_class(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "three.npz"
    labels = np.arange(60) % 3
    np.savez(path, images=rng.integers(0, 256, (60, 8, 8), np.uint8), labels=labels)
    split = tasks_of(f"split-{path}", tasks=3)
    assert [task.classes for task in split] == [(0,), (1,), (2,)]
    both = tasks_of(f"digits-to-{path}")
    assert [task.outputs for task in both] == [tuple(range(10)), (10, 11, 12)]
    stream = Stream(both, "class")
    assert set(stream.samples(stream.ends[0], 40)[1]) == {10, 11, 12}


def test_validation_images_stand_in_for_the_test_images():
    tasks = tasks_of("split-digits", validation=200)
    assert sum(len(task.test) for task in tasks) == 200
    assert sum(len(task.train) for task in tasks) == 1437 - 200


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"name": "mnist"}, "stream 'mnist': want split-DATA, permuted-DATA"),
        ({"name": "split-digits", "scenario": "easy"}, "scenario 'easy': want task, domain or class"),
        ({"name": "split-digits", "tasks": 11}, "tasks=11: digits has 10 classes"),
        ({"name": "split-digits", "tasks": 0}, "tasks=0: want 1 or more"),
        ({"name": "digits-to-digits", "tasks": 3}, "tasks=3: a stream of 2 data sets or sessions has 2"),
    ],
)
def test_bad_streams(words, message):
    with pytest.raises(SettingError, match=message):
        tasks_of(**words)


@pytest.mark.filterwarnings("ignore:.* of the labels 0..3 occur")
def test_data_that_does_not_fit(tmp_path):
    with pytest.raises(DataError, match="want digits"):
        tasks_of("split-nothing")
    path = tmp_path / "holes.npz"
    labels = np.array([0, 0, 3, 3] * 5)
    np.savez(path, images=np.full((20, 8, 8), 255, np.uint8), labels=labels)
    with pytest.raises(SettingError, match=r"task 1: no training images of .* have its classes"):
        tasks_of(f"split-{path}", tasks=4)
    small = tmp_path / "small.npz"
    np.savez(small, images=np.full((20, 4, 4), 255, np.uint8), labels=labels % 2)
    with pytest.raises(SettingError, match=r"digits has images of \(8, 8, 1\), .* of \(4, 4, 1\)"):
        tasks_of(f"digits-to-{small}")


@pytest.mark.parametrize("field", ["passes", "step"])
def test_a_stream_without_samples(field):
    with pytest.raises(SettingError, match=f"{field}=0: want 1 or more"):
        Stream(tasks_of("split-digits"), "class", **{field: 0})


def test_a_stream_of_any_length_takes_no_room(assert_same_arrays):
    """The order of one pass is held at a time, so a place far away is found at once."""
    tasks, passes = tasks_of("split-digits"), 10**12
    whole = Stream(tasks, "class", seed=3, passes=passes, step=7)
    assert whole.ends[0] == passes * (len(tasks[0].train) // 7 * 7)
    first = whole.ends[1] - 10
    images, labels = whole.samples(first, 20)
    assert set(labels[:10]) <= set(tasks[1].outputs)
    assert set(labels[10:]) <= set(tasks[2].outputs)
    assert_same_arrays(labels, whole.labels(first, 20), "labels")
    parts = [whole.samples(first + i, 1)[0] for i in range(20)]
    assert_same_arrays(images, np.concatenate(parts), "images")
    assert len(whole.samples(len(whole), 5)[1]) == 0
