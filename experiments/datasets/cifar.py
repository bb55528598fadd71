"""CIFAR-10: the folder cifar-10-batches-py or an archive of it, read without running what is in it."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from experiments.datasets.base import Dataset, check_pair
from experiments.datasets.files import check_md5, md5_of, reading
from wage_neuro.errors import DataError

CLASSES = 10
ROW = 3 * 32 * 32  # red, green, blue plane of a 32x32 image

# Published md5 of the batches, training in order and the test batch last.
BATCHES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}


def read(path: Path, md5: Mapping[str, str] = BATCHES) -> Dataset:
    """Read the folder of batches, or a tar archive of it (in memory, nothing is unpacked to disk).

    Parameters
    ----------
    md5 : mapping of batch name to its md5
        What has no entry is not checked.

    Raises
    ------
    DataError
        If a batch is missing, damaged, of another form, or asks to run anything.
    """
    parts = {}
    for name, data in _batches(path):
        where = f"{path}/{name}"
        check_md5(where, md5_of(data), md5.get(name))
        with reading(path / name, "CIFAR-10 batch"):
            parts[name] = _decode(where, _Unpickler(data, where).load())
    missing = ", ".join(name for name in BATCHES if name not in parts)
    if missing:
        raise DataError(f"{path}: no {missing}: want cifar-10-batches-py with {', '.join(BATCHES)}")
    test = parts.pop("test_batch")
    train = [parts[name] for name in BATCHES if name in parts]
    return Dataset("cifar-10", *_join(train), *_join([test]), classes=CLASSES, signed=True)


def _batches(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each batch there is, in the order of the archive."""
    if path.is_dir():
        for name in BATCHES:
            if (path / name).is_file():
                with reading(path / name, "CIFAR-10 batch"):
                    data = (path / name).read_bytes()
                yield name, data
        return
    with reading(path, "tar archive"), tarfile.open(path, "r|*") as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            file = archive.extractfile(member) if name in BATCHES else None
            if file is not None:
                yield name, file.read()


class _Dtype:
    """numpy.dtype as the batches call it; numpy 2.4 deprecates the whole numbers they pass for bools.

    It has no attribute that a pickle could change.
    """

    __slots__ = ()

    def __call__(self, code: Any, align: int = 0, copy: int = 0) -> np.dtype:
        return np.dtype(code, bool(align), bool(copy))


class _Unpickler(pickle.Unpickler):
    """Reads the batches' dicts, lists and arrays; refuses every name but the three they need."""

    # numpy's own function by way of an array, as its module moved in numpy 2
    _reconstruct = np.empty(0).__reduce__()[0]
    _allowed: ClassVar[dict[tuple[str, str], object]] = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _Dtype(),
    }

    def __init__(self, data: bytes, where: str) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._where = where

    def find_class(self, module: str, name: str) -> object:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise DataError(f"{self._where}: refuses to execute {module}.{name} from a pickle") from None


def _decode(where: str, batch: object) -> tuple[np.ndarray, np.ndarray]:
    """Rows of colour planes and labels of one batch, as (n, height, width, channels) and (n,)."""
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        raise DataError(f"{where}: no data and labels in it: want a CIFAR-10 batch")
    rows = batch[b"data"]
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != ROW:
        form = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise DataError(f"{where}: data is {form}: want uint8 (n, {ROW})")
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = np.array(batch[b"labels"], np.int64)
    check_pair(where, images, labels, CLASSES)
    return images, labels


def _join(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """One contiguous array of images (the only copy made of them) and one of labels."""
    labels = np.concatenate([labels for _, labels in parts])
    images = np.empty((len(labels), 32, 32, 3), np.uint8)
    return np.concatenate([images for images, _ in parts], out=images), labels
