"""Data sets: digits, MNIST, Fashion-MNIST, CIFAR-10, SVHN, ImageNet, and .npz files of one's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from experiments.datasets import cifar, digits, files, idx, npz, photos, svhn, tiny_imagenet
from experiments.datasets.base import Dataset
from wage_neuro.errors import DataError, did_you_mean

__all__ = ["NAMES", "Dataset", "Location", "load", "locations"]

NAMES = ("digits", "mnist", "fashion-mnist", "cifar-10", "svhn", "tiny-imagenet-20", "imagenet")
ALIASES = {"fmnist": "fashion-mnist", "fashionmnist": "fashion-mnist", "cifar10": "cifar-10"}


def load(name_or_path: str, data_dir: Path | None = None, download: bool = True) -> Dataset:
    """Read a data set by its name, or an .npz file or folder of .npy files by its path (see `npz.read`).

    `NAME:5-9` takes the classes 5 to 9 alone, numbered from 0.

    Files are looked for in data_dir, $WAGE_NEURO_DATA, ../shared/data and the user's cache, and downloaded
    into the cache where they are in none of them. Their md5 must be the published one. An .npz that is not at
    its path any more is looked for there too.

    Raises
    ------
    DataError
        If there is no such data set, or its files are missing, damaged or of another form.

    Warns
    -----
    DoubtWarning
        If data_dir has no such data set, or an .npz may mean something else than what is read.

    >>> load("digits"), load("digits:5-9")
    (Dataset(name='digits', classes=10, signed=False), Dataset(name='digits:5-9', classes=5, signed=False))
    """
    text = str(name_or_path)
    part = re.fullmatch(r"(.+):(\d{1,9})-(\d{1,9})", text)
    if part:
        return load(part[1], data_dir, download).only_classes(int(part[2]), int(part[3]))
    name = ALIASES.get(text.lower(), text.lower())
    if name == "digits":
        return digits.read()
    if name in files.SOURCES:
        paths = files.get(name, data_dir, download)
        source = paths[0] if len(paths) == 1 else paths[0].parent
        return replace(_read(name, paths), source=str(source))
    path = Path(text)
    if name.endswith(".npz"):
        return npz.read(files.moved(path, data_dir))
    if path.is_dir() and any(path.glob("*.npy")):
        return npz.read(path)
    instead = f"{', '.join(NAMES)} or the path of an .npz file or of a folder of .npy files"
    raise DataError(f"data {text!r}: want {instead}{did_you_mean(name, [*NAMES, *ALIASES])}")


def _read(name: str, paths: Sequence[Path]) -> Dataset:
    """Read the files of a data set that has a name."""
    if name == "cifar-10":
        return cifar.read(paths[0])
    if name == "tiny-imagenet-20":
        return tiny_imagenet.read(paths[0])
    if name == "imagenet":
        return photos.read_imagenet(paths[0], paths[1])
    return svhn.read(paths) if name == "svhn" else idx.read(name, paths)


def is_name(text: str) -> bool:
    """Whether a text is the name of a data set, or of classes of one.

    >>> is_name("mnist:0-4"), is_name("runs/mnist")
    (True, False)
    """
    name = text.lower().partition(":")[0]
    return ALIASES.get(name, name) in NAMES


@dataclass(frozen=True)
class Location:
    """One row of `wage-neuro data`: a data set, and where it is or how to get it."""

    name: str
    what: str
    found: Path | None
    source: str
    licence: str
    downloads: bool = True


def locations(data_dir: Path | None = None) -> list[Location]:
    """One row for each data set; `found` is None unless all of its files are there (their md5 unchecked)."""
    spec = find_spec("sklearn")
    place = Path(spec.origin).parent if spec and spec.origin else None
    rows = [Location("digits", digits.WHAT, place, digits.URL, digits.LICENCE)]
    for name, source in files.SOURCES.items():
        paths = files.find(source, data_dir)
        whole = None if None in paths else paths[0]
        found = whole if whole is None or len(paths) == 1 else whole.parent
        rows.append(Location(name, source.what, found, source.url, source.licence, not source.by_hand))
    return rows
