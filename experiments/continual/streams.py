"""Streams of tasks: split, permuted and rotated images, one data set after another.

A stream says which sample comes at each place, as a function of its seed and the place alone: it holds no
position, so a resumed run meets the same stream.

Source: the scenarios of van de Ven and Tolias, arXiv:1904.07734.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from experiments import datasets
from experiments.datasets import Dataset, files, folders
from wage_neuro.errors import SettingError
from wage_neuro.random_bits import STREAM, check_seed, words

SCENARIOS = ("task", "domain", "class")
PERMUTED_TASKS = ROTATED_TASKS = 10
CLASSES_A_TASK = 2
CLASSES_NAMED = 10  # in a task's name, one by one
HALF_TURN = 180  # degrees that the tasks of a rotated stream share


@dataclass(frozen=True, eq=False)
class Task:
    """Some classes of a data set, seen in one way.

    Attributes
    ----------
    name : what a picture calls it
    classes : labels of the data set that belong to the task
    outputs : the network's output for each of these classes
    pixels : (height * width * channels,) place of the image that each input sees, -1 sees black; None sees
        the image as it is
    train, test : indices of the data set's images
    """

    name: str
    data: Dataset
    classes: tuple[int, ...]
    outputs: tuple[int, ...]
    pixels: np.ndarray | None
    train: np.ndarray
    test: np.ndarray

    @cached_property
    def _output_of(self) -> np.ndarray:
        table = np.full(self.data.classes, -1, np.int64)
        table[list(self.classes)] = self.outputs
        return table

    def training_samples(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, height, width, channels) uint8 images and (n,) outputs of places in `train`."""
        return self.training_images(places), self.training_labels(places)

    def training_images(self, places: np.ndarray) -> np.ndarray:
        """The images alone."""
        return self._see(self.data.train_images[self.train[places]])

    def training_labels(self, places: np.ndarray) -> np.ndarray:
        """The outputs alone."""
        return self._output_of[self.data.train_labels[self.train[places]]]

    def test_samples(self, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the images and outputs that the task is tested on, or the first `most` of them."""
        index = self.test[:most]
        return self._see(self.data.test_images[index]), self._output_of[self.data.test_labels[index]]

    def fewer(self, train: int | None, test: int | None) -> Task:
        """Keep so many images, evenly spaced in the order of the data; None keeps all.

        Raises
        ------
        SettingError
            If a number is below 1 or above what there is.
        """
        return replace(
            self, train=self._spaced("task", self.train, train), test=self._spaced("test", self.test, test)
        )

    def few(self, shots: int, seed: int) -> Task:
        """Keep so many training images of each class, drawn by the seed; fewer are the first of more.

        Raises
        ------
        SettingError
            If a number is below 1 or above what a class has.
        """
        labels = self.data.train_labels[self.train]
        order = np.argsort(words((seed, STREAM, 0, 0), 0, len(labels)), kind="stable")
        least = min(int((labels == label).sum()) for label in self.classes)
        if not 1 <= shots <= least:
            raise SettingError(f"shots={shots}: want 1..{least}, a class of task {self.name} has no more")
        drawn = [order[labels[order] == label][:shots] for label in self.classes]
        return replace(self, train=self.train[np.sort(np.concatenate(drawn))])

    def _spaced(self, part: str, index: np.ndarray, number: int | None) -> np.ndarray:
        if number is None:
            return index
        if not 1 <= number <= len(index):
            raise SettingError(f"{part}_images={number}: want 1..{len(index)}, task {self.name} has no more")
        return index[np.arange(number) * len(index) // number]

    def _see(self, images: np.ndarray) -> np.ndarray:
        if self.pixels is None:
            return images
        seen = np.take(images.reshape(len(images), -1), self.pixels, axis=1)  # of -1 the last pixel
        seen[:, self.pixels < 0] = 0
        return seen.reshape(images.shape)


@dataclass(frozen=True, eq=False)
class Stream:
    """Training samples of tasks that follow each other, each task in whole steps.

    Parameters
    ----------
    tasks : Task, one or more
    scenario : 'task', 'domain' or 'class'
        task: outputs of its own for each task, and at test it is known which task an image is from. class:
        the same outputs, and it is not known. domain: all tasks share their outputs.
    seed : int
        Names the order of the samples.
    passes : int
        Times that each task is gone through before the next one comes.
    step : int
        Samples that are learned together; the rest of a pass is left out.
    mixed : bool
        All tasks at once, shuffled: the joint training that continual learning is measured against.
    """

    tasks: tuple[Task, ...]
    scenario: str
    seed: int = 0
    passes: int = 1
    step: int = 1
    mixed: bool = False

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name in ("passes", "step"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name}={getattr(self, name)}: want 1 or more")
        for name, size in self._parts:
            if self.step > size:
                raise SettingError(f"step={self.step}: want 1..{size}, {name} has no more images")

    @cached_property
    def _parts(self) -> list[tuple[str, int]]:
        """Name and training images of what is shuffled together: each task, or all."""
        sizes = [(f"task {task.name}", len(task.train)) for task in self.tasks]
        return [("the stream", sum(size for _, size in sizes))] if self.mixed else sizes

    @cached_property
    def outputs(self) -> int:
        """Outputs that a network for this stream has."""
        return 1 + max(output for task in self.tasks for output in task.outputs)

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Place after the last sample of each task; of a mixed stream, of the whole."""
        return tuple(accumulate(self.passes * (n // self.step * self.step) for _, n in self._parts))

    def __len__(self) -> int:
        return self.ends[-1]

    def _places(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Task, and place within the task, of the samples from place `first` of the stream on."""
        none = np.empty(0, np.int64)
        tasks, places, last = [none], [none], min(first + count, len(self))
        while first < last:
            part = bisect_right(self.ends, first)
            whole = self._parts[part][1] // self.step * self.step
            a_pass, begin = divmod(first - (0, *self.ends)[part], whole)
            chosen = self._order(part, a_pass)[begin : min(whole, begin + last - first)]
            task = (
                np.searchsorted(self._starts, chosen, "right") - 1
                if self.mixed
                else np.full(len(chosen), part)
            )
            tasks.append(task)
            places.append(chosen - self._starts[task] if self.mixed else chosen)
            first += len(chosen)
        return np.concatenate(tasks), np.concatenate(places)

    def _order(self, part: int, a_pass: int) -> np.ndarray:
        """Order in which a pass goes through a task, or through all tasks of a mixed stream."""
        if self._held.get("pass") != (part, a_pass):
            size, name = self._parts[part][1], len(self.tasks) if self.mixed else part
            order = np.argsort(words((self.seed, STREAM, name, a_pass), 0, size), kind="stable")
            self._held.update({"pass": (part, a_pass), "order": order})
        found: np.ndarray = self._held["order"]
        return found

    @cached_property
    def _held(self) -> dict[str, Any]:
        """The last order that was asked for."""
        return {}

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *(len(task.train) for task in self.tasks)])[:-1]

    def samples(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (count, ...) uint8 images and (count,) outputs from place `first` of the stream on."""
        task, place = self._places(first, count)
        images = np.empty((len(task), *self.tasks[0].data.train_images.shape[1:]), np.uint8)
        for i in np.unique(task):
            mine = task == i
            images[mine] = self.tasks[i].training_images(place[mine])
        return images, self._labels(task, place)

    def labels(self, first: int, count: int) -> np.ndarray:
        """Return the (count,) outputs alone."""
        return self._labels(*self._places(first, count))

    def _labels(self, task: np.ndarray, place: np.ndarray) -> np.ndarray:
        labels = np.empty(len(task), np.int64)
        for i in np.unique(task):
            mine = task == i
            labels[mine] = self.tasks[i].training_labels(place[mine])
        return labels

    def answers(self, task: Task, logits: np.ndarray) -> np.ndarray:
        """Return the (n,) outputs that logits stand for: of the task's own if the scenario tells the task."""
        if self.scenario != "task":
            return logits.argmax(axis=1)
        return np.array(task.outputs)[logits[:, task.outputs].argmax(axis=1)]


# --- the streams by name -----------------------------------------------------------------------------


def tasks_of(
    name: str,
    scenario: str = "class",
    tasks: int | None = None,
    seed: int = 0,
    validation: int = 0,
    data_dir: Path | None = None,
    base: int = 0,
) -> tuple[Task, ...]:
    """Build the tasks of a stream.

    Parameters
    ----------
    name : 'split-DATA', 'permuted-DATA', 'rotated-DATA', 'DATA-to-DATA' or 'sessions-FOLDER'
        DATA as `experiments.datasets.load` takes it, an .npz file too; FOLDER as
        `experiments.datasets.folders.read_sessions` takes it, or core50.
    tasks : int, optional
        split: the classes are cut into as many tasks, in pairs if not given; permuted, rotated: 10.
    seed : int
        Names the permutations: task 0 sees the image as it is, task t the order
        numpy.random.default_rng(7919 * (seed + 1) + t).permutation(pixels).
    validation : int
        Training images that stand in for the test images.
    base : int
        split: classes of the first task, before the others are shared among the other tasks; 0: none before.

    Raises
    ------
    SettingError
        If there is no such stream, or not enough classes for the tasks.
    DataError
        If the data cannot be read.
    """
    if scenario not in SCENARIOS:
        raise SettingError(f"scenario {scenario!r}: want {', '.join(SCENARIOS[:-1])} or {SCENARIOS[-1]}")
    if tasks is not None and tasks < 1:
        raise SettingError(f"tasks={tasks}: want 1 or more")
    kind, names = _read_name(name)
    if base and kind != "split":
        raise SettingError(f"base={base} with {name!r}: want a stream that is split by class")
    if kind == "sessions":
        data = list(folders.read_sessions(_folder(names[0], data_dir)))
        if scenario == "class":
            raise SettingError(f"scenario 'class' with {name!r}: each session has all classes, want domain")
    else:
        data = [datasets.load(n, data_dir) for n in names]
    data = [d.split(validation) for d in data] if validation else data
    if kind == "split":
        return _split(data[0], scenario, tasks, base)
    if kind in ("to", "sessions"):
        return _one_after_another(data, scenario, tasks)
    views = (_permutations if kind == "permuted" else _rotations)(data[0], tasks, seed)
    first = _task("", data[0], range(data[0].classes), 0, scenario)
    outputs = (
        np.array(first.outputs)
        + (0 if scenario == "domain" else len(first.outputs)) * np.arange(len(views))[:, None]
    )
    return tuple(
        replace(first, name=f"{kind} {label}", outputs=tuple(mine), pixels=pixels)
        for (label, pixels), mine in zip(views, outputs.tolist(), strict=True)
    )


def _read_name(name: str) -> tuple[str, tuple[str, ...]]:
    single = re.fullmatch(r"(split|permuted|rotated|sessions)-(.+)", name)
    if single:
        return single[1], (single[2],)
    pair = re.fullmatch(r"(.+)-to-(.+)", name)
    if pair:
        return "to", (pair[1], pair[2])
    raise SettingError(
        f"stream {name!r}: want split-DATA, permuted-DATA, rotated-DATA, DATA-to-DATA or sessions-FOLDER,"
        " such as split-mnist"
    )


def _folder(name: str, data_dir: Path | None) -> Path:
    """The folder of sessions, or where CORe50 is."""
    path = Path(name)
    return path if path.is_dir() or name != "core50" else files.get(name, data_dir)[0]


def _task(
    name: str,
    data: Dataset,
    classes: Sequence[int],
    index: int,
    scenario: str,
    pixels: np.ndarray | None = None,
    first_output: int | None = None,
) -> Task:
    if first_output is None:
        first_output = index * len(classes)
    first = 0 if scenario == "domain" else first_output
    train, test = (
        np.flatnonzero(np.isin(labels, classes)) for labels in (data.train_labels, data.test_labels)
    )
    for part, index_of in (("training", train), ("test", test)):
        if not len(index_of):
            raise SettingError(f"task {name}: no {part} images of {data.name} have its classes")
    return Task(name, data, tuple(classes), tuple(range(first, first + len(classes))), pixels, train, test)


def _split(data: Dataset, scenario: str, tasks: int | None, base: int) -> tuple[Task, ...]:
    others = data.classes - base
    if base and others < 1:
        raise SettingError(f"base={base}: {data.name} has {data.classes} classes, want some for later")
    number = max(1, others // CLASSES_A_TASK) if tasks is None else tasks - (base > 0)
    if not 1 <= number <= others:
        raise SettingError(f"tasks={tasks}: {data.name} has {data.classes} classes to share among them")
    groups = [group.tolist() for group in np.array_split(np.arange(base, data.classes), number)]
    groups = [list(range(base)), *groups] if base else groups
    return tuple(
        _task(_called(group), data, group, i, scenario, first_output=group[0])
        for i, group in enumerate(groups)
    )


def _called(group: list[int]) -> str:
    """Name of a task of classes.

    >>> _called([4, 5]), _called(list(range(20)))
    ('4 5', '0-19')
    """
    many = len(group) > CLASSES_NAMED
    return f"{group[0]}-{group[-1]}" if many else " ".join(map(str, group))


def _one_after_another(data: Sequence[Dataset], scenario: str, tasks: int | None) -> tuple[Task, ...]:
    if tasks not in (None, len(data)):
        raise SettingError(f"tasks={tasks}: a stream of {len(data)} data sets or sessions has {len(data)}")
    shapes = [d.train_images.shape[1:] for d in data]
    if shapes[0] != shapes[1]:
        raise SettingError(f"{data[0].name} has images of {shapes[0]}, {data[1].name} of {shapes[1]}")
    return tuple(
        _task(d.name, d, range(d.classes), i, scenario, first_output=i * data[0].classes)
        for i, d in enumerate(data)
    )


def _permutations(data: Dataset, tasks: int | None, seed: int) -> list[tuple[str, np.ndarray | None]]:
    n = int(np.prod(data.train_images.shape[1:]))
    views: list[tuple[str, np.ndarray | None]] = [("0", None)]
    for t in range(1, tasks or PERMUTED_TASKS):
        # the generator of the float baselines, so that both see the same tasks
        views.append((str(t), np.random.default_rng(7919 * (seed + 1) + t).permutation(n)))
    return views


def _rotations(data: Dataset, tasks: int | None, seed: int) -> list[tuple[str, np.ndarray | None]]:
    number = tasks or ROTATED_TASKS
    angles = [HALF_TURN * t / number for t in range(number)]
    return [(f"{angle:g}°", rotation(data.train_images.shape[1:], angle)) for angle in angles]


def rotation(shape: tuple[int, ...], degrees: float) -> np.ndarray:
    """Return for each place of an image the place that a rotation puts there, -1 outside; nearest pixel.

    >>> rotation((2, 2, 1), 90).tolist()
    [1, 3, 0, 2]
    """
    h, w, c = shape
    y, x = np.indices((h, w)) - np.array([(h - 1) / 2, (w - 1) / 2])[:, None, None]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # rounded before rint, so that the last bit of sin and cos cannot decide
    y_from = np.rint(np.round(cos * y + sin * x + (h - 1) / 2, 6)).astype(int)
    x_from = np.rint(np.round(cos * x - sin * y + (w - 1) / 2, 6)).astype(int)
    inside = (y_from >= 0) & (y_from < h) & (x_from >= 0) & (x_from < w)
    place = np.where(inside, y_from * w + x_from, -1)[..., None] * c + np.where(
        inside[..., None], range(c), 0
    )
    return np.maximum(place, -1).reshape(-1)
