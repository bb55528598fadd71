"""Data sets: small files of every form, every way they can be wrong, and the real files where they are."""

from __future__ import annotations

import gzip
import io
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from experiments.commands.presets import EXPERIMENTS
from experiments.datasets import (
    NAMES,
    Dataset,
    cifar,
    files,
    idx,
    load,
    locations,
    matlab,
    npz,
    photos,
    stored,
    svhn,
    tiny_imagenet,
)
from experiments.datasets.base import every_fifth
from experiments.runs.training import Config, Run
from wage_neuro import Rules
from wage_neuro.errors import DataError, DoubtWarning

REPOSITORY = Path(files.__file__).resolve().parents[2]
REAL = REPOSITORY.parent / "shared" / "data"

# A batch of one image as Python 2 and an old numpy wrote the public ones (protocol 2, dtype('u1', 0, 1)).
OLD_BATCH = (
    b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03K\x07aU\x04dataq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\n"
    b"ndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\t"
    b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x0c\x00\x00"
    + bytes(range(256)) * 12
    + b"tbu."
)


def refused(*parts: str):
    """The block must raise a DataError of one line that holds each part, in this order."""
    return pytest.raises(DataError, match=r"\A" + ".*".join(["", *map(re.escape, parts), ""]) + r"\Z")


def grey(n: int, height: int = 4, width: int = 3) -> np.ndarray:
    return np.arange(n * height * width, dtype=np.uint8).reshape(n, height, width)


def blank(train: int = 10, test: int = 4, classes: int = 10) -> Dataset:
    images = grey(train + test)[..., np.newaxis]
    labels = np.arange(train + test) % classes
    return Dataset("small", images[:train], labels[:train], images[train:], labels[train:], classes, False)


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, no files of the user: only data_dir, the variable and the folders a test makes."""

    def no_network(*args: object, **kwargs: object) -> None:
        raise OSError("the network is unreachable\n(as tests want it)")

    monkeypatch.setattr("requests.sessions.Session.request", no_network)
    monkeypatch.delenv(files.VARIABLE, raising=False)
    monkeypatch.setattr(files, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(files, "__file__", str(tmp_path / "repo" / "experiments" / "datasets" / "files.py"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


# Dataset


def test_split_puts_the_last_training_images_in_the_place_of_the_test_set() -> None:
    whole = blank(10, 4)
    part = whole.split(3)
    assert np.array_equal(part.train_images, whole.train_images[:7])
    assert np.array_equal(part.test_images, whole.train_images[7:])
    assert part.test_labels.tolist() == [7, 8, 9]
    assert (part.name, part.classes, part.signed) == ("small", 10, False)


@pytest.mark.parametrize("validation", [0, -1, 10, 11])
def test_split_refuses_an_empty_part(validation: int) -> None:
    with refused(f"validation={validation}: want 1..9, small has 10 training images"):
        blank(10).split(validation)


def test_subset_keeps_the_first_images_of_each_part() -> None:
    part = blank(10, 4).subset(train=3)
    assert (part.train_labels.tolist(), len(part.test_labels)) == ([0, 1, 2], 4)
    part = blank(10, 4).subset(10, 1)
    assert (len(part.train_images), part.test_labels.tolist()) == (10, [0])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"train": 11}, "train_images=11: want 1..10, the train images of small"),
        ({"test": 5}, "test_images=5: want 1..4, the test images of small"),
        ({"train": 0}, "train_images=0: want 1..10"),
        ({"test": -1}, "test_images=-1: want 1..4"),
    ],
)
def test_subset_refuses_more_than_there_are(wanted: dict[str, int], message: str) -> None:
    with refused(message):
        blank(10, 4).subset(**wanted)


def test_a_windowed_set_shows_the_middle_of_its_test_images() -> None:
    whole = Dataset(
        "wide", *[np.arange(2 * 8 * 6 * 1, dtype=np.uint8).reshape(2, 8, 6, 1), np.arange(2)] * 2, 2, True
    )
    part = whole.windowed(4)
    assert np.array_equal(part.test_images, whole.test_images[:, 2:6, 1:5])
    assert np.array_equal(part.train_images, whole.train_images)
    assert part.input_shape == (4, 4, 1)
    assert part.checksum != whole.checksum
    for side in (0, 7):
        with refused(f"window={side}: want 1..6, wide has 8x6"):
            whole.windowed(side)
    with refused("wide: training images of (8, 6, 1), test images of (4, 4, 1): want one size"):
        replace(part, window=None)


def test_a_class_has_one_name() -> None:
    with refused("small: 2 names: want one for each of 10 classes"):
        replace(blank(), names=("a", "b"))


def test_checksum_is_of_what_the_arrays_say_not_of_how_they_lie() -> None:
    one = blank()
    assert re.fullmatch("[0-9a-f]{64}", one.checksum)
    turned = np.asfortranarray(one.train_images)
    assert replace(one, train_images=turned).checksum == one.checksum
    changed = one.train_images.copy()
    changed[-1, -1, -1, -1] ^= 1
    others = [
        replace(one, train_images=changed),
        replace(one, train_labels=one.train_labels[::-1]),
        one.subset(9),
        replace(
            one,
            train_images=one.train_images.transpose(0, 2, 1, 3).reshape(10, 3, 4, 1),
            test_images=one.test_images.reshape(4, 3, 4, 1),
        ),
    ]
    assert len({one.checksum, *(other.checksum for other in others)}) == 5


def test_dataset_refuses_parts_that_do_not_belong_together() -> None:
    with refused("small: training images of (4, 3, 1), test images of (3, 4, 1): want one size"):
        replace(blank(), test_images=blank().test_images.reshape(4, 3, 4, 1))
    with refused("small test: 3 images but 4 labels: want as many of both"):
        replace(blank(), test_images=blank().test_images[:3])
    with refused("small train: labels 0..9: want 0..6"):
        replace(blank(), classes=7)


def test_every_fifth_takes_every_class_in_proportion_once() -> None:
    labels = np.tile(np.arange(10), 20)  # every fifth of these as they lie is a 0 or a 5
    train, test = every_fifth(labels)
    assert np.bincount(labels[test]).tolist() == [4] * 10
    assert sorted([*train, *test]) == list(range(200))


# Names and places


@pytest.mark.parametrize("name", ["imagenette", "", "photos.npy", "mnist/"])
def test_load_refuses_an_unknown_name(name: str) -> None:
    with refused(
        f"data {name!r}: want digits, mnist, fashion-mnist, cifar-10, svhn, tiny-imagenet-20, imagenet",
        " or the path of an .npz",
    ):
        load(name)


@pytest.mark.parametrize(
    ("alias", "name"), [("fmnist", "fashion-mnist"), ("CIFAR10", "cifar-10"), ("SVHN", "svhn")]
)
def test_load_knows_aliases_and_capitals(alias: str, name: str) -> None:
    with refused(f"{name}: "):
        load(alias, download=False)


@pytest.mark.filterwarnings("ignore:data_dir=.* no svhn in it")
def test_places_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, variable = tmp_path / "given", tmp_path / "variable"
    near, beside, cache = (
        tmp_path / "shared" / "data",
        tmp_path / "up" / "shared" / "data",
        tmp_path / "cache",
    )
    monkeypatch.setattr(
        files, "__file__", str(tmp_path / "up" / "repo" / "experiments" / "datasets" / "files.py")
    )
    monkeypatch.setenv(files.VARIABLE, str(variable))
    wanted = [place / form for place in (given, variable, near, beside, cache) for form in ("svhn", ".")]
    for folder in wanted:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "train_32x32.mat").write_bytes(b"no such md5")
    for folder in wanted:
        path = folder / "train_32x32.mat"
        with refused(
            f"{path}: not the published file of svhn: md5 ",
            ": want e26dedcc434d2e4c54c9b2d4a06d8373; remove the file and get it again: it is damaged, or of",
        ):
            load("svhn", given, download=False)
        path.unlink()
    with refused("svhn: train_32x32.mat not found"):
        load("svhn", given, download=False)


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused(f"data_dir={tmp_path / 'nowhere'}: no such folder"):
        load("mnist", tmp_path / "nowhere")
    monkeypatch.setenv(files.VARIABLE, str(tmp_path / "gone"))
    with refused(f"$WAGE_NEURO_DATA={tmp_path / 'gone'}: no such folder"):
        load("mnist")


def test_missing_files_are_named_with_what_to_do() -> None:
    with refused(
        "mnist: train-images-idx3-ubyte.gz not found; put mnist/train-images-idx3-ubyte.gz, ",
        "mnist/t10k-labels-idx1-ubyte.gz from https://ossci-datasets.s3.amazonaws.com/mnist/ ",
        "into ../shared/data or $WAGE_NEURO_DATA",
    ):
        load("mnist", download=False)


@pytest.mark.parametrize("name", [name for name, source in files.SOURCES.items() if not source.by_hand])
def test_a_download_that_fails_says_which_files_to_put_where(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with refused(
        f"{name}: ", "not downloaded (OSError: the network is unreachable (as tests want it)); put "
    ):
        load(name)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert capsys.readouterr() == ("", ""), "the error is printed by the command, and nothing else"


def test_what_cannot_be_downloaded_says_what_it_is_packed_from() -> None:
    with refused(
        "tiny-imagenet-20: tiny_imagenet_20_jpeg.npz not found; put ",
        "tiny-imagenet-20/tiny_imagenet_20_jpeg.npz",
        ", packed from http://cs231n.stanford.edu/tiny-imagenet-200.zip, into ../shared/data or $WAGE_NEURO",
    ):
        load("tiny-imagenet-20")


class Answer:
    """What requests gives back, as far as pooch asks."""

    def __init__(self, body: bytes) -> None:
        self.body, self.headers = body, {"content-length": str(len(body))}

    def raise_for_status(self) -> None: ...

    def iter_content(self, chunk_size: int) -> list[bytes]:
        return [self.body[at : at + chunk_size] for at in range(0, len(self.body), chunk_size)]


@pytest.fixture
def small_svhn(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A file of SVHN's form, taken as the published one for both parts."""
    body = mat_bytes()
    known = dict.fromkeys(files.SOURCES["svhn"].md5, files.md5_of(body))
    monkeypatch.setitem(files.SOURCES, "svhn", replace(files.SOURCES["svhn"], md5=known))
    return body


