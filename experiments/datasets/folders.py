"""Data sets of continual learning that are folders of files: Omniglot, CORe50 and OpenLORIS-Object."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from experiments.datasets.base import Dataset
from experiments.datasets.files import reading
from experiments.datasets.photos import Photos
from wage_neuro.errors import DataError

SIDE = 28
DRAWERS = 15
"""Of Omniglot's 20 drawers of each character, those that are learned from; the others test."""
CORE50_SIDE, CORE50_OBJECTS = 32, 50
CORE50_TEST = (3, 7, 10)
"""Sessions of CORe50 that test; the other eight are learned."""
OPENLORIS_SIDE = 50


def read_omniglot(background: Path, evaluation: Path) -> Dataset:
    """Read ALPHABET/CHARACTER/NUMBER_DRAWER.png: a class a character, those of `background` first.

    Strokes are light on black, as other data has them; 105 x 105 points are averaged to 28 x 28.

    Source: Lake, Salakhutdinov and Tenenbaum, Science 350 (2015).

    Raises
    ------
    DataError
        If a folder has no characters, or a file is no image, or of another name.
    """
    train: list[tuple[Path, int]] = []
    test: list[tuple[Path, int]] = []
    names: list[str] = []
    for folder in (background, evaluation):
        with reading(folder, "folder of alphabets"):
            characters = sorted(path for path in folder.glob("*/*") if path.is_dir())
        if not characters:
            raise DataError(f"{folder}: no ALPHABET/CHARACTER folders in it")
        for character in characters:
            for path in sorted(character.glob("*.png")):
                drawer = _number(path, r"\d+_(\d+)", "NUMBER_DRAWER.png")
                (train if drawer <= DRAWERS else test).append((path, len(names)))
            names.append(f"{character.parent.name}/{character.name}")
    (images, labels), (test_images, test_labels) = (_strokes(pairs) for pairs in (train, test))
    return Dataset("omniglot", images, labels, test_images, test_labels, len(names), False, tuple(names))


def _strokes(pairs: Sequence[tuple[Path, int]]) -> tuple[np.ndarray, np.ndarray]:
    if not pairs:
        raise DataError(f"omniglot: no drawings of the first {DRAWERS} drawers, or of the others")
    images = np.stack([_stroke(path) for path, _ in pairs])
    return images, np.array([label for _, label in pairs], np.int64)


def _stroke(path: Path) -> np.ndarray:
    """(28, 28, 1) grey levels of a drawing."""
    from PIL import Image

    with reading(path, "image"), Image.open(path) as image:
        small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
        return 255 - np.asarray(small)[..., np.newaxis]


def read_sessions(folder: Path) -> tuple[Dataset, ...]:
    """Read what was recorded session after session, each as a data set of the same classes.

    A folder as `read_core50` reads it: each session that is learned, tested on the three that test. Or one of
    a factor of OpenLORIS-Object, train/taskT/OBJECT/*.jpg and test/taskT/OBJECT/*.jpg: each task, tested on
    its own; frames are resized to 50 x 50.

    Source: Lomonaco and Maltoni, arXiv:1705.03550; She et al., arXiv:1911.06487.

    Raises
    ------
    DataError
        If it has neither form, or a task has no frames to learn or to test.
    """
    if (folder / "train").is_dir():
        return _openloris(folder)
    whole = read_core50(folder)
    frames: dict[int, list[tuple[Path, int]]] = {}
    for path in cast(Photos, whole.train_images).paths:
        session, thing = _session_and_object(path)
        frames.setdefault(session, []).append((path, thing))
    found = []
    for session, mine in sorted(frames.items()):
        images, labels = _photos(mine)
        found.append(replace(whole, name=f"s{session}", train_images=images, train_labels=labels))
    return tuple(found)


def _openloris(folder: Path) -> tuple[Dataset, ...]:
    with reading(folder, "folder of tasks"):
        tasks = sorted(
            (folder / "train").glob("task*"), key=lambda path: _number(path, r"task(\d+)", "task3")
        )
        objects = sorted({path.name for path in folder.glob("*/task*/*") if path.is_dir()})
    if not tasks:
        raise DataError(f"{folder}: no train/taskT folders in it")
    found = []
    for task in tasks:
        parts = []
        for place in (task, folder / "test" / task.name):
            frames = [(path, objects.index(path.parent.name)) for path in sorted(place.glob("*/*.jpg"))]
            if not frames:
                raise DataError(f"{place}: no OBJECT/*.jpg in it")
            parts.append(_photos(frames, OPENLORIS_SIDE))
        (images, labels), (test_images, test_labels) = parts
        names = tuple(objects)
        found.append(Dataset(task.name, images, labels, test_images, test_labels, len(names), True, names))
    return tuple(found)


def read_core50(folder: Path) -> Dataset:
    """Read sS/oO/C_SS_OO_FRAME.png, session S and object O: 50 classes, sessions 3, 7 and 10 test.

    The frames stay in their files until they are asked for. Source: Lomonaco and Maltoni, arXiv:1705.03550.

    Raises
    ------
    DataError
        If there are no frames, or one is of another name.
    """
    with reading(folder, "folder of sessions"):
        paths = sorted(folder.glob("s*/o*/*.png"))
    frames = [(path, *_session_and_object(path)) for path in paths]
    train = [(path, o) for path, s, o in frames if s not in CORE50_TEST]
    test = [(path, o) for path, s, o in frames if s in CORE50_TEST]
    if not train or not test:
        tested = ", ".join(f"s{s}" for s in CORE50_TEST)
        raise DataError(f"{folder}: want frames sS/oO/*.png of sessions that test, {tested}, and of others")
    (images, labels), (test_images, test_labels) = _photos(train), _photos(test)
    return Dataset("core50", images, labels, test_images, test_labels, CORE50_OBJECTS, signed=True)


def _photos(pairs: Iterable[tuple[Path, int]], side: int = CORE50_SIDE) -> tuple[np.ndarray, np.ndarray]:
    paths, labels = zip(*pairs, strict=True)
    # an array to all who index it, slice it or ask for its shape
    return cast(np.ndarray, Photos(paths, side)), np.array(labels, np.int64)


def _session_and_object(path: Path) -> tuple[int, int]:
    session = _number(path.parents[1], r"s(\d+)", "s3")
    thing = _number(path.parent, r"o(\d+)", "o12")
    if not 1 <= thing <= CORE50_OBJECTS:
        raise DataError(f"{path}: object {thing}: want 1..{CORE50_OBJECTS}")
    return session, thing - 1


def _number(path: Path, pattern: str, want: str) -> int:
    found = re.fullmatch(pattern, path.stem)
    if not found:
        raise DataError(f"{path}: want a name such as {want}")
    return int(found[1])
