"""Scenarios of other libraries as our streams: Avalanche's benchmarks, Continuum's scenarios.

Both give a data set a task, of items (image, label, ...), which is all that is asked of them here; neither
library is imported. Our learner as Avalanche's strategy: `experiments.continual.avalanche`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from experiments.continual.learner import Learner
from experiments.continual.streams import SCENARIOS, Stream, Task
from experiments.datasets import Dataset
from wage_neuro.errors import DataError, SettingError

COLOURS = 3
NEAR = 1e-3  # of a grey level: floats of a 255th are not whole


class Items(Protocol):
    """What a task gives by its place: an image, its label, and maybe more."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def grey_levels(images: np.ndarray) -> np.ndarray:
    """Images of another library as ours.

    Parameters
    ----------
    images : (n, height, width[, channels])
        uint8 grey levels 0..255, or floats 0..1 that are whole 255ths, as torchvision's ToTensor makes.

    Returns
    -------
    (n, height, width, channels) uint8

    Raises
    ------
    DataError
        If they are something else.

    >>> grey_levels(np.array([[[0.0, 1.0]]]))[..., 0].tolist()
    [[[0, 255]]]
    """
    values = np.asarray(images)
    if values.ndim == 3:
        values = values[..., np.newaxis]
    if values.ndim != 4:
        raise DataError(f"images of shape {values.shape[1:]}: want height, width and maybe channels")
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    levels = 255 * values.astype(np.float64)
    whole = np.rint(levels)
    if not (np.abs(levels - whole) <= NEAR).all() or whole.min() < 0 or whole.max() > 255:
        raise DataError(
            f"images in {values.min():.3g}..{values.max():.3g}: want grey levels 0..255, or 0..1 in 255ths;"
            " leave out what normalizes them, or give `pixels`"
        )
    return np.ascontiguousarray(whole.astype(np.uint8))


Pixels = Callable[[np.ndarray], np.ndarray]
"""From (n, height, width, channels) images of another library to uint8 grey levels."""


def tasks_of(
    train: Sequence[Items],
    test: Sequence[Items],
    scenario: str = "class",
    *,
    name: str = "scenario",
    pixels: Pixels = grey_levels,
    signed: bool | None = None,
) -> tuple[Task, ...]:
    """Build tasks from a data set of items (image, label, ...) a task, for training and for test.

    Parameters
    ----------
    test : of each task, or one of all, from which each task takes its classes
    scenario : 'class' and 'domain' take the labels as outputs, 'task' gives outputs of its own to each task
    signed : whether grey levels are read as -1..1; None: colours are, as in an .npz

    Raises
    ------
    SettingError
        If there is no task, no such scenario, or not a test for each task.
    DataError
        If the images are not grey levels, or a test has a label that its task has not.
    """
    if scenario not in SCENARIOS:
        raise SettingError(f"scenario {scenario!r}: want {', '.join(SCENARIOS[:-1])} or {SCENARIOS[-1]}")
    if not train or len(test) not in (1, len(train)):
        raise SettingError(
            f"{name}: {len(train)} training and {len(test)} test tasks: want as many, or one test of all"
        )
    learned, asked = ([_read(items, pixels) for items in part] for part in (train, test))
    x, y, x_asked, y_asked = (
        np.concatenate(column) for part in (learned, asked) for column in zip(*part, strict=True)
    )
    classes, colours = 1 + max(int(y.max()), int(y_asked.max())), x.shape[-1] == COLOURS
    data = Dataset(name, x, y, x_asked, y_asked, classes, colours if signed is None else signed)
    places, tests = _places(learned), _places(asked)
    tasks, outputs = [], 0
    for i, place in enumerate(places):
        mine = np.unique(y[place]).tolist()
        own = range(outputs, outputs + len(mine)) if scenario == "task" else mine
        if len(tests) == len(places):
            mine_asked = tests[i]
            if len(strange := np.setdiff1d(y_asked[mine_asked], mine)):
                raise DataError(
                    f"{name}: task {i}: test label {strange[0]}: no training image of it has that"
                )
        else:
            mine_asked = np.flatnonzero(np.isin(y_asked, mine))
        tasks.append(Task(str(i), data, tuple(mine), tuple(own), None, place, mine_asked))
        outputs += len(mine)
    return tuple(tasks)


def _read(items: Items, pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
    found = [items[i] for i in range(len(items))]
    if not found:
        raise DataError("a task without images")
    images = np.stack([channels_last(item[0]) for item in found])
    return pixels(images), np.array([int(item[1]) for item in found], np.int64)


def channels_last(image: Any) -> np.ndarray:
    """A picture or array as an array; a tensor of torch, (..., channels, height, width), with axes turned."""
    if not hasattr(image, "numpy"):
        return np.asarray(image)
    return np.moveaxis(image.numpy(), -3, -1) if image.ndim > 2 else image.numpy()


def _places(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    ends = np.cumsum([0, *(len(labels) for _, labels in parts)])
    return [np.arange(begin, end) for begin, end in pairwise(ends)]


def tasks_of_avalanche(benchmark: Any, scenario: str = "class", **options: Any) -> tuple[Task, ...]:
    """Tasks of an Avalanche benchmark: the experiences of its `train_stream` and `test_stream`.

    Images are taken as its transformations for training and for evaluation leave them, once. `options` are
    those of `tasks_of`.
    """
    train = [experience.dataset.train() for experience in benchmark.train_stream]
    test = [experience.dataset.eval() for experience in benchmark.test_stream]
    return tasks_of(train, test, scenario, **options)


def tasks_of_continuum(train: Any, test: Any, scenario: str = "class", **options: Any) -> tuple[Task, ...]:
    """Tasks of two Continuum scenarios, one of the training data, one of the test data.

    `options` are those of `tasks_of`.
    """
    return tasks_of(list(train), list(test), scenario, **options)


def learn_stream(learner: Learner, stream: Stream, boundaries: bool = False) -> np.ndarray:
    """Let a learner learn a stream; its step size stays that with which `settings.eta` begins.

    Returns
    -------
    (T, T) accuracy on task j after task i, for `experiments.continual.metrics`
    """
    rows, place = [], 0
    for end in stream.ends:
        learner.learn(*stream.samples(place, end - place))
        if boundaries:
            learner.end_task()
        place = end
        rows.append([accuracy(learner, stream, task) for task in stream.tasks])
    return np.array(rows)


def accuracy(learner: Learner, stream: Stream, task: Task) -> float:
    """Share of a task's test images that get the right answer."""
    images, labels = task.test_samples()
    return float((stream.answers(task, learner.predict(images)) == labels).mean())