def test_a_download_ends_in_the_cache_and_is_found_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_svhn: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr("requests.get", lambda url, **kwargs: asked.append(url) or Answer(small_svhn))
        data = load("svhn")
    assert asked == [f"http://ufldl.stanford.edu/housenumbers/{part}_32x32.mat" for part in ("train", "test")]
    assert sorted(path.name for path in (tmp_path / "cache" / "svhn").iterdir()) == [
        "test_32x32.mat",
        "train_32x32.mat",
    ]
    assert load("svhn", download=False).checksum == data.checksum
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "train_32x32.mat" in printed.err


def test_a_download_with_another_md5_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_svhn: bytes
) -> None:
    monkeypatch.setattr("requests.get", lambda url, **kwargs: Answer(small_svhn[:-1]))
    with refused(
        "svhn: train_32x32.mat not found and not downloaded (ValueError: MD5 hash of downloaded file"
    ):
        load("svhn")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_locations_say_what_is_there_and_how_to_get_the_rest(tmp_path: Path) -> None:
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn" / "train_32x32.mat").touch()
    (tmp_path / "cifar-10-batches-py").mkdir()
    rows = {row.name: row for row in locations(tmp_path)}
    assert tuple(rows) == NAMES
    assert rows["digits"].found is not None
    assert rows["svhn"].found is None, "half of the files is not the data set"
    assert rows["cifar-10"].found == tmp_path / "cifar-10-batches-py"
    (tmp_path / "svhn" / "test_32x32.mat").touch()
    assert {row.name: row for row in locations(tmp_path)}["svhn"].found == tmp_path / "svhn"
    assert all(row.what and row.licence and row.source.startswith("http") for row in rows.values())
    by_hand = ["tiny-imagenet-20", "imagenet", "omniglot", "core50", "mswc"]
    assert [name for name, row in rows.items() if not row.downloads] == by_hand


# idx: MNIST and Fashion-MNIST


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def idx_files(tmp_path: Path) -> list[Path]:
    """Four files of MNIST's form, the training part gzipped."""
    paths = [tmp_path / names[part < 2] for part, names in enumerate(files.IDX_FILES)]
    for path, array in zip(paths, (grey(6), np.arange(6), grey(2), np.array([9, 0])), strict=True):
        data = idx_bytes(array.astype(np.uint8))
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return paths


