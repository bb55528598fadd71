"""Packed two-bit weights: every byte, what a plain reader sees, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.formats import packed
from mappings.formats.inference import Inference
from wage_neuro import Network, predict
from wage_neuro.errors import CheckpointError, WageError

TERNARY = Network.parse("F-16FC-9FC-5FC", (7, 6, 2))


def plain_reader(content: bytes) -> tuple[dict, list[int]]:
    """The format as its docstring says it, bit by bit."""
    assert content[:8] == b"\x89WAGE2\r\n"
    version, size = struct.unpack("<II", content[8:16])
    assert version == 2
    header = json.loads(content[16 : 16 + size])
    codes = [byte >> 2 * i & 3 for byte in content[16 + size : -4] for i in range(4)]
    assert struct.unpack("<I", content[-4:])[0] == zlib.crc32(content[:-4])
    return header, [{0: 0, 1: 1, 3: -1}[code] for code in codes]


def forge(content: bytes, place: int, byte: int) -> bytes:
    """Change a byte and make the checksum right again."""
    body = bytearray(content[:-4])
    body[place] = byte
    return bytes(body) + struct.pack("<I", zlib.crc32(body))


def with_header(content: bytes, **changes: object) -> bytes:
    size = struct.unpack("<I", content[12:16])[0]
    header = json.dumps({**json.loads(content[16 : 16 + size]), **changes}).encode()
    body = content[:12] + struct.pack("<I", len(header)) + header + content[16 + size : -4]
    return body + struct.pack("<I", zlib.crc32(body))


@pytest.fixture
def content(trained) -> bytes:
    return packed.to_packed(Inference.of(trained(TERNARY)))


PAGE = Path(packed.__file__).with_name("PACKED.md")
C_COMPILER = shutil.which("gcc") or shutil.which("clang")


def page(language: str) -> str:
    """The block of the page in one language."""
    return re.search(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]


@pytest.mark.skipif(not C_COMPILER, reason="no C compiler here: gcc or clang")
def test_the_c_reader_of_the_page(trained, tmp_path):
    inference = Inference.of(trained(TERNARY))
    packed.write(tmp_path / "net", inference)
    content = (tmp_path / "net").read_bytes()
    (tmp_path / "reader.c").write_text(page("c"))
    command = [C_COMPILER, "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "reader.c", "-o", "reader"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)

    def read(content: bytes) -> tuple[int, list[int]]:
        sizes = [str(V.size) for V in inference.V]
        done = subprocess.run([tmp_path / "reader", *sizes], input=content, capture_output=True, timeout=60)
        return done.returncode, [int(word) for word in done.stdout.split()]

    assert read(content) == (0, [int(w) for V in inference.V for w in V.reshape(-1)])
    for wrong in (
        content[:-1], content[1:], b"", content[:40], turn(content)[:-4] + content[-4:],
        content[:8] + b"\3" + content[9:], forge(content, start_of_weights(content), 0b10),
        forge(content, 13, 0xFF), forge(content, 15, 0xFF),
    ):  # fmt: skip
        code, weights = read(wrong)
        assert (code, weights) == (1, [])


def test_the_bytes_of_the_page():
    """The page's dump is what is written today."""
    network = Network.parse("3FC-2FC", (2,))
    V = (np.array([[1, 0, -1], [1, -1, 0]], np.int8), np.array([[0, 1], [-1, 1], [1, 0]], np.int8))
    content = packed.to_packed(Inference(network, V))
    rows = [line[6:54].strip() for line in page("text").splitlines()]
    assert bytes.fromhex("".join(rows)) == content


