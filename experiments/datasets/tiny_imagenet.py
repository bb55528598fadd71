"""Tiny-ImageNet of 20 classes: photographs of 64x64, as JPEGs joined in one .npz file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.datasets.base import Dataset, check_pair
from experiments.datasets.files import reading
from wage_neuro.arrays import ArrayFile
from wage_neuro.errors import DataError

SIDE = 64
FORM = ("names", "train_jpeg", "train_off", "train_y", "val_jpeg", "val_off", "val_y")


def read(path: Path) -> Dataset:
    """Read the file: image i is the JPEG at off[i] .. off[i + 1]; the part for test is Tiny-ImageNet's val.

    The images of the file lie class by class; here the classes take turns, so that the first or last images
    of a part have as many of each.

    Raises
    ------
    DataError
        If the file is missing or damaged, or of another form.
    """
    with reading(path, ".npz file"), ArrayFile.open(path) as file:
        missing = [key for key in FORM if key not in file.forms]
        if missing:
            raise DataError(f"{path}: no {', '.join(missing)} in it: want {', '.join(FORM)}")
        arrays = {key: file.read(key, DataError) for key in FORM}
    names = tuple(str(name) for name in arrays["names"])
    train, test = (_part(path, part, arrays, len(names)) for part in ("train", "val"))
    return Dataset("tiny-imagenet-20", *train, *test, classes=len(names), signed=True, names=names)


def _part(
    path: Path, part: str, arrays: Mapping[str, np.ndarray], classes: int
) -> tuple[np.ndarray, np.ndarray]:
    where, (jpeg, ends, labels) = f"{path} {part}", (arrays[f"{part}_{key}"] for key in ("jpeg", "off", "y"))
    if jpeg.dtype != np.uint8 or ends.dtype.kind not in "iu" or ends.shape != (len(labels) + 1,):
        raise DataError(
            f"{where}: {jpeg.dtype} bytes, {ends.dtype} places of shape {ends.shape}, {len(labels)} labels:"
            " want uint8 bytes, and the place where each image begins and the last one ends"
        )
    ends = ends.astype(np.int64)
    if ends[0] != 0 or ends[-1] != len(jpeg) or (np.diff(ends) < 0).any():
        raise DataError(f"{where}: places {ends[0]}..{ends[-1]}: want 0..{len(jpeg)}, none before the last")
    data, images = jpeg.tobytes(), np.empty((len(labels), SIDE, SIDE, 3), np.uint8)
    for i in range(len(labels)):
        images[i] = _decode(f"{where} image {i}", data[ends[i] : ends[i + 1]])
    check_pair(where, images, labels, classes)
    order = _in_turns(labels)
    return images[order], labels[order].astype(np.int64)


def _decode(where: str, data: bytes) -> np.ndarray:
    """(64, 64, 3) colours of a JPEG; grey ones are the same in all three."""
    from PIL import Image

    with reading(Path(where), "JPEG"), Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        if image.size != (SIDE, SIDE):
            raise DataError(f"{where}: {image.size[0]}x{image.size[1]}: want {SIDE}x{SIDE}")
        return np.asarray(image.convert("RGB"))


def _in_turns(labels: np.ndarray) -> np.ndarray:
    """Places of the first image of every class, of the second, and so on.

    >>> _in_turns(np.array([0, 0, 0, 1, 1])).tolist()
    [0, 3, 1, 4, 2]
    """
    by_class = np.argsort(labels, kind="stable")
    first = np.searchsorted(labels[by_class], labels[by_class])
    turn = np.arange(len(labels)) - first
    return by_class[np.lexsort((labels[by_class], turn))]
