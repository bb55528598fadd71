"""Formats by name: ours, and those of other packages (entry points `wage_neuro.formats`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from mappings.formats.inference import Inference
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import CheckpointError, EngineError
from wage_neuro.registry import Registry

HEAD = 8 + 8
"""Bytes that tell a file's format."""

_EXTRAS = {
    "nir": "export",
    "nir_if": "export",
    "netx": "export",
    "hdf5": "export",
    "program": "export",
    "onnx": "onnx",
}
"""What must be installed for a module of this folder."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """How a network is written to one kind of file, and read back.

    Attributes
    ----------
    what : in a few words, for the help
    write : raises NetworkError or SettingError for a network that the format has no words for
    read : None for what is written and not read back
    is_one : of a path and the first `HEAD` bytes of its file; whether it is of this format
    """

    what: str
    write: Callable[[Path, Checkpoint], object]
    read: Callable[[Path], Checkpoint] | None = None
    is_one: Callable[[Path, bytes], bool] = lambda path, head: False


def _module(name: str, form: str) -> Any:
    try:
        if name == "onnx":
            import onnx  # noqa: F401  (doctests of a missing onnx leave our module half imported)
        return import_module(f"mappings.formats.{name}")
    except ImportError as error:
        extra = f'pip install "wage-neuro[{_EXTRAS[name]}]"'
        raise EngineError(f"format {form!r} needs {error.name}: {extra}") from None


def _answering(form: str, what: str, is_one: Callable[[Path, bytes], bool]) -> Format:
    """A format of what a network answers with, in a module of its name."""

    name = form.replace("-", "_")

    def write(path: Path, saved: Checkpoint) -> None:
        _module(name, form).write(path, Inference.of(saved))

    def read(path: Path) -> Checkpoint:
        found: Inference = _module(name, form).read(path)
        return found.checkpoint()

    return Format(what=what, write=write, read=read, is_one=is_one)


def _hdf5(form: str) -> Callable[[Path, bytes], bool]:
    def is_one(path: Path, head: bytes) -> bool:
        if not head.startswith(b"\x89HDF\r\n\x1a\n"):
            return False
        from mappings.formats.inference import reading

        with reading(path, "HDF5 file"):
            return bool(_module("hdf5", form).check(path) == form)

    return is_one


def _onnx(name: str, form: str) -> Format:
    def write(path: Path, saved: Checkpoint) -> None:
        _module("onnx", name).write(path, Inference.of(saved), form)

    def read(path: Path) -> Checkpoint:
        found: Inference = _module("onnx", name).read(path)
        return found.checkpoint()

    def is_one(path: Path, head: bytes) -> bool:
        if not head.startswith(b"\x08\x08\x12\x0awage"):  # protobuf: IR version 8, and the producer's name
            return False
        return bool(_module("onnx", name).form_of(path) == form)

    return Format(what=f"ONNX, {form}", write=write, read=read, is_one=is_one)


FORMATS: Registry[Format] = Registry(
    "format",
    "wage_neuro.formats",
    Format,
    {
        "nir": _answering("nir", "NIR", _hdf5("nir")),
        "nir-if": _answering("nir-if", "NIR for snntorch, norse and sinabs", _hdf5("nir-if")),
        "netx": _answering("netx", "lava-dl's netx", _hdf5("netx")),
        "packed": _answering("packed", "two bits a weight", lambda _, head: head.startswith(b"\x89WAGE")),
        "program": Format(
            what="JSON, to go on learning with",
            write=lambda path, saved: _module("program", "program").write(path, saved),
            read=lambda path: _module("program", "program").read(path),
            is_one=lambda _, head: head.lstrip().startswith(b"{"),
        ),
        "onnx": _onnx("onnx", "integer"),
        "onnx-qlinear": _onnx("onnx-qlinear", "qlinear"),
        "qonnx": _onnx("qonnx", "qonnx"),
        "c": Format(
            what="C99 for a microcontroller",
            write=lambda path, saved: _module("c", "c").write(path, saved, False, None, None),
        ),
    },
)


def kind_of(path: Path) -> str:
    """Return the format that a file is of, by its content.

    Raises
    ------
    CheckpointError
        If it is missing, or of no format known here.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    for name in FORMATS:
        if FORMATS.find(name).is_one(path, head):
            return name
    known = [name for name in FORMATS if FORMATS.find(name).read]
    raise CheckpointError(f"{path}: not a file of {', '.join(known)}")