@settings(deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from([-1, 0, 1]), max_size=70))
def test_packing_is_undone(weights):
    V = np.array(weights, np.int8)
    assert len(packed.pack(V)) == -(-len(V) // 4)
    assert packed.unpack(packed.pack(V), len(V)).tolist() == weights


def test_every_byte():
    two_bits = {0: 0, 1: 1, 2: -2, 3: -1}
    for byte in range(256):
        wanted = [two_bits[byte >> shift & 3] for shift in (0, 2, 4, 6)]
        assert packed.unpack(bytes([byte]), 4).tolist() == wanted
        if -2 not in wanted:
            assert packed.pack(np.array(wanted, np.int8)) == bytes([byte])


def test_a_plain_reader_sees_the_weights(trained):
    inference = Inference.of(trained(TERNARY))
    header, weights = plain_reader(packed.to_packed(inference))
    assert header["network"] == "F-16FC-9FC-5FC"
    start = 0
    for V in inference.V:
        assert weights[start : start + V.size] == V.reshape(-1).tolist()
        start += -(-V.size // 4) * 4
    assert start == len(weights)


def test_round_trip(network, inference, images_of, trained, tmp_path):
    if network.bits.k_W != 2:
        pytest.skip("not ternary")
    packed.write(tmp_path / "net", inference)
    back = packed.read(tmp_path / "net").checkpoint()
    x = network.encode(images_of(network))
    assert np.array_equal(predict(back.network, back.state, x), predict(network, trained(network).state, x))
    assert back.extra == {"config": {"data": "digits"}}


def test_sixteen_times_smaller_than_float32(tmp_path, trained):
    network = Network.parse("F-512FC-10FC", (28, 28, 1))
    packed.write(tmp_path / "net", Inference.of(trained(network)))
    assert 15.9 < 4 * network.n_weights / (tmp_path / "net").stat().st_size <= 16


def test_other_bits_are_refused(tmp_path, trained, leaves_alone):
    inference = Inference.of(trained(Network.parse("4FC-3FC", (5,), bits="3888")))
    leaves_alone(
        lambda path: packed.write(path, inference),
        tmp_path / "folder",
        WageError,
        r"^k_W=3: packed weights take two bits each, so want k_W=2$",
    )


def start_of_weights(content: bytes) -> int:
    return 16 + struct.unpack("<I", content[12:16])[0]


def turn(content: bytes) -> bytes:
    """Give one weight the other sign, 01 or 11, and make the checksum of the bytes right again."""
    place = next(i for i in range(start_of_weights(content), len(content)) if content[i] & 1)
    return forge(content, place, content[place] ^ 2)


DAMAGE = {
    "another kind of file": (lambda c: b"PK" + c[2:], "not packed weights of wage-neuro$"),
    "empty": (lambda c: b"", "not packed weights of wage-neuro$"),
    "newer": (lambda c: c[:8] + struct.pack("<I", 3) + c[12:], "format 3; this version reads 2$"),
    "newer header": (lambda c: with_header(c, format=7), "format 7; this version reads 2$"),
    "a turned weight": (lambda c: turn(c), "changed since it was written: its sha256 is another"),
    "truncated": (lambda c: c[:-9], r"truncated or damaged: the checksum of its \d+ bytes is another$"),
    "cut in its head": (lambda c: c[:10], "not a whole file of packed weights"),
    "a flipped bit": (lambda c: c[:-20] + bytes([c[-20] ^ 4]) + c[-19:], "truncated or damaged"),
    "weight -2": (
        lambda c: forge(c, start_of_weights(c), 0b10),
        r"weights of layer 0 16FC: -2 at \(0, 0\); want whole numbers in -1..1$",
    ),
    "fewer weights": (lambda c: with_header(c, network="F-99FC-9FC-5FC"), r"99FC: \d+ weights of 8316$"),
    "more weights": (lambda c: with_header(c, network="F-5FC"), r"\d+ bytes after the weights of F-5FC$"),
    "no network": (lambda c: with_header(c, network="what"), "network 'what': cannot read 'what'"),
    "other bits": (lambda c: with_header(c, bits="8888"), "k_W=8: want 2$"),
    "header no object": (lambda c: c[:12] + struct.pack("<I", 2) + b"[]" + struct.pack("<I", zlib.crc32(
        c[:12] + struct.pack("<I", 2) + b"[]")), "its header is no JSON object$"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused(kind, content, tmp_path, assert_refused):
    change, message = DAMAGE[kind]
    (tmp_path / "net").write_bytes(change(content))
    assert_refused(packed.read, tmp_path / "net", message)


def test_unused_bits_are_zero(trained, tmp_path):
    content = packed.to_packed(Inference.of(trained(Network.parse("3FC-3FC", (1,)))))
    (tmp_path / "net").write_bytes(forge(content, start_of_weights(content), 0b01000000))
    with pytest.raises(CheckpointError, match="unused bits after weight 2 are not zero"):
        packed.read(tmp_path / "net")


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"no such file$"):
        packed.read(tmp_path / "none")


def test_inference_refuses_foreign_weights(trained):
    inference = Inference.of(trained(TERNARY))
    V = list(inference.V)
    for wrong, message in (
        (V[:2], "weights of 2 layers: F-16FC-9FC-5FC has 3"),
        ([V[0].T, *V[1:]], r"weights of layer 0 16FC: shape \(16, 84\); want \(84, 16\)"),
        (
            [V[0] * 0.5, *V[1:]],
            r"weights of layer 0 16FC: -?0.5 at \(\d+, \d+\); want whole numbers in -1..1",
        ),
        ([V[0], V[1] * np.nan, V[2]], r"weights of layer 1 9FC: nan at \(0, 0\)"),
    ):
        with pytest.raises(WageError, match=message):
            replace(inference, V=tuple(wrong))
