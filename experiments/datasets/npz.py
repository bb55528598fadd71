"""A data set of one's own: an .npz file of uint8 images and integer labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.datasets.base import Dataset, check_pair, every_fifth
from experiments.datasets.files import reading
from wage_neuro.errors import DataError

FORMS = (
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),  # as Keras has them
    ("images", "labels"),
)

CLASSES_MAX = 1 << 16  # a larger label is a mistake, and its output layer would not fit in memory


def read(path: Path) -> Dataset:
    """Read an .npz file; its grey levels are read as 0..1.

    The arrays are train_images, train_labels, test_images, test_labels, or Keras' x_train, y_train, x_test,
    y_test, or images and labels, of which `every_fifth` takes a fifth for test. Images are (n, height, width)
    or (n, height, width, channels) uint8, labels (n,) or (n, 1) integers >= 0; the largest label of both
    parts says how many classes there are. The name is the file's, without .npz.

    Raises
    ------
    DataError
        If the file is missing or damaged, or its arrays are others than these.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    train_images, train_labels, *test = _arrays(path)
    train_images, train_labels = _pair(f"{path} train" if test else str(path), train_images, train_labels)
    if test:
        test_images, test_labels = _pair(f"{path} test", *test)
    else:
        kept, held = every_fifth(train_labels)
        test_images, test_labels = train_images[held], train_labels[held]
        train_images, train_labels = train_images[kept], train_labels[kept]
    classes = 1 + int(max(train_labels.max(initial=0), test_labels.max()))
    if classes > CLASSES_MAX:
        raise DataError(f"{path}: label {classes - 1}: want 0..{CLASSES_MAX - 1}")
    return Dataset(
        path.stem, train_images, train_labels, test_images, test_labels, classes=classes, signed=False
    )


def _arrays(path: Path) -> list[np.ndarray]:
    """The arrays of the first form that the file has whole."""
    # np.load leaves the file open when it opened it itself and then finds it damaged
    with reading(path, ".npz file"), path.open("rb") as raw:
        file = np.load(raw, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise DataError(f"{path}: one array: want an .npz file of images and labels")
        with file:
            for form in FORMS:
                if set(form) <= set(file.files):
                    return [file[key] for key in form]
            found = ", ".join(file.files) or "nothing"
    raise DataError(f"{path}: has {found}: want {' or '.join(', '.join(form) for form in FORMS)}")


def _pair(where: str, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give images their channel, labels their one dimension and int64."""
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    check_pair(where, images, labels, classes=None)
    return images, labels.astype(np.int64)
