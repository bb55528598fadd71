"""Ternary weights at two bits each, in a file that a few lines of C can read.

All numbers are little-endian.

    bytes      what
    0..7       89 57 41 47 45 32 0D 0A   (`\\x89WAGE2\\r\\n`: text modes and cut-off bits show)
    8..11      format, 2
    12..15     h, bytes of the header
    16..16+h   header, JSON: format, network, input_shape, bits, signed_input, data, sha256
    ...        the layers' weights, one layer after the other, each from a new byte
    last 4     CRC-32 of all bytes before

Weights count row-major in their shape, (n_in, n_out) or (kernel, kernel, c_in, c_out); n_in of a dense layer
after an image counts (height, width, channels). Weight i is in byte i // 4 of its layer, bits 2 (i % 4) and
the one above: 00 is 0, 01 is 1, 11 is -1 (two's complement); 10 is refused. Unused bits of a layer's last
byte are 0.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mappings.formats.inference import FORMAT, Inference, check_format, reading
from wage_neuro.errors import BitWidthError, CheckpointError
from wage_neuro.files import written_whole
from wage_neuro.network import Network

MAGIC = b"\x89WAGE2\r\n"
_HEAD = struct.Struct("<8sII")
_CRC = struct.Struct("<I")
_SHIFTS = np.array([0, 2, 4, 6], np.uint8)


def pack(V: np.ndarray) -> bytes:
    """Pack ternary weights, four a byte.

    >>> pack(np.array([1, 0, -1, 1, -1], np.int8)).hex()
    '7103'
    """
    flat = V.reshape(-1)
    codes = np.zeros(-(-flat.size // 4) * 4, np.uint8)
    codes[: flat.size] = flat & 3
    return np.bitwise_or.reduce(codes.reshape(-1, 4) << _SHIFTS, axis=1, dtype=np.uint8).tobytes()


def unpack(packed: bytes, count: int) -> np.ndarray:
    """Unpack (count,) int8 weights; the code 10 comes out as -2, which no ternary layer takes.

    >>> unpack(bytes.fromhex("7103"), 5).tolist()
    [1, 0, -1, 1, -1]
    """
    codes = (np.frombuffer(packed, np.uint8)[:, None] >> _SHIFTS & 3).reshape(-1)
    if codes[count:].any():
        raise CheckpointError(f"unused bits after weight {count - 1} are not zero")
    return np.array([0, 1, -2, -1], np.int8)[codes[:count]]


def to_packed(inference: Inference) -> bytes:
    """Return the file of an inference network; BitWidthError unless its weights are ternary."""
    k_W = inference.network.bits.k_W
    if k_W != 2:
        raise BitWidthError(f"k_W={k_W}: packed weights take two bits each, so want k_W=2")
    header = inference.header().encode()
    body = _HEAD.pack(MAGIC, FORMAT, len(header)) + header + b"".join(map(pack, inference.V))
    return body + _CRC.pack(zlib.crc32(body))


def from_packed(content: bytes) -> Inference:
    """Read what `to_packed` returned; CheckpointError or NetworkError if it is not whole."""
    if content[: len(MAGIC)] != MAGIC:
        raise CheckpointError("not packed weights of wage-neuro")
    _, version, size = _HEAD.unpack_from(content)
    check_format(version)
    body, end = content[: -_CRC.size], content[-_CRC.size :]
    if zlib.crc32(body) != _CRC.unpack(end)[0]:
        raise CheckpointError(f"truncated or damaged: the checksum of its {len(content)} bytes is another")
    start = _HEAD.size + size

    def weights_of(network: Network) -> Iterator[np.ndarray]:
        if network.bits.k_W != 2:
            raise BitWidthError(f"k_W={network.bits.k_W}: want 2")
        place = start
        for layer in network.layers:
            part = body[place : place + -(-layer.n_weights // 4)]
            place += len(part)
            weights = unpack(part, layer.n_weights)
            if len(weights) != layer.n_weights:
                where = f"layer {layer.index} {layer}"
                raise CheckpointError(f"{where}: {len(weights)} weights of {layer.n_weights}")
            yield weights.reshape(layer.weight_shape)
        if place != len(body):
            raise CheckpointError(f"{len(body) - place} bytes after the weights of {network}")

    return Inference.from_header(body[_HEAD.size : start], weights_of)


def write(path: Path, inference: Inference) -> None:
    """Write packed weights; an existing file is replaced at the end, in one step."""
    content = to_packed(inference)
    with written_whole(path) as file:
        file.write(content)


def read(path: Path) -> Inference:
    """Read packed weights; CheckpointError if the file is missing, damaged, newer or of another kind."""
    with reading(path, "file of packed weights"):
        return from_packed(path.read_bytes())
