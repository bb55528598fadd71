"""Digits: the 1,797 images of 8x8 that scikit-learn carries (UCI, Handwritten Digits, 1998)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from experiments.datasets.base import Dataset, every_fifth
from wage_neuro.errors import DataError

WHAT = "1,437 + 360 images of 8x8x1, 10 classes"
LICENCE = "CC BY 4.0 (E. Alpaydin, C. Kaynak); carried by scikit-learn (BSD-3-Clause)"
URL = "https://archive.ics.uci.edu/dataset/80"


def package() -> Path | None:
    """The folder of scikit-learn, if it is installed."""
    spec = find_spec("sklearn")
    return Path(spec.origin).parent if spec and spec.origin else None


def read() -> Dataset:
    """Read digits from scikit-learn's files; to import it takes longer than to train on them.

    The 17 grey levels v become (v * 255 + 8) // 16: 0 stays 0 and 16 becomes 255. The split is `every_fifth`.

    Raises
    ------
    DataError
        If scikit-learn is not installed.

    >>> read().train_images.shape
    (1437, 8, 8, 1)
    """
    if (folder := package()) is None:
        raise DataError("digits: scikit-learn is not installed: pip install scikit-learn")
    table = np.loadtxt(folder / "datasets/data/digits.csv.gz", np.int64, delimiter=",")
    grey, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1]
    images = ((grey * 255 + 8) // 16).astype(np.uint8)[..., np.newaxis]
    train, test = every_fifth(labels)
    return Dataset(
        "digits", images[train], labels[train], images[test], labels[test], classes=10, signed=False,
        source="scikit-learn",
    )  # fmt: skip