def test_idx_reads_images_and_labels(idx_files: list[Path]) -> None:
    data = idx.read("mnist", idx_files)
    assert (data.train_images.shape, data.train_images.dtype) == ((6, 4, 3, 1), np.uint8)
    assert np.array_equal(data.train_images[..., 0], grey(6))
    assert (data.train_labels.tolist(), data.test_labels.tolist()) == ([0, 1, 2, 3, 4, 5], [9, 0])
    assert (data.test_labels.dtype, data.classes, data.signed) == (np.int64, 10, False)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_load_reads_idx_files_it_knows(
    name: str, idx_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {path.name: files.md5_of(path.read_bytes()) for path in idx_files}
    monkeypatch.setitem(files.SOURCES, name, replace(files.SOURCES[name], md5=known))
    data = load(name, idx_files[0].parent, download=False)
    assert (data.name, data.train_images.shape) == (name, (6, 4, 3, 1))


@pytest.mark.parametrize(
    ("part", "data", "message"),
    [
        (0, b"", "first bytes none: want 00000803, idx of 3 dimensions"),
        (0, b"<html>", "first bytes 3c68746d: want 00000803"),
        (0, idx_bytes(np.zeros(6, np.uint8)), "first bytes 00000801: want 00000803"),
        (1, idx_bytes(grey(6)), "first bytes 00000803: want 00000801, idx of 1 dimensions"),
        (0, bytes([0, 0, 8, 3, 0, 0]), "6 bytes: the header alone has 16"),
        (0, idx_bytes(grey(6))[:-1], "71 bytes: want 72, as its header says 6x4x3"),
        (1, idx_bytes(np.zeros(6, np.uint8)) + b"x", "7 bytes: want 6, as its header says 6"),
        (0, bytes([0, 0, 8, 3]) + b"\xff" * 12, "0 bytes: want 79228162458924105385300197375"),
        (0, gzip.compress(idx_bytes(grey(6)), mtime=0)[:-9], "not a readable idx file (EOFError: "),
        (0, gzip.compress(idx_bytes(grey(6)), mtime=0)[:-1] + b"x", "not a readable idx file (BadGzipFile: "),
        (0, b"\x1f\x8b and no more", "not a readable idx file (BadGzipFile: "),
        (0, idx_bytes(grey(0)), "no images (shape (0, 4, 3, 1)): want at least one"),
        (1, idx_bytes(np.zeros(5, np.uint8)), "6 images but 5 labels: want as many of both"),
        (1, idx_bytes(np.arange(5, 11).astype(np.uint8)), "labels 5..10: want 0..9"),
    ],
)
def test_idx_refuses_a_damaged_file(part: int, data: bytes, message: str, idx_files: list[Path]) -> None:
    idx_files[part].write_bytes(data)
    with refused(str(idx_files[0].parent), idx_files[part].name, ": ", message):
        idx.read("mnist", idx_files)


def test_idx_refuses_a_folder_in_the_place_of_a_file(idx_files: list[Path]) -> None:
    idx_files[0].unlink()
    idx_files[0].mkdir()
    with refused(str(idx_files[0]), "not a readable idx file (IsADirectoryError: "):
        idx.read("mnist", idx_files)


# CIFAR-10


def batch(n: int, labels: object = None) -> dict[bytes, object]:
    rows = np.arange(n * cifar.ROW).astype(np.uint8).reshape(n, cifar.ROW)
    return {b"data": rows, b"labels": list(range(n)) if labels is None else labels}


@pytest.fixture
def batches(tmp_path: Path) -> Path:
    """A folder of CIFAR-10's form, two images in a batch."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in cifar.BATCHES:
        (folder / name).write_bytes(pickle.dumps(batch(2), protocol=4))
    (folder / "batches.meta").write_bytes(b"not looked at")
    return folder


def packed(folder: Path, name: str) -> Path:
    path = folder.parent / name
    with tarfile.open(path, f"w:{path.suffix[1:]}") as archive:
        archive.add(folder, arcname=folder.name)
    return path


def test_cifar_reads_the_folder(batches: Path) -> None:
    data = cifar.read(batches, md5={})
    assert (data.train_images.shape, data.test_images.shape) == ((10, 32, 32, 3), (2, 32, 32, 3))
    assert data.train_images.flags.c_contiguous
    rows = batch(2)[b"data"]
    assert isinstance(rows, np.ndarray)
    for image, row, colour in [(1, 5, 0), (9, 31, 1), (3, 0, 2)]:
        plane = rows[image % 2].reshape(3, 32, 32)[colour]
        assert np.array_equal(data.train_images[image, row, :, colour], plane[row])
    assert (data.train_labels.tolist(), data.classes, data.signed) == ([0, 1] * 5, 10, True)


@pytest.mark.parametrize("name", ["cifar-10-batches-py.tar.xz", "cifar-10-python.tar.gz"])
def test_cifar_reads_an_archive_as_the_folder(name: str, batches: Path) -> None:
    assert cifar.read(packed(batches, name), md5={}).checksum == cifar.read(batches, md5={}).checksum


@pytest.mark.filterwarnings("error")
def test_cifar_reads_what_python_2_wrote(batches: Path) -> None:
    (batches / "test_batch").write_bytes(OLD_BATCH)
    data = cifar.read(batches, md5={})
    assert data.test_labels.tolist() == [7]
    assert np.array_equal(data.test_images[0].transpose(2, 0, 1).ravel(), np.arange(3072) % 256)


def test_cifar_batches_must_have_the_published_md5(batches: Path) -> None:
    found = files.md5_of((batches / "data_batch_1").read_bytes())
    with refused(f"{batches}/data_batch_1: md5 {found}: want c99cafc152244af753f735de768cd75f; remove"):
        load("cifar10", batches.parent, download=False)
    archive = packed(batches, "cifar-10-batches-py.tar.xz")
    with refused(f"{archive}/data_batch_1: md5 {found}: want c99c"):
        cifar.read(archive)


class Attack:
    """Pickles as a call of open(path, "w"), which makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("packing", [None, "cifar-10-batches-py.tar.xz"])
def test_cifar_never_runs_what_is_in_a_pickle(packing: str | None, batches: Path, tmp_path: Path) -> None:
    victim = tmp_path / "made-by-the-pickle"
    attack = pickle.dumps({**batch(2), b"more": Attack(victim)}, protocol=4)
    pickle.loads(attack)[b"more"].close()
    assert victim.exists(), "the attack itself does not work"
    victim.unlink()
    (batches / "data_batch_2").write_bytes(attack)
    path = packed(batches, packing) if packing else batches
    with refused(f"{path}/data_batch_2: refuses to execute ", ".open from a pickle"):
        cifar.read(path, md5={})
    assert not victim.exists()


@pytest.mark.parametrize(
    "name", ["builtins.eval", "os.system", "numpy.load", "numpy.core.multiarray.fromstring"]
)
def test_cifar_refuses_every_other_name(name: str, batches: Path) -> None:
    module, function = name.rsplit(".", 1)
    (batches / "test_batch").write_bytes(f"c{module}\n{function}\n.".encode())
    with refused(f"test_batch: refuses to execute {name} from a pickle"):
        cifar.read(batches, md5={})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "no data and labels in it: want a CIFAR-10 batch"),
        ({b"data": 1}, "no data and labels in it"),
        ({**batch(2), b"data": [1, 2]}, "data is list: want uint8 (n, 3072)"),
        (
            {**batch(2), b"data": np.zeros((2, 3071), np.uint8)},
            "data is uint8 (2, 3071): want uint8 (n, 3072)",
        ),
        ({**batch(2), b"data": np.zeros((2, 3072), np.int8)}, "data is int8 (2, 3072): want uint8"),
        (batch(2, [1, 2, 3]), "2 images but 3 labels: want as many of both"),
        (batch(2, [1, 10]), "labels 1..10: want 0..9"),
        (batch(2, ["cat", "dog"]), "not a readable CIFAR-10 batch (ValueError: "),
        (batch(0), "no images (shape (0, 32, 32, 3)): want at least one"),
    ],
)
def test_cifar_refuses_a_batch_of_another_form(content: object, message: str, batches: Path) -> None:
    (batches / "data_batch_3").write_bytes(pickle.dumps(content, protocol=4))
    with refused(f"{batches}/data_batch_3: {message}"):
        cifar.read(batches, md5={})


@pytest.mark.parametrize("data", [b"", b"not a pickle", pickle.dumps(batch(2), protocol=4)[:-100]])
def test_cifar_refuses_a_damaged_batch(data: bytes, batches: Path) -> None:
    (batches / "data_batch_3").write_bytes(data)
    with refused(f"{batches}/data_batch_3: not a readable CIFAR-10 batch ("):
        cifar.read(batches, md5={})


def test_cifar_names_the_batches_that_are_missing(batches: Path) -> None:
    (batches / "data_batch_2").unlink()
    (batches / "test_batch").unlink()
    with refused(f"{batches}: no data_batch_2, test_batch: want cifar-10-batches-py with data_batch_1, "):
        cifar.read(batches, md5={})


