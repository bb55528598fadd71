"""SVHN, cropped digits: train_32x32.mat and test_32x32.mat, Matlab files of level 5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.datasets.base import Dataset, check_pair
from experiments.datasets.files import reading
from experiments.datasets.matlab import variables
from wage_neuro.errors import DataError

CLASSES = 10


def read(paths: Sequence[Path]) -> Dataset:
    """Read the training and the test file.

    Raises
    ------
    DataError
        If a file is damaged or of another form.
    """
    train, test = (_pair(path) for path in paths)
    return Dataset("svhn", *train, *test, classes=CLASSES, signed=True)


def _pair(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """X is (32, 32, 3, n); y is (n, 1) and names the digit 0 by 10."""
    with reading(path, "Matlab file of level 5"):
        content = variables(path.read_bytes())
    pixels, digits = content.get("X"), content.get("y")
    if pixels is None or digits is None:
        raise DataError(f"{path}: no X and y in it: want an SVHN file of cropped digits")
    if pixels.shape[:-1] != (32, 32, 3) or digits.shape[1:] != (1,) or digits.dtype.kind not in "iu":
        raise DataError(
            f"{path}: X of shape {pixels.shape}, {digits.dtype} y of shape {digits.shape}: "
            "want (32, 32, 3, n) and (n, 1) integers"
        )
    if digits.size and not 1 <= digits.min() <= digits.max() <= 10:
        raise DataError(f"{path}: labels {digits.min()}..{digits.max()}: want 1..10 (10 is the digit 0)")
    images = np.ascontiguousarray(pixels.transpose(3, 0, 1, 2))
    labels = digits[:, 0].astype(np.int64) % 10
    check_pair(str(path), images, labels, CLASSES)
    return images, labels
