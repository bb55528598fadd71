"""Where the files of the public data sets are: look for them, check them, fetch them."""

from __future__ import annotations

import hashlib
import os
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from wage_neuro.errors import DataError, DoubtWarning

VARIABLE = "WAGE_NEURO_DATA"

# In the order the readers take them: images and labels for training, then for test.
IDX_FILES = tuple(
    (name, f"{name}.gz")
    for name in (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
)


@dataclass(frozen=True)
class Source:
    """The files of one data set and the public place they come from.

    `files` has one tuple for each file that is needed: the names it may have, of which the last is the one
    to download from `url`. `md5` is by file name; what has no entry (a folder, a repacked archive) is left
    to its reader to check inside. `by_hand` says how files are got that
    cannot be downloaded.
    """

    folder: str
    what: str
    licence: str
    url: str
    files: tuple[tuple[str, ...], ...]
    md5: Mapping[str, str]
    by_hand: str = ""


SOURCES = {
    "mnist": Source(
        folder="mnist",
        what="60,000 + 10,000 images of 28x28x1, 10 classes",
        licence="CC BY-SA 3.0 (Y. LeCun, C. Cortes, C. J. C. Burges)",
        url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        files=IDX_FILES,
        md5={
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fashion-mnist": Source(
        folder="fashion-mnist",
        what="60,000 + 10,000 images of 28x28x1, 10 classes",
        licence="MIT (Zalando SE)",
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        files=IDX_FILES,
        md5={
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
    "cifar-10": Source(
        folder="cifar-10",
        what="50,000 + 10,000 images of 32x32x3, 10 classes",
        licence="none stated; cite A. Krizhevsky, 2009",
        url="https://www.cs.toronto.edu/~kriz/",
        files=(("cifar-10-batches-py", "cifar-10-batches-py.tar.xz", "cifar-10-python.tar.gz"),),
        md5={"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
    ),
    "svhn": Source(
        folder="svhn",
        what="73,257 + 26,032 images of 32x32x3, 10 classes",
        licence="non-commercial use only (Stanford)",
        url="http://ufldl.stanford.edu/housenumbers/",
        files=(("train_32x32.mat",), ("test_32x32.mat",)),
        md5={
            "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
            "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
        },
    ),
    "tiny-imagenet-20": Source(
        folder="tiny-imagenet-20",
        what="10,000 + 1,000 images of 64x64x3, 20 classes of Tiny-ImageNet-200",
        licence="non-commercial research only (ImageNet)",
        url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        files=(("tiny_imagenet_20_jpeg.npz",),),
        md5={"tiny_imagenet_20_jpeg.npz": "09658fdce49ed2b4237eddc999bcf0a7"},
        by_hand="packed from",
    ),
    "imagenet": Source(
        folder="imagenet",
        what="1,281,167 + 50,000 images, resized to 256x256x3, 1,000 classes: ILSVRC 2012",
        licence="non-commercial research only (ImageNet)",
        url="https://image-net.org/download.php",
        files=(("train",), ("val",)),
        md5={},
        by_hand="each a folder of JPEGs a class, from",
    ),
    "omniglot": Source(
        folder="omniglot",
        what="24,345 + 8,115 drawings, 28x28x1, 1,623 classes",
        licence="MIT (B. Lake)",
        url="https://github.com/brendenlake/omniglot",
        files=(("images_background",), ("images_evaluation",)),
        md5={},
        by_hand="unpacked, from",
    ),
    "core50": Source(
        folder="core50",
        what="about 120,000 + 45,000 frames of 32x32x3, 50 objects in 11 sessions",
        licence="CC BY 4.0 (V. Lomonaco, D. Maltoni)",
        url="https://vlomonaco.github.io/core50/",
        files=(("core50_32x32",),),
        md5={},
        by_hand="unpacked, from",
    ),
    "mswc": Source(
        folder="mswc",
        what="spoken words as 49x32x1, 100 base words and ten of ten languages each: NeuroBench's keywords",
        licence="CC BY 4.0 (MLCommons)",
        url="https://huggingface.co/datasets/NeuroBench/mswc_fscil_subset",
        files=(("MSWC",),),
        md5={},
        by_hand="unpacked, with 16 kHz wav files, from",
    ),
}


@contextmanager
def reading(path: Path, form: str) -> Iterator[None]:
    """Turn whatever a parser raises on a damaged file into one DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # gzip, lzma, tarfile, zipfile, pickle and zlib each raise their own
        raise DataError(f"{path}: not a readable {form} ({brief(error)})") from error


def brief(error: Exception) -> str:
    """Name and text of an error on one line of at most 200 characters.

    >>> brief(ValueError("two  words,\\nthree lines"))
    'ValueError: two words, three lines'
    """
    return textwrap.shorten(f"{type(error).__name__}: {error}".removesuffix(": "), 200, placeholder=" ...")


def check_md5(where: str, found: str, wanted: str | None) -> None:
    """Raise a DataError when an md5 is not the published one; wanted=None knows none."""
    if wanted is not None and found != wanted:
        raise DataError(
            f"{where}: md5 {found}: want {wanted}; remove the file and get it again: it is damaged, or of"
            " another data set whose files have the same names (one of your own goes into an .npz)"
        )


def md5_of(data: bytes) -> str:
    """Md5 of bytes, as hex.

    >>> md5_of(b"")
    'd41d8cd98f00b204e9800998ecf8427e'
    """
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def cache_dir() -> Path:
    """Folder that downloads go to."""
    import pooch

    return Path(pooch.os_cache("wage-neuro"))


def places(data_dir: Path | None = None) -> list[Path]:
    """Folders to look in, in this order: data_dir, $WAGE_NEURO_DATA, ../shared/data, the user's cache.

    ../shared/data is tried beside the current folder and beside the repository this file is in.

    Raises
    ------
    DataError
        If data_dir or $WAGE_NEURO_DATA is given but is no folder.
    """
    named = {"data_dir": data_dir, f"${VARIABLE}": os.environ.get(VARIABLE)}
    asked = []
    for name, folder in named.items():
        if folder:
            if not Path(folder).is_dir():
                raise DataError(f"{name}={folder}: no such folder")
            asked.append(Path(folder))
    repository = Path(__file__).resolve().parents[2]
    return [*asked, *(up.parent / "shared" / "data" for up in (Path.cwd(), repository)), cache_dir()]


def find(source: Source, data_dir: Path | None = None) -> list[Path | None]:
    """First place each file of a source is found in, as <place>/<folder>/<file> or <place>/<file>."""
    folders = [folder for place in places(data_dir) for folder in (place / source.folder, place)]
    return [
        next((folder / name for folder in folders for name in names if (folder / name).exists()), None)
        for names in source.files
    ]


def moved(path: Path, data_dir: Path | None = None) -> Path:
    """The path, or where a file of its name is now; the path itself where none is."""
    if path.exists():
        return path
    return next((place / path.name for place in places(data_dir) if (place / path.name).is_file()), path)


def get(name: str, data_dir: Path | None = None, download: bool = True) -> list[Path]:
    """Paths of the files of a data set, found or downloaded, each with the md5 that was published.

    Raises
    ------
    DataError
        If a file is missing and cannot be downloaded, or has another md5.
    """
    import pooch

    source = SOURCES[name]
    paths = []
    there = find(source, data_dir)
    found_here = [path.is_relative_to(data_dir) for path in there if path] if data_dir else [True]
    if found_here and not any(found_here):
        forms = ", ".join(" or ".join(names) for names in source.files)
        line = f"data_dir={data_dir}: no {name} in it, want {forms}; read from {there[0]}"
        warnings.warn(line, DoubtWarning, stacklevel=2)
    for names, found in zip(source.files, there, strict=True):
        path = found or _download(name, names[-1], download)
        wanted = source.md5.get(path.name)
        if wanted and path.is_file():
            with reading(path, "file"):
                check_md5(
                    f"{path}: not the published file of {name}", pooch.file_hash(str(path), alg="md5"), wanted
                )
        paths.append(path)
    return paths


def how_to_get(name: str) -> str:
    """Which files of a data set to put where, by hand.

    >>> how_to_get("svhn")  # doctest: +ELLIPSIS
    'put svhn/train_32x32.mat, svhn/test_32x32.mat from http://... into ../shared/data or $WAGE_NEURO_DATA'
    """
    source = SOURCES[name]
    wanted = ", ".join(f"{source.folder}/{names[-1]}" for names in source.files)
    origin = f", {source.by_hand} {source.url}," if source.by_hand else f" from {source.url}"
    return f"put {wanted}{origin} into ../shared/data or ${VARIABLE}"


def _download(name: str, file: str, allowed: bool) -> Path:
    """Download one file into the cache; pooch moves it there only when it is whole and its md5 is right."""
    source = SOURCES[name]
    if source.by_hand or not allowed:
        raise DataError(f"{name}: {file} not found; {how_to_get(name)}")
    import pooch

    pooch.get_logger().setLevel("WARNING")  # the bar says it
    try:
        with _Bar(file) as bar:
            return Path(
                pooch.retrieve(
                    source.url + file,
                    known_hash=f"md5:{source.md5[file]}",
                    fname=file,
                    path=cache_dir() / source.folder,
                    downloader=pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 18),
                )
            )
    except Exception as error:  # no network, a proxy's answer, a full disk, a wrong checksum
        message = f"{name}: {file} not found and not downloaded ({brief(error)}); {how_to_get(name)}"
        raise DataError(message) from error


class _Bar:
    """Rich's progress bar on stderr, in the form pooch asks for: total, update, reset, close.

    It shows from the first byte on, so a download that never starts leaves its error alone on the screen.
    """

    def __init__(self, file: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task(file, total=None)
        self.total = 0

    def __enter__(self) -> _Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def update(self, size: int) -> None:
        self._progress.start()
        self._progress.update(self._task, total=self.total or None, advance=size)

    def reset(self) -> None:
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        if self._progress.live.is_started:
            self._progress.stop()