@pytest.mark.parametrize("name", ["cifar-10-batches-py.tar.xz", "cifar-10-python.tar.gz"])
def test_cifar_refuses_a_truncated_archive(name: str, batches: Path) -> None:
    path = packed(batches, name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with refused(f"{path}: not a readable tar archive ("):
        cifar.read(path, md5={})


# SVHN


def mat_bytes(zipped: bool = True, **changes: object) -> bytes:
    content = {
        "X": np.arange(32 * 32 * 3 * 3).astype(np.uint8).reshape(32, 32, 3, 3),
        "y": np.array([[10], [1], [9]], np.uint8),
        **changes,
    }
    file = io.BytesIO()
    scipy.io.savemat(
        file, {name: value for name, value in content.items() if value is not None}, do_compression=zipped
    )
    return file.getvalue()


def flipped(place: int, bits: int) -> bytes:
    content = bytearray(mat_bytes(zipped=False))
    content[place] ^= bits
    return bytes(content)


def test_svhn_reads_images_and_turns_label_10_into_0(tmp_path: Path) -> None:
    (tmp_path / "train.mat").write_bytes(mat_bytes())
    (tmp_path / "test.mat").write_bytes(mat_bytes(y=np.array([[2], [10], [3]], np.uint8)))
    data = svhn.read([tmp_path / "train.mat", tmp_path / "test.mat"])
    assert (data.train_labels.tolist(), data.test_labels.tolist()) == ([0, 1, 9], [2, 0, 3])
    assert data.train_images.shape == (3, 32, 32, 3)
    pixels = np.arange(32 * 32 * 3 * 3).astype(np.uint8).reshape(32, 32, 3, 3)
    assert np.array_equal(data.train_images[2], pixels[..., 2])
    assert (data.classes, data.signed, data.train_labels.dtype) == (10, True, np.int64)


@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=4).map(tuple),
    st.sampled_from("bBhHiIqQfd"),
    st.booleans(),
    st.text("aXy_1", min_size=1, max_size=9).filter(lambda name: name[0] in "aXy"),
)
def test_arrays_of_matlab_are_read_as_scipy_reads_them(shape, code, zipped, name):
    file = io.BytesIO()
    values = np.arange(math.prod(shape)).astype(code).reshape(shape)
    scipy.io.savemat(file, {name: values, "z": np.arange(3.0)}, do_compression=zipped)
    found, wanted = matlab.variables(file.getvalue()), scipy.io.loadmat(file)
    assert list(found) == [name, "z"]
    for each in found:
        assert found[each].dtype == wanted[each].dtype
        assert np.array_equal(found[each], wanted[each])


