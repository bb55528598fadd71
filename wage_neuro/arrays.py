"""Arrays in `.npz` files: what each takes is known, and what is damaged refused, before it is read."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from wage_neuro.errors import CheckpointError, WageError
from wage_neuro.room import check_room

DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    AttributeError,
    TypeError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    OverflowError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)  # what numpy, zip and JSON raise on damaged bytes

_ONE_ARRAY = b"\x93NUMPY"
_ENTRY = 30  # bytes of a zip's entry before its name
PART = 1 << 22  # bytes of a file that are read at once


@dataclass(frozen=True)
class Form:
    """Shape and type of an array, and where its bytes begin in the member, or file, that holds it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    order: str
    start: int

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def form_of(file: IO[bytes], size: int) -> Form:
    """Read the head of a file of one array that has `size` bytes.

    Raises
    ------
    ValueError
        If it is none, holds Python objects, or is longer or shorter than its head says.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"array format {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be read")
    if any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"array of shape {shape}")
    form = Form(shape, dtype, "F" if fortran else "C", file.tell())
    if form.start + form.size != size:
        found = size - form.start
        raise ValueError(f"{dtype} array {shape} of {form.size} bytes: the file has {found}")
    return form


class ArrayFile:
    """An open `.npz`: the form of each array, and the arrays one by one.

    Attributes
    ----------
    forms : by name; members that are no arrays are left out
    """

    def __init__(self, path: Path, raw: IO[bytes]) -> None:
        self.path, self._raw = path, raw
        if raw.read(len(_ONE_ARRAY)) == _ONE_ARRAY:
            raise ValueError("one array: want an .npz of several")
        raw.seek(0)
        self._zip = zipfile.ZipFile(raw)
        self.forms: dict[str, Form] = {}
        for entry in self._zip.infolist():
            if entry.filename.endswith(".npy"):
                with self._zip.open(entry) as file:
                    self.forms[entry.filename[:-4]] = form_of(file, entry.file_size)

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[ArrayFile]:
        """Open a file; one of DAMAGE if it is missing or damaged."""
        with path.open("rb") as raw:
            yield cls(path, raw)

    def read(self, name: str, problem: type[WageError] = CheckpointError) -> np.ndarray:
        """Read one array; `problem` if there is no room for it."""
        check_room(f"{self.path}: its array {name}", self.forms[name].size, problem)
        with self._zip.open(f"{name}.npy") as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    def parts(self, name: str) -> Iterator[bytes]:
        """The bytes of one array, part by part; the zip's checksum is compared at the end."""
        with self._zip.open(f"{name}.npy") as file:
            file.read(self.forms[name].start)
            while part := file.read(PART):
                yield part

    def file_of(self, name: str) -> Path:
        """The file that an array is in."""
        return self.path

    def place(self, name: str) -> int | None:
        """Where the bytes of an array begin in the file; None if they are compressed."""
        entry = self._zip.getinfo(f"{name}.npy")
        if entry.compress_type != zipfile.ZIP_STORED:
            return None
        self._raw.seek(entry.header_offset)
        head = self._raw.read(_ENTRY)
        return entry.header_offset + _ENTRY + sum(struct.unpack("<HH", head[26:30])) + self.forms[name].start
