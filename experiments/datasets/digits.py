"""Digits: the 1,797 images of 8x8 that scikit-learn carries (UCI, Handwritten Digits, 1998)."""

from __future__ import annotations

import numpy as np

from experiments.datasets.base import Dataset, every_fifth
from wage_neuro.errors import DataError

WHAT = "1,437 + 360 images of 8x8x1, 10 classes"
LICENCE = "CC BY 4.0 (E. Alpaydin, C. Kaynak); carried by scikit-learn (BSD-3-Clause)"
URL = "https://archive.ics.uci.edu/dataset/80"


def read() -> Dataset:
    """Read digits from scikit-learn.

    The 17 grey levels v become (v * 255 + 8) // 16: 0 stays 0 and 16 becomes 255. The split is `every_fifth`.

    Raises
    ------
    DataError
        If scikit-learn is not installed.

    >>> read().train_images.shape
    (1437, 8, 8, 1)
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("digits: scikit-learn is not installed: pip install scikit-learn") from error
    bunch = load_digits()
    grey = bunch.images.astype(np.int64)
    images = ((grey * 255 + 8) // 16).astype(np.uint8)[..., np.newaxis]
    labels = bunch.target.astype(np.int64)
    train, test = every_fifth(labels)
    return Dataset(
        "digits", images[train], labels[train], images[test], labels[test], classes=10, signed=False,
        source="scikit-learn",
    )  # fmt: skip