def level_4() -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, {"X": np.zeros((2, 2)), "y": np.zeros((2, 1))}, format="4")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable Matlab file of level 5 ("),
        (b"<html>no such page</html>" * 20, "not a readable Matlab file of level 5 ("),
        (mat_bytes()[:700], "not a readable Matlab file of level 5 ("),
        (mat_bytes(X=None), "no X and y in it: want an SVHN file of cropped digits"),
        (mat_bytes(y=None, z=1), "no X and y in it"),
        (mat_bytes() + mat_bytes()[128:], "X stands in it twice"),
        (mat_bytes() + b"\0" * 8, "an element of type 0: want arrays"),
        (mat_bytes(X=np.zeros((2, 2), complex)), "not a readable Matlab file of level 5 ("),
        (flipped(184, 0x40), "class 9, stored as 66: want real numbers"),  # ends scipy's reader with a fault
        (flipped(160, 0x40), "shape [96, 32, 3, 3] of 9216 bytes"),
        (level_4(), "not a readable Matlab file of level 5 (ValueError: no little-endian header of level 5)"),
        (mat_bytes(y=np.ones((3, 1))), "float64 y of shape (3, 1): want (32, 32, 3, n) and (n, 1) integers"),
        (mat_bytes(y=np.array([[1, 2, 3]])), "y of shape (1, 3): want (32, 32, 3, n) and (n, 1)"),
        (mat_bytes(y=np.array([[0], [1], [2]])), "labels 0..2: want 1..10 (10 is the digit 0)"),
        (mat_bytes(y=np.array([[9], [10], [11]])), "labels 9..11: want 1..10"),
        (mat_bytes(y=np.array([[1], [2]])), "3 images but 2 labels: want as many of both"),
        (mat_bytes(X=np.zeros((32, 32, 3, 3))), "float64 images in 0.0..0.0: want uint8 0..255"),
        (mat_bytes(X={"field": 1}), "not a readable Matlab file of level 5 ("),
        (mat_bytes(X=np.zeros((2, 2))), "X of shape (2, 2), uint8 y of shape (3, 1): want (32, 32, 3, n)"),
    ],
)
def test_svhn_refuses_a_file_of_another_form(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(data)
    with refused(f"{path}: ", message):
        svhn.read([path, path])


# digits


def test_digits_is_whole_scaled_and_fairly_split() -> None:
    from sklearn.datasets import load_digits

    data, bunch = load("digits"), load_digits()
    assert (data.train_images.shape, data.test_images.shape) == ((1437, 8, 8, 1), (360, 8, 8, 1))
    assert (data.classes, data.signed) == (10, False)
    assert np.abs(np.bincount(data.test_labels) - np.bincount(bunch.target) / 5).max() < 1
    levels = {int(v): round(int(v) * 255 / 16) for v in range(17)}
    test = every_fifth(bunch.target)[1]
    assert data.test_images[..., 0].tolist() == [
        [[levels[int(v)] for v in row] for row in image] for image in bunch.images[test]
    ]
    assert np.array_equal(data.test_labels, bunch.target[test])
    assert set(np.unique(data.train_images).tolist()) == set(levels.values())
    assert data.checksum == load("digits").checksum


def test_digits_names_the_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    with refused("digits: scikit-learn is not installed: pip install scikit-learn"):
        load("digits")


# .npz


def arrays(*names: str, **changes: object) -> dict[str, object]:
    """Ten images and labels under the first two names, four under the others."""
    parts = [grey(10), np.arange(10) % 5, grey(4), np.array([0, 1, 2, 4])]
    return {**dict(zip(names, parts, strict=False)), **changes}


OURS = ("train_images", "train_labels", "test_images", "test_labels")
KERAS = ("x_train", "y_train", "x_test", "y_test")


@pytest.mark.parametrize("names", [OURS, KERAS])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_reads_four_arrays(names: tuple[str, ...], save: Callable[..., None], tmp_path: Path) -> None:
    save(tmp_path / "mine.npz", **arrays(*names))
    data = load(str(tmp_path / "mine.npz"))
    assert (data.name, data.classes, data.signed) == ("mine", 5, False)
    assert (data.train_images.shape, data.test_images.shape) == ((10, 4, 3, 1), (4, 4, 3, 1))
    assert data.test_labels.tolist() == [0, 1, 2, 4]


def test_npz_splits_images_and_labels_by_every_fifth(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", images=grey(10), labels=np.repeat([0, 1], 5).astype(np.uint8))
    data = npz.read(tmp_path / "mine.npz")
    assert np.array_equal(data.test_images[..., 0], grey(10)[[0, 5]])
    assert np.array_equal(data.train_images[..., 0], np.delete(grey(10), [0, 5], axis=0))
    assert (data.test_labels.tolist(), data.train_labels.dtype) == ([0, 1], np.int64)


def test_npz_keeps_channels_and_takes_labels_as_columns(tmp_path: Path) -> None:
    images = np.full((4, 5, 6, 3), 200, np.uint8)
    np.savez(
        tmp_path / "mine.npz",
        **dict(zip(KERAS, [images, np.arange(4)[:, None], images, np.arange(4)], strict=True)),
    )
    assert load(str(tmp_path / "mine.npz")).train_images.shape == (4, 5, 6, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": grey(10) / 119}, " train: float64 images in 0.0..1.0: want uint8 0..255"),
        (
            {"test_images": np.full((4, 4, 3), np.nan, np.float32)},
            " test: float32 images with NaN: want uint8 0..255",
        ),
        ({"train_images": grey(10).astype(np.int64)}, " train: int64 images in 0..119: want uint8 0..255"),
        ({"train_images": np.full((10, 4, 3), "x")}, " train: <U1 images: want uint8 0..255"),
        ({"train_images": grey(10)[0]}, " train: images of shape (4, 3): want (n, height, width, channels)"),
        ({"train_images": grey(9)}, " train: 9 images but 10 labels: want as many of both"),
        ({"test_labels": np.arange(5)}, " test: 4 images but 5 labels: want as many of both"),
        ({"test_labels": np.array([0, 1, -1, 2])}, " test: labels -1..2: want 0 or more"),
        ({"train_labels": np.eye(10)}, " train: float64 labels of shape (10, 10): want (n,) integers"),
        ({"train_labels": np.arange(10.0)}, " train: float64 labels of shape (10,): want (n,) integers"),
        ({"test_labels": np.ones(4, bool)}, " test: bool labels of shape (4,): want (n,) integers"),
        ({"train_images": grey(0), "train_labels": np.arange(0)}, " train: no images (shape (0, 4, 3, 1))"),
        ({"test_images": grey(4)[:, :, :0]}, " test: no images (shape (4, 4, 0, 1))"),
        (
            {"train_images": np.array([None] * 10)},
            ": not a readable .npz file (ValueError: Object arrays cannot be",
        ),
    ],
)
def test_npz_refuses_arrays_of_another_form(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays(*OURS, **changes))
    with refused(f"{path}{message}"):
        npz.read(path)


def test_npz_refuses_test_images_of_another_size(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **arrays(*OURS, test_images=grey(4, 5, 5)))
    with refused("mine: training images of (4, 3, 1), test images of (5, 5, 1): want one size"):
        npz.read(tmp_path / "mine.npz")


def test_npz_refuses_one_image_that_cannot_be_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", images=grey(1), labels=np.zeros(1, int))
    with refused("mine train: no images (shape (0, 4, 3, 1)): want at least one"):
        npz.read(tmp_path / "mine.npz")


def test_npz_lists_what_it_found_in_the_place_of_missing_keys(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", jpeg=grey(1), train_images=grey(1))
    with refused("mine.npz: has jpeg, train_images: want train_images, train_labels, ", " or images, labels"):
        npz.read(tmp_path / "mine.npz")
    np.savez(tmp_path / "mine.npz")
    with refused("mine.npz: has nothing: want "):
        npz.read(tmp_path / "mine.npz")


def test_npz_refuses_what_is_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    with refused(f"{path}: no such file"):
        load(str(path))
    np.savez(path, **arrays(*OURS))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[200] ^= 255
    for data in (b"", b"not a zip", whole[: len(whole) // 2], whole[:-5], bytes(flipped), pickle.dumps([1])):
        path.write_bytes(data)
        with refused(f"{path}: not a readable .npz file ("):
            npz.read(path)
    with path.open("wb") as file:
        np.save(file, grey(2))
    with refused(f"{path}: not a readable .npz file (ValueError: one array: want an .npz of several)"):
        npz.read(path)


# .npz: what it may mean


def mine(folder: Path, **content: object) -> Path:
    """An .npz of 60 images of three classes, as it should be but for what is given."""
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8)).astype(np.uint8)
    content = {"images": images, "labels": np.arange(60) % 3, **content}
    np.savez(folder / "mine.npz", **{name: value for name, value in content.items() if value is not None})
    return folder / "mine.npz"


def pixels(*shape: int, top: int = 255) -> np.ndarray:
    return np.random.default_rng(1).integers(0, top + 1, (60, *shape)).astype(np.uint8)


def four(train: np.ndarray, test: np.ndarray, **more: object) -> dict[str, object]:
    parts = {
        "train_images": pixels(8, 8),
        "train_labels": train,
        "test_images": pixels(8, 8),
        "test_labels": test,
    }
    return {"images": None, "labels": None, **parts, **more}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": pixels(8, 8, top=16)}, "largest grey level 16 of 255: scale .* such as images \\* 15$"),
        ({"images": pixels(8, 8, top=1)}, "largest grey level 1 of 255: scale .* such as images \\* 255$"),
        ({"images": pixels(8, 8, top=63)}, "largest grey level 63 of 255"),
        ({"images": pixels(8, 8, top=0)}, "largest grey level 0 of 255: all images are black$"),
        (
            {"labels": np.arange(60) % 3 + 1},
            r"labels 1\.\.3: no image has label 0, .* want 0\.\.2, as labels - 1 ",
        ),
        (
            {"labels": np.arange(60) % 3 * 100},
            r"3 of the labels 0\.\.200 occur, .* 201 outputs; want 0\.\.2, as np",
        ),
        ({"labels": np.arange(60) % 3 + 5}, r"3 of the labels 0\.\.7 occur"),
        ({"images": pixels(8, 8, 8)}, "images of 8 channels: a volume\\? the last axis is read as channels$"),
        (four(np.arange(60) % 2, np.arange(60) % 4), "test labels 2, 3: no training image has them$"),
        (four(np.arange(60) % 2, np.arange(60) % 9), r"test labels 2, 3, 4, 5, 6, \.\.\.: no training image"),
    ],
)
def test_an_npz_that_may_mean_something_else_is_told(content: dict, message: str, tmp_path: Path) -> None:
    path = mine(tmp_path, **content)
    with pytest.warns(DoubtWarning, match=rf"^{path}: {message}") as told:
        load(str(path))
    assert len(told) == 1


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"images": pixels(8, 8, top=64) | np.uint8(64)},
        {"images": pixels(8, 8, 3)},
        {"images": pixels(8, 8, 4)},
        {"images": pixels(3, 8, 3)},
        {"images": pixels(3, 3)},
        four(np.arange(60) % 4, np.arange(60) % 3),
    ],
)
def test_an_npz_as_it_should_be_is_read_without_a_word(content: dict, tmp_path: Path) -> None:
    load(str(mine(tmp_path, **content)))  # a warning is an error here


@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 28, 20), (4, 9, 5)])
def test_an_npz_with_its_channels_first_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = mine(tmp_path, images=pixels(*shape))
    with refused(
        f"{path}: images {shape}: channels first? want (height, width, channels), as images.transpose(0, 2, "
    ):
        load(str(path))
    path = mine(tmp_path, images=pixels(*shape).transpose(0, 2, 3, 1))
    assert load(str(path)).input_shape == (*shape[1:], shape[0])


