"""MNIST and Fashion-MNIST: four idx files, gzipped or not."""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.datasets.base import Dataset, check_pair
from experiments.datasets.files import reading
from wage_neuro.errors import DataError

CLASSES = 10


def read(name: str, paths: Sequence[Path]) -> Dataset:
    """Read training images and labels, test images and labels, in this order.

    Raises
    ------
    DataError
        If a file is damaged, or images and labels do not belong together.
    """
    return Dataset(name, *_pair(*paths[:2]), *_pair(*paths[2:]), classes=CLASSES, signed=False)


def _pair(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    images = read_array(images_path, ndim=3)[..., np.newaxis]
    labels = read_array(labels_path, ndim=1).astype(np.int64)
    check_pair(f"{images_path} with {labels_path.name}", images, labels, CLASSES)
    return images, labels


def read_array(path: Path, ndim: int) -> np.ndarray:
    """Array of bytes in an idx file: a read-only view, so the images are in memory once.

    Parameters
    ----------
    ndim : int
        Dimensions the file must have: 3 for images, 1 for labels.

    Raises
    ------
    DataError
        If the file is no idx file of bytes with ndim dimensions, or longer or shorter than its header says.

    Source: the idx form of yann.lecun.com/exdb/mnist: two zero bytes, type 8 (uint8), the number of
    dimensions, each dimension as a big-endian uint32, the bytes.
    """
    with reading(path, "idx file"):
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    magic, wanted = data[:4].hex(), bytes([0, 0, 8, ndim]).hex()
    if magic != wanted:
        raise DataError(f"{path}: first bytes {magic or 'none'}: want {wanted}, idx of {ndim} dimensions")
    header = 4 + 4 * ndim
    if len(data) < header:
        raise DataError(f"{path}: {len(data)} bytes: the header alone has {header}")
    shape = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, header, 4))
    if len(data) - header != math.prod(shape):
        raise DataError(
            f"{path}: {len(data) - header} bytes: want {math.prod(shape)}, as its header says "
            f"{'x'.join(map(str, shape))}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
