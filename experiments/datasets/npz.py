"""A data set of one's own: an .npz file, or a folder of .npy files, of uint8 images and integer labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.datasets.base import Dataset, check_pair, every_fifth, pick
from experiments.datasets.files import reading
from experiments.datasets.stored import ArrayFolder, images_of
from wage_neuro.arrays import ArrayFile
from wage_neuro.errors import DataError, DoubtWarning

FORMS: tuple[tuple[str, ...], ...] = (
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),  # as Keras has them
    ("images", "labels"),
)
VALIDATION: dict[tuple[str, ...], tuple[str, ...]] = {
    FORMS[0]: ("val_images", "val_labels"),
    FORMS[1]: ("x_val", "y_val"),
}
SIGNED = "signed"

CLASSES_MAX = 1 << 16  # a larger label is a mistake, and its output layer would not fit in memory
FEW_CHANNELS = 4
COLOURS = 3
DARK = 64  # a largest grey level below it is another scale than 0..255


def read(path: Path) -> Dataset:
    """Read an .npz file, or a folder with each of these arrays as NAME.npy.

    The arrays are train_images, train_labels, test_images, test_labels, or Keras' x_train, y_train, x_test,
    y_test, or images and labels, of which `every_fifth` takes a fifth for test. Images are (n, height, width)
    or (n, height, width, channels) uint8, labels (n,) or (n, 1) integers >= 0; the largest label of both
    parts says how many classes there are. The name is the file's, without .npz.

    val_images, val_labels (x_val, y_val) are a part for `Dataset.split`. A bool `signed` says whether grey
    levels are read as -1..1 or as 0..1; without it, images of three colours are.

    Raises
    ------
    DataError
        If the file is missing or damaged, its arrays are others than these, or have their channels first.

    Warns
    -----
    DoubtWarning
        If grey levels or labels are numbered in another way, or there are more channels than colours.
    """
    with _opened(path) as file:
        form = next((form for form in FORMS if set(form) <= file.forms.keys()), None)
        if form is None:
            found = ", ".join(file.forms)[:300] or "nothing"
            raise DataError(f"{path}: has {found}: want {' or '.join(', '.join(form) for form in FORMS)}")
        pairs = [form[:2], form[2:], VALIDATION.get(form, ())]
        pairs = [pair for pair in pairs if pair and set(pair) <= file.forms.keys()]
        where = [str(path)] if len(form) == 2 else [f"{path} {part}" for part in ("train", "test", "val")]
        parts = [_pair(at, file, *pair) for at, pair in zip(where, pairs, strict=False)]
        signed = _signed(path, file, parts[0][0])
    if len(form) == 2:
        images, labels = parts[0]
        parts = [(pick(images, index), labels[index]) for index in every_fifth(labels)]
    (train_images, train_labels), (test_images, test_labels), *val = parts
    classes = 1 + max(int(labels.max(initial=0)) for _, labels in parts)
    if classes > CLASSES_MAX:
        raise DataError(f"{path}: label {classes - 1}: want 0..{CLASSES_MAX - 1}")
    data = Dataset(
        path.stem, train_images, train_labels, test_images, test_labels, classes, signed, source=str(path)
    )
    if val:
        data = replace(data, val_images=val[0][0], val_labels=val[0][1])
    _check_meaning(path, data)
    return data


@contextmanager
def _opened(path: Path) -> Iterator[ArrayFile | ArrayFolder]:
    if not path.exists():
        raise DataError(f"{path}: no such file; want its path, or the folder that it is in now as --data-dir")
    if path.is_dir():
        with reading(path, "folder of .npy files"):
            yield ArrayFolder(path)
        return
    with reading(path, ".npz file"), ArrayFile.open(path) as file:
        yield file


def _pair(
    where: str, file: ArrayFile | ArrayFolder, images_name: str, labels_name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Give images their channel, labels their one dimension and int64."""
    images, labels = images_of(file, images_name), file.read(labels_name, DataError)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    check_pair(where, images, labels, classes=None)
    height, width, channels = images.shape[1:]
    if height <= FEW_CHANNELS < min(width, channels):
        raise DataError(
            f"{where}: images {images.shape[1:]}: channels first? want (height, width, channels), as"
            f" {images_name}.transpose(0, 2, 3, 1) has them"
        )
    return images, labels.astype(np.int64)


def _signed(path: Path, file: ArrayFile | ArrayFolder, images: np.ndarray) -> bool:
    """What the file says of the sign of its input; else what the number of colours does."""
    if SIGNED not in file.forms:
        return images.shape[3] == COLOURS
    form = file.forms[SIGNED]
    if form.shape not in ((), (1,)) or form.dtype != np.bool_:
        raise DataError(f"{path}: {SIGNED} is {form.dtype} of shape {form.shape}: want one bool")
    return bool(file.read(SIGNED, DataError).reshape(()))


# --- what it may mean --------------------------------------------------------------------------------


def _check_meaning(path: Path, data: Dataset) -> None:
    """Warn of what is readable and probably meant otherwise; one class alone is refused."""
    counts = np.bincount(data.train_labels, minlength=data.classes)
    if np.count_nonzero(counts) < 2:
        raise DataError(
            f"{path}: one class only, every training label is {counts.argmax()}: want two or more"
        )
    for line in (
        _channels(data.train_images.shape[3]),
        _levels(_largest(data.train_images)),
        _numbering(data, counts),
        _untrained(data, counts),
    ):
        if line:
            warnings.warn(f"{path}: {line}", DoubtWarning, stacklevel=4)


def _largest(images: Any) -> int:
    parts = [images] if isinstance(images, np.ndarray) else images.in_parts()
    return max(int(part.max()) for part in parts)


def _channels(channels: int) -> str:
    few = channels <= FEW_CHANNELS
    return "" if few else f"images of {channels} channels: a volume? the last axis is read as channels"


def _levels(largest: int) -> str:
    """Of the largest grey level.

    >>> _levels(255), _levels(16)
    ('', 'largest grey level 16 of 255: scale the images to 0..255, such as images * 15')
    """
    if largest >= DARK:
        return ""
    how = (
        f"scale the images to 0..255, such as images * {255 // largest}"
        if largest
        else "all images are black"
    )
    return f"largest grey level {largest} of 255: {how}"


def _numbering(data: Dataset, counts: np.ndarray) -> str:
    used = counts + np.bincount(data.test_labels, minlength=data.classes)
    found = int(np.count_nonzero(used))
    if found == data.classes:
        return ""
    if not used[0] and found == data.classes - 1:
        return (
            f"labels 1..{found}: no image has label 0, and output 0 learns nothing; want 0..{found - 1}, as"
            " labels - 1 has them"
        )
    return (
        f"{found} of the labels 0..{data.classes - 1} occur, and the network gets {data.classes} outputs;"
        f" want 0..{found - 1}, as np.unique(labels, return_inverse=True) numbers them"
    )


def _untrained(data: Dataset, counts: np.ndarray) -> str:
    strange = np.setdiff1d(data.test_labels, np.flatnonzero(counts))
    few = ", ".join(map(str, strange[:5].tolist())) + (", ..." if len(strange) > 5 else "")
    return f"test labels {few}: no training image has them" if len(strange) else ""