def test_an_npz_of_one_class_is_refused(tmp_path: Path) -> None:
    path = mine(tmp_path, labels=np.full(60, 2))
    with refused(f"{path}: one class only, every training label is 2: want two or more"):
        load(str(path))


@pytest.mark.parametrize(
    ("shape", "key", "signed"),
    [
        ((8, 8), None, False),
        ((8, 8, 1), None, False),
        ((8, 8, 3), None, True),
        ((8, 8, 4), None, False),
        ((8, 8, 3), np.array(False), False),
        ((8, 8), np.array(True), True),
        ((8, 8), np.array([True]), True),
    ],
)
def test_the_sign_of_the_input_is_the_key_s_or_the_colours(
    shape: tuple[int, ...], key: np.ndarray | None, signed: bool, tmp_path: Path
) -> None:
    assert load(str(mine(tmp_path, images=pixels(*shape), signed=key))).signed is signed


@pytest.mark.parametrize("key", [np.array(1), np.array("yes"), np.array([True, False])])
def test_a_sign_that_is_none_is_refused(key: np.ndarray, tmp_path: Path) -> None:
    with refused(f"{mine(tmp_path, signed=key)}: signed is ", ": want one bool"):
        npz.read(tmp_path / "mine.npz")


@pytest.mark.parametrize("names", [OURS, KERAS])
def test_the_data_s_own_validation_part_is_for_validation(names: tuple[str, ...], tmp_path: Path) -> None:
    val = ("val_images", "val_labels") if names == OURS else ("x_val", "y_val")
    content = arrays(*names, **{val[0]: grey(6)[::-1], val[1]: np.arange(6)[:, np.newaxis] % 5})
    np.savez(tmp_path / "mine.npz", **content)
    data = load(str(tmp_path / "mine.npz"))
    part = data.split(4)
    assert np.array_equal(part.test_images[..., 0], grey(6)[::-1][:4])
    assert part.test_labels.tolist() == [0, 1, 2, 3]
    assert np.array_equal(part.train_images, data.train_images), "all of them train"
    for validation in (0, 7):
        with refused(f"validation={validation}: want 1..6, the validation images of mine"):
            data.split(validation)
    np.savez(tmp_path / "mine.npz", **{**content, val[1]: np.arange(5)})
    with refused(f"{tmp_path}/mine.npz val: 6 images but 5 labels"):
        load(str(tmp_path / "mine.npz"))


def test_lists_are_the_arrays_that_they_would_be() -> None:
    images, labels = [[[[0], [255]]], [[[3], [4]]]], [0, 1]
    data = Dataset("lists", images, labels, images, labels, 2, False)  # type: ignore[arg-type]
    assert (data.train_images.dtype, data.train_images.shape) == (np.uint8, (2, 1, 2, 1))
    assert data.test_labels.tolist() == labels
    for wrong in ([[[[0], [256]]]] * 2, [[[[0.5], [1]]]] * 2):
        with refused("images", ": want uint8 0..255"):
            Dataset("lists", wrong, labels, images, labels, 2, False)  # type: ignore[arg-type]


def test_data_dir_with_another_form_of_the_data_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: Path
) -> None:
    (tmp_path / "given" / "cifar-10-batches-bin").mkdir(parents=True)
    monkeypatch.setenv(files.VARIABLE, str(batches.parent))
    monkeypatch.setattr(cifar.read, "__defaults__", ({},))
    with pytest.warns(
        DoubtWarning,
        match=rf"^data_dir={tmp_path}/given: no cifar-10 in it, want cifar-10-batch.*; read from {batches}$",
    ):
        data = load("cifar-10", tmp_path / "given")
    assert data.source == str(batches)
    assert load("cifar-10", batches.parent).source == str(batches), "without a word"


def test_an_npz_that_was_moved_is_found_by_its_name(tmp_path: Path) -> None:
    path = mine(tmp_path)
    checksum = load(str(path)).checksum
    (tmp_path / "new").mkdir()
    path.rename(tmp_path / "new" / "mine.npz")
    with refused(f"{path}: no such file"):
        load(str(path))
    data = load(str(path), tmp_path / "new")
    assert (data.checksum, data.source) == (checksum, str(tmp_path / "new" / "mine.npz"))


@pytest.mark.parametrize(
    ("name", "meant"), [("mnits", "mnist"), ("cifar100", "cifar-10"), ("Fashon-MNIST", "fashion-mnist")]
)
def test_a_name_that_is_nearly_one(name: str, meant: str) -> None:
    with refused(f"data {name!r}: want digits, ", f"; did you mean {meant}?"):
        load(name)


def test_a_pickle_changes_nothing_of_its_reader(batches: Path) -> None:
    """BUILD sets attributes of whatever is on the stack, the reader's own functions too."""
    before = dict(cifar._Unpickler._allowed)
    for module, name in before:
        attack = f"\x80\x02c{module}\n{name}\nN}}(X\x0c\x00\x00\x00__defaults__)u\x86b.".encode()
        (batches / "test_batch").write_bytes(attack)
        with refused("test_batch: "):
            cifar.read(batches, md5={})
        assert not hasattr(before[module, name], "__defaults__")
    assert cifar._Unpickler._allowed == before


# images that stay in their file


@pytest.fixture(params=["npz", "compressed", "folder"])
def stored_data(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Dataset, Dataset]:
    """The same data in memory, and stored."""
    rng = np.random.default_rng(0)
    content = {
        "train_images": rng.integers(0, 256, (50, 6, 5, 3)).astype(np.uint8),
        "train_labels": np.arange(50) % 5,
        "test_images": rng.integers(0, 256, (20, 6, 5, 3)).astype(np.uint8),
        "test_labels": np.arange(20) % 5,
    }
    path = tmp_path / ("arrays" if request.param == "folder" else "mine.npz")
    if request.param == "folder":
        path.mkdir()
        for name, array in content.items():
            np.save(path / f"{name}.npy", array)
    else:
        (np.savez if request.param == "npz" else np.savez_compressed)(path, **content)
    whole = load(str(path))
    monkeypatch.setattr(stored, "IN_MEMORY", 100)
    monkeypatch.setattr(stored, "PART", 700)
    return whole, load(str(path))


def test_stored_images_are_those_in_memory(stored_data: tuple[Dataset, Dataset]) -> None:
    whole, data = stored_data
    for images, there in ((whole.train_images, data.train_images), (whole.test_images, data.test_images)):
        assert isinstance(images, np.ndarray)
        assert isinstance(there, stored.StoredImages)
        assert (there.shape, there.size, len(there), there.dtype) == (
            images.shape, images.size, len(images), images.dtype,
        )  # fmt: skip
        order = np.random.default_rng(1).permutation(len(images))
        for key in (order, order[:0], order[:1], np.arange(3, 9), np.array([4, 4, 0]), order > 7, 3, -1):
            assert np.array_equal(there[key], images[key])
        for part in (slice(5), slice(-5, None), slice(2, 30, 3)):
            assert np.array_equal(np.asarray(there[part]), images[part])
            assert np.array_equal(there[part][np.array([1, 0])], images[part][np.array([1, 0])])
        assert np.array_equal(
            np.asarray(there.take(order > 7).take(np.array([2, 1]))), images[order > 7][[2, 1]]
        )
        assert np.array_equal(there.middle(4), whole.windowed(4).test_images) or images is whole.train_images
    assert (whole.checksum, whole.signed) == (data.checksum, data.signed)
    for change in (
        lambda d: d.split(7),
        lambda d: d.subset(9, 4),
        lambda d: d.only_classes(1, 3),
        lambda d: d.windowed(4),
        lambda d: d.split(7).windowed(5).subset(9),
    ):
        assert change(data).checksum == change(whole).checksum


