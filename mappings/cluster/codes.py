"""Whole numbers as bytes on a wire: no more of them than proven bounds need."""

from __future__ import annotations

import numpy as np

from wage_neuro.kernels import native

_STEPS = np.arange(256)[:, None] >> np.array([0, 2, 4, 6]) & 3
_STEPS = (_STEPS - 1).astype(np.int8).view(np.uint32).reshape(-1)  # four steps of each byte; 3 is never sent


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


def pack_sums(sums: np.ndarray, width: int) -> np.ndarray:
    """As `pack`, of whole numbers in floats too, by the compiled kernels where they are."""
    if sums.dtype not in (np.int32, np.int64):
        sums = sums.astype(np.int64 if width > 4 else np.int32)
    return native.pack(sums, width) if native.is_here() else pack(sums, width)


def add_up(packed: np.ndarray, ranks: int, width: int) -> np.ndarray:
    """(n,) int64 sums of as many numbers of each of some ranks, packed one rank after the other.

    >>> add_up(np.concatenate([pack(np.array(own), 3) for own in ([1, -2], [5, 6])]), 2, 3).tolist()
    [6, 4]
    """
    if native.is_here():
        return native.add_up(packed, ranks, width)
    return unpack(packed, width).reshape(ranks, -1).sum(axis=0, dtype=np.int64)


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
    return _STEPS[packed].view(np.int8)[:n] if bits == 2 else unpack(packed, -(-bits // 8))
