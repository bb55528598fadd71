"""Data sets: digits, MNIST, Fashion-MNIST, CIFAR-10, SVHN, ImageNet, and .npz files of one's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.datasets import (
    cifar,
    digits,
    events,
    files,
    folders,
    idx,
    keywords,
    npz,
    photos,
    svhn,
    tiny_imagenet,
)
from experiments.datasets.base import Dataset
from wage_neuro.errors import DataError
from wage_neuro.registry import Registry

__all__ = ["DATASETS", "NAMES", "Dataset", "Known", "Location", "load", "locations"]

ALIASES = {"fmnist": "fashion-mnist", "fashionmnist": "fashion-mnist", "cifar10": "cifar-10"}
EVENTS = "events-"
"""Before the name of data that an event camera sees."""


@dataclass(frozen=True)
class Known:
    """A data set that has a name.

    Attributes
    ----------
    what, licence, url : what it is, and whose
    read : of the folder that the user named, or None, and whether it may be downloaded
    find : of that folder; where it is, or None
    downloads : whether it can be downloaded at all
    """

    what: str
    licence: str
    url: str
    read: Callable[[Path | None, bool], Dataset]
    find: Callable[[Path | None], Path | None]
    downloads: bool = True


def _published(name: str, read: Callable[[Sequence[Path]], Dataset]) -> Known:
    """A data set whose files have a public place."""
    source = files.SOURCES[name]

    def load_(data_dir: Path | None, download: bool) -> Dataset:
        paths = files.get(name, data_dir, download)
        return replace(read(paths), source=str(paths[0] if len(paths) == 1 else paths[0].parent))

    def find(data_dir: Path | None) -> Path | None:
        paths = files.find(files.SOURCES[name], data_dir)
        whole = None if None in paths else paths[0]
        return whole if whole is None or len(paths) == 1 else whole.parent

    return Known(source.what, source.licence, source.url, load_, find, not source.by_hand)


DATASETS: Registry[Known] = Registry(
    "data",
    "wage_neuro.datasets",
    Known,
    {
        "digits": Known(
            digits.WHAT, digits.LICENCE, digits.URL, lambda *_: digits.read(), lambda _: digits.package()
        ),
        "mnist": _published("mnist", lambda paths: idx.read("mnist", paths)),
        "fashion-mnist": _published("fashion-mnist", lambda paths: idx.read("fashion-mnist", paths)),
        "cifar-10": _published("cifar-10", lambda paths: cifar.read(paths[0])),
        "svhn": _published("svhn", svhn.read),
        "tiny-imagenet-20": _published("tiny-imagenet-20", lambda paths: tiny_imagenet.read(paths[0])),
        "imagenet": _published("imagenet", lambda paths: photos.read_imagenet(paths[0], paths[1])),
        "omniglot": _published("omniglot", lambda paths: folders.read_omniglot(paths[0], paths[1])),
        "core50": _published("core50", lambda paths: folders.read_core50(paths[0])),
        "mswc": _published("mswc", lambda paths: keywords.read(paths[0])),
    },
    problem=DataError,
    called=ALIASES,
    more="the path of an .npz file or of a folder of .npy files",
)
NAMES = tuple(DATASETS)


def load(name_or_path: str, data_dir: Path | None = None, download: bool = True) -> Dataset:
    """Read a data set by its name, or an .npz file or folder of .npy files by its path (see `npz.read`).

    `NAME:5-9` takes the classes 5 to 9 alone, numbered from 0. `events-NAME` are the time surfaces of what an
    event camera would see of grey images that it moves over, as N-MNIST was made.

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
    if name.startswith(EVENTS):
        return events.surfaces_of(load(text[len(EVENTS) :], data_dir, download))
    if name in DATASETS:
        return DATASETS.find(name).read(data_dir, download)
    path = Path(text)
    if name.endswith(".npz"):
        return npz.read(files.moved(path, data_dir))
    if path.is_dir() and any(path.glob("*.npy")):
        return npz.read(path)
    raise DATASETS.unknown(text)


def is_name(text: str) -> bool:
    """Whether a text is the name of a data set, or of classes of one.

    >>> is_name("mnist:0-4"), is_name("runs/mnist")
    (True, False)
    """
    name = text.lower().removeprefix(EVENTS).partition(":")[0]
    return ALIASES.get(name, name) in DATASETS


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
    known = {name: DATASETS.find(name) for name in DATASETS}
    return [
        Location(name, each.what, each.find(data_dir), each.url, each.licence, each.downloads)
        for name, each in known.items()
    ]