def test_stored_images_are_split_without_reading_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mine(tmp_path)
    whole = load(str(path))
    monkeypatch.setattr(stored, "IN_MEMORY", 100)
    data = load(str(path))
    assert isinstance(data.train_images, stored.StoredImages)
    assert data.checksum == whole.checksum


def test_a_stored_file_that_is_damaged_or_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "IN_MEMORY", 100)
    path = mine(tmp_path)
    data, content = load(str(path)), path.read_bytes()
    path.write_bytes(content[:2000])
    with refused(f"{path}: ends at byte 2000: it was cut short after it was opened"):
        data.train_images[np.arange(len(data.train_images))]
    flipped = bytearray(content)
    flipped[1000] ^= 1
    path.write_bytes(flipped)
    with refused(f"{path}: not a readable .npz file (BadZipFile: Bad CRC-32 for file 'images.npy')"):
        load(str(path))
    with refused("mine.npz images: float64 images: want uint8 0..255"):
        load(str(mine(tmp_path, images=pixels(8, 8) / 255)))


def test_what_unpacks_to_more_than_the_disk_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "IN_MEMORY", 100)
    monkeypatch.setattr(stored.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 3839))
    path = mine(tmp_path)
    load(str(path))  # it is not compressed
    np.savez_compressed(path, images=pixels(8, 8), labels=np.arange(60) % 3)
    with refused(
        f"{path}: unpacks to 3.8 KiB; ", " has 3.7 KiB, want another folder as $TMPDIR, or arrays that"
    ):
        load(str(path))


def test_a_folder_of_arrays_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "arrays").mkdir()
    with refused("data ", "arrays': want digits, "):
        load(str(tmp_path / "arrays"))
    np.save(tmp_path / "arrays" / "images.npy", grey(9))
    with refused("arrays: has images: want train_images"):
        load(str(tmp_path / "arrays"))
    (tmp_path / "arrays" / "labels.npy").write_bytes(b"no array")
    with refused("arrays: not a readable folder of .npy files (ValueError: "):
        load(str(tmp_path / "arrays"))


def test_a_run_on_stored_images_gives_the_bits_of_one_in_memory(
    stored_data: tuple[Dataset, Dataset], tmp_path: Path, assert_same_state, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []
    for i, (size, kind) in enumerate(((1 << 26, np.ndarray), (100, stored.StoredImages))):
        monkeypatch.setattr(stored, "IN_MEMORY", size)
        config = Config(
            data=stored_data[0].source, network="8FC", epochs=2, augment="crop1-flip", rules=Rules(batch=8)
        )
        (tmp_path / str(i)).mkdir()
        run = Run.start(config, tmp_path / str(i))
        assert isinstance(run.data.train_images, kind)
        with run.engine("numpy") as engine:
            run.fit(engine)
        states.append(run.saved.state)
        assert Run.resume(tmp_path / str(i)).finished
    assert_same_state(*states)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("form", ["npz", "folder"])
def test_ten_times_the_images_take_little_more_memory(form: str, tmp_path: Path) -> None:
    """600,000 images of 28x28 against 10,000: less than 100 MiB at the peak of a run of one epoch."""
    code = (
        "import sys; from pathlib import Path; from experiments.runs.training import Config, Run\n"
        "run = Run.start(Config(data=sys.argv[1], network='32FC', epochs=1), Path(sys.argv[2]))\n"
        "with run.engine('numpy') as engine: run.fit(engine)\n"
        # ru_maxrss would have that of this process, from before the child's own began
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    peaks, rng = [], np.random.default_rng(0)
    for n in (10_000, 600_000):
        content = {"images": rng.integers(0, 256, (n, 28, 28), np.uint8), "labels": np.arange(n) % 10}
        path = tmp_path / f"{n}.npz"
        if form == "folder":
            path = tmp_path / str(n)
            path.mkdir()
            for name, array in content.items():
                np.save(path / f"{name}.npy", array)
        else:
            np.savez(path, **content)
        (tmp_path / f"run-{n}").mkdir()
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), str(tmp_path / f"run-{n}")],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 100 * 1024, "KiB"


# Tiny-ImageNet: JPEGs in one .npz file


def colour(red: int, green: int, blue: int) -> np.ndarray:
    return np.full((64, 64, 3), (red, green, blue), np.uint8)


