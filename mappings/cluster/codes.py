"""Whole numbers as bytes on a wire: no more of them than proven bounds need."""

from __future__ import annotations

import numpy as np

_STEPS = np.arange(256)[:, None] >> np.array([0, 2, 4, 6]) & 3
_STEPS = (_STEPS - 1).astype(np.int8)  # the four steps of each byte; 3 is never sent


def bytes_for(bound: int) -> int:
    """Bytes of a number of magnitude `bound` or less, sign included.

    >>> [bytes_for(b) for b in (127, 128, 2_064_512, 2**31, 2**53)]
    [1, 2, 3, 5, 7]
    """
    return -(-(bound.bit_length() + 1) // 8)


def pack(values: np.ndarray, width: int) -> np.ndarray:
    """(n * width,) uint8 of (n,) integers, each in `width` bytes, two's complement, the lowest byte first.

    >>> pack(np.array([1, -2]), 3).tolist()
    [1, 0, 0, 254, 255, 255]
    """
    size = 1 << max(0, width - 1).bit_length()
    wide = np.ascontiguousarray(values).astype(f"<i{size}", copy=False).view(np.uint8)
    return wide if size == width else np.ascontiguousarray(wide.reshape(-1, size)[:, :width]).reshape(-1)


def unpack(packed: np.ndarray, width: int) -> np.ndarray:
    """(n,) integers of `pack`, in the smallest type that has as many bytes.

    >>> unpack(pack(np.array([1, -2]), 3), 3).tolist()
    [1, -2]
    """
    size = 1 << max(0, width - 1).bit_length()
    if size == width:
        return packed.view(f"<i{size}")
    wide = np.zeros((len(packed) // width, size), np.uint8)
    wide[:, size - width :] = packed.reshape(-1, width)
    numbers = wide.reshape(-1).view(f"<i{size}")
    return np.right_shift(numbers, 8 * (size - width), out=numbers)  # brings the sign along


def packed_bytes(n: int, bits: int) -> int:
    """Bytes of n codes of so many bits: 2, or whole bytes."""
    return -(-n // 4) if bits == 2 else n * -(-bits // 8)


def pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """uint8 of (n,) codes; of 2 bits, -1, 0 or 1, four in a byte, the first in its lowest bits.

    >>> pack_codes(np.array([1, 0, -1, 0, 1]), 2).tolist()
    [70, 2]
    """
    if bits != 2:
        return pack(codes, -(-bits // 8))
    flat = np.zeros(packed_bytes(len(codes), 2) * 4, np.uint8)
    flat[: len(codes)] = codes + 1
    four = flat.reshape(-1, 4)
    return four[:, 0] | four[:, 1] << 2 | four[:, 2] << 4 | four[:, 3] << 6


def unpack_codes(packed: np.ndarray, n: int, bits: int) -> np.ndarray:
    """(n,) codes of `pack_codes`.

    >>> unpack_codes(pack_codes(np.array([1, 0, -1, 0, 1]), 2), 5, 2).tolist()
    [1, 0, -1, 0, 1]
    """
    return _STEPS[packed].reshape(-1)[:n] if bits == 2 else unpack(packed, -(-bits // 8))
