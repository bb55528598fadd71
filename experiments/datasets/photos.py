"""Photographs in files, decoded when they are asked for; and ImageNet, a folder of them a class."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from experiments.datasets.base import Dataset
from experiments.datasets.files import reading
from wage_neuro.errors import DataError

IMAGENET_SIDE = 256
SUFFIXES = (".jpeg", ".jpg", ".png")


@dataclass(frozen=True)
class Photos:
    """Images in files, in the place of an array that would not fit in memory.

    photos[indices] decodes (n, height, width, 3) uint8; a slice of the first axis is Photos again.

    Parameters
    ----------
    paths : of the files
    side : every image is resized to side x side, bilinearly, as the paper does it
    window : side of the middle square that is left of each, if less
    """

    paths: Sequence[Path]
    side: int
    window: int | None = None

    dtype, ndim = np.dtype(np.uint8), 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        side = self.window or self.side
        return len(self.paths), side, side, 3

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | slice | np.ndarray) -> Photos | np.ndarray:
        if isinstance(key, slice):
            return Photos(self.paths[key], self.side, self.window)
        if not isinstance(key, np.ndarray):
            return self._decode(self.paths[key])
        paths = [self.paths[i] for i in np.arange(len(self))[key]]
        images = np.empty((len(paths), *self.shape[1:]), np.uint8)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for image, decoded in zip(images, pool.map(self._decode, paths), strict=True):
                image[...] = decoded
        return images

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return cast(np.ndarray, self[np.arange(len(self))])

    def take(self, key: np.ndarray) -> Photos:
        """Some of the images, in the order of an index or mask; none is decoded."""
        return Photos([self.paths[i] for i in np.arange(len(self))[key]], self.side, self.window)

    def middle(self, side: int) -> Photos:
        """The middle square of each image."""
        return Photos(self.paths, self.side, side)

    @property
    def checksum(self) -> bytes:
        """Sha256 over names, folders' names and sizes: the pixels are too many."""
        digest = hashlib.sha256(str(self.shape).encode())
        for path in self.paths:
            digest.update(f"{path.parent.name}/{path.name} {path.stat().st_size}\n".encode())
        return digest.digest()

    def _decode(self, path: Path) -> np.ndarray:
        from PIL import Image

        with reading(path, "image"), Image.open(path) as image:
            small = image.convert("RGB").resize((self.side, self.side), Image.Resampling.BILINEAR)
            first = (self.side - (self.window or self.side)) // 2
            last = first + (self.window or self.side)
            return np.asarray(small)[first:last, first:last]


def read_imagenet(train: Path, test: Path, side: int = IMAGENET_SIDE) -> Dataset:
    """Read folders train/CLASS/*.JPEG and val/CLASS/*.JPEG; the classes are numbered by name.

    The images of a folder lie class by class, so they are lined up by the sha256 of their names: the
    last ones, which may be held out for validation, are of all classes.

    Raises
    ------
    DataError
        If a folder has no classes or no images, or the two have not the same classes.
    """
    names = _classes(train)
    if (others := _classes(test)) != names:
        odd = sorted(set(names) ^ set(others))[0]
        raise DataError(f"{train} and {test}: {len(names)} and {len(others)} classes, {odd} in one only")
    parts = (_part(folder, names, side) for folder in (train, test))
    (images, labels), (test_images, test_labels) = parts
    return Dataset(
        "imagenet", images, labels, test_images, test_labels, len(names), signed=True, names=tuple(names)
    )


def _part(folder: Path, names: Sequence[str], side: int) -> tuple[np.ndarray, np.ndarray]:
    found = [(path, label) for label, name in enumerate(names) for path in _images(folder / name)]
    found.sort(key=lambda pair: hashlib.sha256(pair[0].name.encode()).digest())
    # an array to all who index it, slice it or ask for its shape
    images = cast(np.ndarray, Photos([path for path, _ in found], side))
    return images, np.array([label for _, label in found], np.int64)


def _classes(folder: Path) -> list[str]:
    with reading(folder, "folder of a folder a class"):
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not names:
        raise DataError(f"{folder}: no folders in it: want one for each class")
    return names


def _images(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(f"{folder}: no images in it: want {', '.join(SUFFIXES)}")
    return paths