def jpeg(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    return file.getvalue()


def joined(part: str, images: list[bytes], labels: list[int]) -> dict[str, np.ndarray]:
    return {
        f"{part}_jpeg": np.frombuffer(b"".join(images), np.uint8),
        f"{part}_off": np.cumsum([0, *map(len, images)]),
        f"{part}_y": np.array(labels, np.uint8),
    }


RED, GREEN, GREY = (
    jpeg(image) for image in (colour(200, 0, 0), colour(0, 200, 0), colour(90, 90, 90)[..., 0])
)
PHOTOS = {
    "names": np.array(["red", "green"]),
    **joined("train", [RED, RED, RED, GREEN, GREEN], [0, 0, 0, 1, 1]),
    **joined("val", [GREEN, GREY], [1, 0]),
}


def test_tiny_imagenet(tmp_path: Path) -> None:
    path = tmp_path / "photos.npz"
    np.savez(path, **PHOTOS)
    data = tiny_imagenet.read(path)
    assert (data.classes, data.names, data.signed) == (2, ("red", "green"), True)
    assert data.train_labels.tolist() == [0, 1, 0, 1, 0], "the classes take turns"
    assert data.test_labels.tolist() == [0, 1]
    assert data.train_labels.dtype == np.int64
    wanted = [colour(200, 0, 0), colour(0, 200, 0)]
    for images, labels in ((data.train_images, data.train_labels), (data.test_images[1:], [1])):
        for image, label in zip(images, labels, strict=True):
            assert np.abs(image.astype(int) - wanted[label]).max() <= 2, "colours, as far as JPEG keeps them"
    assert np.abs(data.test_images[0].astype(int) - 90).max() <= 1, "grey is the same in every colour"
    assert [data.called(label) for label in (0, 1)] == ["0 red", "1 green"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_y": None}, ": no val_y in it: want names, train_jpeg, "),
        (
            {"train_y": np.zeros(4, np.uint8)},
            " train: uint8 bytes, int64 places of shape (6,), 4 labels: want ",
        ),
        ({"train_jpeg": np.zeros(9)}, " train: float64 bytes, "),
        ({"val_off": np.array([0, 9, 5])}, " val: places 0..5: want 0.."),
        ({"val_off": np.array([0, 10**6, len(GREEN + GREY)])}, " val: places 0.."),
        ({"val_y": np.array([0, 2])}, " val: labels 0..2: want 0..1"),
        (joined("val", [GREEN, b"not a picture"], [1, 0]), " val image 1: not a readable JPEG ("),
        (joined("val", [GREEN, GREY[: len(GREY) // 2]], [1, 0]), " val image 1: not a readable JPEG ("),
        (joined("val", [jpeg(colour(1, 2, 3)[:60]), GREY], [1, 0]), " val image 0: 64x60: want 64x64"),
    ],
)
def test_a_tiny_imagenet_of_another_form(change: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / "photos.npz"
    np.savez(path, **{key: value for key, value in {**PHOTOS, **change}.items() if value is not None})
    with refused(f"{path}{message}"):
        tiny_imagenet.read(path)


def test_a_damaged_tiny_imagenet(tmp_path: Path) -> None:
    path = tmp_path / "photos.npz"
    np.savez(path, **PHOTOS)
    path.write_bytes(path.read_bytes()[:-50])
    with refused(f"{path}: not a readable .npz file ("):
        tiny_imagenet.read(path)
    with refused(
        "not the published file of tiny-imagenet-20: md5 ",
        ": want 09658fdce49ed2b4237eddc999bcf0a7; remove the file",
    ):
        (tmp_path / "tiny_imagenet_20_jpeg.npz").write_bytes(path.read_bytes())
        load("tiny-imagenet-20", tmp_path)


# ImageNet: a folder of JPEGs a class


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """Two classes, 3 + 2 and 1 + 1 images, of other sizes than 256x256; one of them grey."""
    folder = tmp_path / "imagenet"
    wide, grey_photo = np.repeat(colour(200, 0, 0), 2, axis=1), colour(90, 90, 90)[:40, :, 0]
    for part, name, images in (
        ("train", "n01", [colour(200, 0, 0), wide, wide[:50]]),
        ("train", "n02", [colour(0, 200, 0), grey_photo]),
        ("val", "n01", [wide]),
        ("val", "n02", [colour(0, 200, 0)]),
    ):
        (folder / part / name).mkdir(parents=True)
        for i, image in enumerate(images):
            (folder / part / name / f"{part}_{name}_{i}.JPEG").write_bytes(jpeg(image))
    return folder


def test_imagenet_is_decoded_when_it_is_asked_for(imagenet: Path) -> None:
    data = load("imagenet", imagenet.parent)
    assert (data.classes, data.names, data.signed) == (2, ("n01", "n02"), True)
    assert data.train_images.shape == (5, 256, 256, 3)
    assert sorted(data.train_labels.tolist()) == [0, 0, 0, 1, 1]
    index = np.array([3, 0, 4])
    for image, label, i in zip(data.train_images[index], data.train_labels[index], index, strict=True):
        assert data.train_images.paths[i].parent.name == f"n0{label + 1}"
        assert np.ptp(image.reshape(-1, 3), axis=0).max() <= 2, "one colour"
        centre = image[128, 128].astype(int)
        assert min(np.abs(centre - c).max() for c in ([200, 0, 0], [0, 200, 0], [90] * 3)) <= 3
    whole = data.checksum
    part = data.split(2)
    assert (part.train_images.shape[0], part.test_images.shape[0]) == (3, 2)
    assert np.array_equal(np.asarray(part.test_images), data.train_images[np.array([3, 4])])
    windowed = data.windowed(224)
    assert windowed.test_images.shape == (2, 224, 224, 3)
    assert np.array_equal(np.asarray(windowed.test_images), np.asarray(data.test_images)[:, 16:240, 16:240])
    assert len({whole, part.checksum, windowed.checksum}) == 3
    data.train_images.paths[0].write_bytes(b"no picture")
    assert load("imagenet", imagenet.parent).checksum != whole
    with refused(f"{data.train_images.paths[0]}: not a readable image ("):
        data.train_images[np.array([0])]


def test_an_imagenet_of_another_form(imagenet: Path, tmp_path: Path) -> None:
    with refused(
        "imagenet: train not found; put imagenet/train, imagenet/val, each a folder of JPEGs a class, from"
        " https://image-net.org/download.php, into ../shared/data or $WAGE_NEURO_DATA"
    ):
        load("imagenet", tmp_path / "cwd")
    (imagenet / "train" / "n03").mkdir()
    with refused(f"{imagenet}/train and {imagenet}/val: 3 and 2 classes, n03 in one only"):
        load("imagenet", tmp_path)
    (imagenet / "val" / "n03").mkdir()
    with refused(f"{imagenet}/train/n03: no images in it: want .jpeg, .jpg, .png"):
        load("imagenet", tmp_path)
    with refused(f"{tmp_path / 'cwd'}: no folders in it: want one for each class"):
        photos.read_imagenet(tmp_path / "cwd", imagenet / "val")


def test_a_run_on_photos_in_files(imagenet: Path, tmp_path: Path) -> None:
    """ImageNet's own preset, as small as can be: windows of 224, an unquantized layer, softmax."""
    config = replace(EXPERIMENTS["imagenet-alexnet"]["2888"], network="2C11S4-MP3S2-FCU", epochs=1)
    config = replace(config, rules=replace(config.rules, batch=2), eta="4")
    run = Run.start(config, tmp_path, imagenet.parent)
    with run.engine("numpy") as engine:
        (row,) = run.fit(engine)
    assert row["samples"] == 4
    assert str(run.network) == "2C11S4-MP3S2-F-2FCU"
    assert Run.resume(tmp_path, data_dir=imagenet.parent).finished


# The real files, where they are


def real(name: str) -> Dataset:
    found = files.find(files.SOURCES[name], REAL) if REAL.is_dir() else [None]
    if None in found:
        pytest.skip(f"{name} is not in ../shared/data")
    return load(name, REAL, download=False)


# The means are the ones everybody divides by: 0.1307 for MNIST, 0.2860 for Fashion-MNIST.
@pytest.mark.parametrize(
    ("name", "labels", "counts", "mean"),
    [
        (
            "mnist",
            [5, 0, 4, 1, 9],
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            0.1307,
        ),
        ("fashion-mnist", [9, 0, 0, 3, 0], [6000] * 10, 0.2860),
    ],
)
def test_real_idx_files(name: str, labels: list[int], counts: list[int], mean: float) -> None:
    data = real(name)
    assert (data.train_images.shape, data.test_images.shape) == ((60000, 28, 28, 1), (10000, 28, 28, 1))
    assert data.train_labels[:5].tolist() == labels
    assert np.bincount(data.train_labels).tolist() == counts
    assert round(float(data.train_images.mean()) / 255, 4) == mean


def test_real_mnist_begins_with_its_five() -> None:
    row = real("mnist").train_images[0, 5, :, 0].tolist()
    assert row == [0] * 12 + [3, 18, 18, 18, 126, 136, 175, 26, 166, 255, 247, 127] + [0] * 4


@pytest.mark.slow
def test_real_cifar_10() -> None:
    data = real("cifar-10")
    assert (data.train_images.shape, data.test_images.shape) == ((50000, 32, 32, 3), (10000, 32, 32, 3))
    assert np.bincount(data.train_labels).tolist() == [5000] * 10
    assert np.bincount(data.test_labels).tolist() == [1000] * 10
    assert data.train_labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert data.train_images[0, 0, 0].tolist() == [59, 62, 63]
    means = data.train_images.reshape(-1, 3).mean(axis=0) / 255
    assert means.round(4).tolist() == [0.4914, 0.4822, 0.4465]  # red, green, blue, as published
