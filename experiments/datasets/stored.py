"""Images that stay in their file and are read when they are asked for, as many as are asked for."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import numpy as np

from wage_neuro.arrays import PART, ArrayFile, Form, form_of
from wage_neuro.errors import DataError, WageError
from wage_neuro.room import check_room, in_words

IN_MEMORY = 1 << 26
"""Bytes of images up to which they are read at once."""


class OpenFile:
    """A file that is open as long as something refers to it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor
        weakref.finalize(self, os.close, descriptor)

    @classmethod
    def at(cls, path: Path) -> OpenFile:
        """A file that is there."""
        return cls(path, os.open(path, os.O_RDONLY))

    @classmethod
    def of(cls, parts: Iterable[bytes], size: int, path: Path) -> OpenFile:
        """A file without a name that holds what comes out of `path`, so many bytes.

        Raises
        ------
        DataError
            If the disk has no room for it.
        """
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if size > free:
            raise DataError(
                f"{path}: unpacks to {in_words(size)}; {tempfile.gettempdir()} has {in_words(free)}, want"
                " another folder as $TMPDIR, or arrays that are not compressed"
            )
        with tempfile.TemporaryFile() as file:
            for part in parts:
                file.write(part)
            file.flush()
            return cls(path, os.dup(file.fileno()))


class StoredImages:
    """Images in a file, in the place of an array: (n, height, width, channels) uint8.

    images[i], images[indices] and images[mask] read; a slice of the first axis is StoredImages again.

    Parameters
    ----------
    file : where they are
    start : of the first image in the file, in bytes
    shape : of all images in the file
    index : of the images that these are, in their order; None is all of them
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(
        self, file: OpenFile, start: int, shape: tuple[int, ...], index: np.ndarray | None = None
    ) -> None:
        self._file, self._start, self._shape, self._index = file, start, shape, index

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self._shape[1:])

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self._shape[0] if self._index is None else len(self._index)

    def __getitem__(self, key: int | slice | np.ndarray) -> StoredImages | np.ndarray:
        if isinstance(key, slice):
            return self._with(self._places()[key])
        wanted = np.asarray(key)
        ordinary = wanted.dtype.kind == "i" and wanted.min(initial=0) >= 0
        if self._index is not None or not ordinary or wanted.max(initial=-1) >= len(self):
            wanted = np.asarray(self._places()[key])  # else without the index of all there are: it is large
        images = np.empty((wanted.size, *self._shape[1:]), np.uint8)
        self._read(wanted.reshape(-1), images)
        return images.reshape(*np.shape(wanted), *self._shape[1:])

    def take(self, key: np.ndarray) -> StoredImages:
        """Some of the images, in the order of an index or mask; none is read."""
        return self._with(self._places()[key])

    def _places(self) -> np.ndarray:
        return np.arange(len(self)) if self._index is None else self._index

    def _with(self, index: np.ndarray) -> StoredImages:
        return StoredImages(self._file, self._start, self._shape, index)

    def _read(self, places: np.ndarray, images: np.ndarray) -> None:
        """Read the images at some places of the file: those that follow each other at once."""
        if not len(places):
            return
        size = images[0].size
        flat = images.reshape(-1).data
        cuts = np.flatnonzero(np.diff(places) != 1) + 1
        for first, last in zip((0, *cuts.tolist()), (*cuts.tolist(), len(places)), strict=True):
            part = flat[first * size : last * size]
            at = self._start + int(places[first]) * size
            while len(part):
                got = os.preadv(self._file.descriptor, [part], at)
                if not got:
                    raise DataError(
                        f"{self._file.path}: ends at byte {at}: it was cut short after it was opened"
                    )
                part, at = part[got:], at + got

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return cast(np.ndarray, self[np.arange(len(self))])

    def middle(self, side: int) -> np.ndarray:
        """The middle square of each image, in memory."""
        top, left = ((size - side) // 2 for size in self._shape[1:3])
        whole = np.empty((len(self), side, side, self._shape[3]), np.uint8)
        at = 0
        for part in self.in_parts():
            whole[at : at + len(part)] = part[:, top : top + side, left : left + side]
            at += len(part)
        return whole

    def in_parts(self) -> Iterator[np.ndarray]:
        """All images, so many at once as take little memory."""
        step = max(1, PART // max(1, int(np.prod(self._shape[1:]))))
        for first in range(0, len(self), step):
            yield cast(np.ndarray, self[np.arange(first, min(first + step, len(self)))])


class ArrayFolder:
    """A folder of arrays, a `.npy` each, read as an `.npz` of them is: see `wage_neuro.arrays.ArrayFile`."""

    def __init__(self, path: Path) -> None:
        self.path, self.forms = path, dict[str, Form]()
        for file in sorted(path.glob("*.npy")):
            with file.open("rb") as raw:
                self.forms[file.stem] = form_of(raw, file.stat().st_size)

    def read(self, name: str, problem: type[WageError] = DataError) -> np.ndarray:
        """Read one array; `problem` if there is no room for it."""
        check_room(f"{self.file_of(name)}", self.forms[name].size, problem)
        with self.file_of(name).open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    def parts(self, name: str) -> Iterator[bytes]:
        """The bytes of one array, part by part."""
        with self.file_of(name).open("rb") as file:
            file.seek(self.forms[name].start)
            while part := file.read(PART):
                yield part

    def place(self, name: str) -> int:
        """Where the bytes of an array begin in its file."""
        return self.forms[name].start

    def file_of(self, name: str) -> Path:
        """The file of one array."""
        return self.path / f"{name}.npy"


def images_of(file: ArrayFile | ArrayFolder, name: str) -> np.ndarray:
    """Images of a file, in memory if they are few, else an array to all who index or slice it.

    Raises
    ------
    DataError
        If they are many, and not grey levels or colours.
    """
    form = file.forms[name]
    if form.size <= IN_MEMORY or not hasattr(os, "preadv") or form.order != "C" or len(form.shape) < 3:
        return file.read(name, DataError)
    if form.dtype != np.uint8:
        raise DataError(f"{file.path} {name}: {form.dtype} images: want uint8 0..255")
    shape = form.shape if len(form.shape) > 3 else (*form.shape, 1)
    place = file.place(name)
    if place is None:
        return cast(np.ndarray, StoredImages(OpenFile.of(file.parts(name), form.size, file.path), 0, shape))
    if isinstance(file, ArrayFile):
        for _ in file.parts(name):  # to its checksum
            pass
    return cast(np.ndarray, StoredImages(OpenFile.at(file.file_of(name)), place, shape))
