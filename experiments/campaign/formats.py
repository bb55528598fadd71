"""What reads text and files: whole examples of each, how it is read, what it holds."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from experiments.commands.presets import Scale
from experiments.continual import records as continual_records
from experiments.datasets import cifar, idx, npz, svhn
from experiments.datasets.augment import Augment
from experiments.records.curves import read_record
from experiments.records.readme import RESULTS
from mappings.chips import chip
from mappings.chips.chip import Chip
from mappings.formats import packed
from mappings.formats import program as learning_program
from mappings.formats.inference import Inference
from mappings.pattern import Pattern
from wage_neuro import Network, NumpyEngine, Rules, checkpoint
from wage_neuro.bits import Bits
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.eta import EtaSchedule
from wage_neuro.rules import margin_of


@dataclass(frozen=True)
class Format:
    """One reader.

    Attributes
    ----------
    examples : whole contents, made in a folder
    read : reads the file at a path, or a text; raises WageError where it refuses
    holds : what it read, for comparison; with it, whatever is accepted must hold what a whole example does
    is_text : whether `read` takes the text itself
    share : of the inputs that a format gets; slow readers get fewer, quick ones more
    """

    name: str
    examples: Callable[[Path], list[bytes]]
    read: Callable[[Any], Any]
    holds: Callable[[Any], Any] | None = None
    is_text: bool = False
    suffix: str = ""
    share: float = 0.5


def texts(*examples: str) -> Callable[[Path], list[bytes]]:
    """Examples of a text format."""
    return lambda folder: [text.encode() for text in examples]


def _saved() -> Checkpoint:
    network, rules = Network.parse("4C3S2-8FC", (8, 8, 1), 10), Rules(batch=8)  # netx has no pooling
    rng = np.random.default_rng(0)
    with NumpyEngine(network, rules, seed=1) as engine:
        engine.train(rng.integers(0, 256, (16, 8, 8, 1)).astype(np.uint8), rng.integers(0, 10, 16), 3)
        return Checkpoint(network, rules, engine.state, {"config": {"data": "digits"}})


def _written(write: Callable[[Path], object]) -> Callable[[Path], list[bytes]]:
    def examples(folder: Path) -> list[bytes]:
        write(folder / "whole")
        return [(folder / "whole").read_bytes()]

    return examples


def _bytes_of(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _npz(folder: Path) -> list[bytes]:
    images, labels = np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4), np.arange(6) % 3
    return [
        _bytes_of(lambda file: np.savez(file, images=images, labels=labels)),
        _bytes_of(lambda file: np.savez_compressed(file, images=images, labels=labels)),
    ]


def _idx(folder: Path) -> list[bytes]:
    data = struct.pack(">HBBIII", 0, 8, 3, 5, 4, 4) + bytes(range(80))
    return [data, gzip.compress(data, mtime=0)]


def _cifar(folder: Path) -> list[bytes]:
    def archive(file: io.BytesIO) -> None:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name in cifar.BATCHES:
                batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}
                content = pickle.dumps(batch, protocol=4)
                member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))

    return [_bytes_of(archive)]


def _svhn(folder: Path) -> list[bytes]:
    import scipy.io

    content = {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[1], [10]], np.uint8)}

    def write(zipped: bool) -> bytes:
        return _bytes_of(lambda file: scipy.io.savemat(file, content, do_compression=zipped))

    return [write(True), write(False)]


def _chips(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(Path(chip.__file__).parent.glob("*.toml"))]


def _continual(folder: Path) -> list[bytes]:
    found = sorted((RESULTS / "continual").glob("*.jsonl"), key=lambda path: path.stat().st_size)
    return [path.read_bytes() for path in found[:3]]


def _answers(inference: Inference) -> Any:
    return str(inference.network), [V.tobytes() for V in inference.V]


def _state(saved: Checkpoint) -> Any:
    return (
        str(saved.network),
        saved.rules,
        [S.tobytes() for S in saved.state.S],
        saved.state.step,
        saved.state.seed,
    )


A_CHILD = 0.05
"""Share of a reader that starts a process for each file."""


def _answering(
    name: str, module: Any, read: Callable[[Path], Any] | None = None, share: float = Format.share
) -> Format:
    """A format of `mappings.formats` that answers."""
    write = _written(lambda path: module.write(path, Inference.of(_saved())))
    return Format(name, write, read or module.read, _answers, share=share)


def _typed(name: str, parse: Callable[[str], Any], *words: str) -> Format:
    """What a user types."""
    return Format(name, texts(*words), parse, is_text=True, share=4)


def _optional() -> Iterable[Format]:
    if find_spec("h5py"):
        from mappings.formats import netx

        yield _answering("netx", netx, share=A_CHILD)
        if find_spec("nir"):
            from mappings.formats import nir, nir_if

            yield _answering("nir", nir, share=A_CHILD)
            yield _answering("nir-if", nir_if, nir.read, share=A_CHILD)


def formats() -> dict[str, Format]:
    """Every reader that is here, by name."""

    def network(text: str) -> Network:
        return Network.parse(text, (28, 28, 1), 10)

    found = [
        _typed("network", network, "32C5-MP2-64C5-MP2-512FC", "8C3S2V-MP3S2-16FC-FCU", "lenet", "400FC"),
        _typed("bits", Bits.parse, "2888", "28C8", "2-8-16-16"),
        _typed("eta", EtaSchedule.parse, "8, 1@10, 1/8@13", "8", "1/4, 2@3"),
        _typed("margin", margin_of, "3/8", "0", "1/2", "0.25"),
        _typed("pattern", Pattern.parse, "2888", "28ff", "vanilla", "28f8"),
        _typed("augmentation", Augment.parse, "crop4-flip", "crop1", "window224-flip", "none"),
        _typed("scale", Scale.parse, "epochs=30,width=1/4,images=10000", "epochs=2", "width=1/8"),
        Format("checkpoint", _written(lambda path: checkpoint.save(path, _saved())), checkpoint.load, _state),
        _answering("packed weights", packed),
        Format(
            "learning program",
            _written(lambda path: learning_program.write(path, _saved())),
            learning_program.read,
            _state,
        ),
        *_optional(),
        Format("images, npz", _npz, npz.read, suffix=".npz"),
        Format("images, idx", _idx, lambda path: idx.read_array(path, 3)),
        Format("CIFAR-10 archive", _cifar, lambda path: cifar.read(path, md5={})),
        Format("SVHN file", _svhn, lambda path: svhn.read([path, path])),
        Format("chip", _chips, Chip.load, suffix=".toml"),
        Format("run's record", lambda folder: [(RESULTS / "mnist-lenet-s0.json").read_bytes()], read_record),
        Format("continual record", _continual, continual_records.read),
    ]
    return {one.name: one for one in found}


def json_of(content: bytes) -> Any:
    """Its JSON, where the content is some; None else."""
    try:
        return json.loads(content)
    except ValueError:
        return None
