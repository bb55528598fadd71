"""Numeric variables of Matlab files of level 5, read so that no damage can end the process.

scipy's reader takes the type of an element for an index without a look: one flipped bit ends it with a fault.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np

HEADER = 128  # bytes, before the first element; the last two say that it is little-endian
MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Element type: how its numbers are stored."""
CLASSES = {
    6: "f8",
    7: "f4",
    8: "i1",
    9: "u1",
    10: "i2",
    11: "u2",
    12: "i4",
    13: "u4",
    14: "i8",
    15: "u8",
}
"""Class of an array: what its numbers are; they may be stored as smaller ones."""


def variables(content: bytes) -> dict[str, np.ndarray]:
    """Every variable of a file's bytes.

    Raises
    ------
    ValueError, struct.error, zlib.error
        If the file is damaged, big-endian, or holds what is no array of real numbers.
    """
    if content[HEADER - 2 : HEADER] != b"IM":
        raise ValueError("no little-endian header of level 5")
    found: dict[str, np.ndarray] = {}
    for kind, body in _elements(memoryview(content)[HEADER:]):
        if kind == COMPRESSED:
            ((kind, body),) = _elements(memoryview(zlib.decompress(body)))
        if kind != MATRIX:
            raise ValueError(f"an element of type {kind}: want arrays")
        name, array = _array(body)
        if name in found:
            raise ValueError(f"{name} stands in it twice")
        found[name] = array
    return found


def _elements(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and bytes of each element; they are padded to eight bytes, but for compressed ones."""
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from("<II", content, at)
        first, room = at + 8, size if kind == COMPRESSED else size + -size % 8
        if kind >> 16:
            kind, size, first, room = kind & 0xFFFF, kind >> 16, at + 4, 4
        if size > min(room, len(content) - first):
            raise ValueError(f"{size} bytes of an element: {min(room, len(content) - first)} are left")
        yield kind, content[first : first + size]
        at = first + room


def _array(body: memoryview) -> tuple[str, np.ndarray]:
    """Name and values of an array, first index fastest."""
    (_, flags), (_, sizes), (_, name), (kind, data) = _elements(body)
    (said,) = struct.unpack_from("<I", flags)
    shape = np.frombuffer(sizes, "<i4").tolist()
    if said & 0xFF not in CLASSES or kind not in STORED:
        raise ValueError(f"class {said & 0xFF}, stored as {kind}: want real numbers")
    stored = np.dtype(f"<{STORED[kind]}")
    if min(shape, default=-1) < 0 or math.prod(shape) * stored.itemsize != len(data):
        raise ValueError(f"shape {shape} of {len(data)} bytes")
    values = np.frombuffer(data, stored).astype(CLASSES[said & 0xFF], copy=False)
    return bytes(name).decode("ascii"), values.reshape(shape, order="F")
