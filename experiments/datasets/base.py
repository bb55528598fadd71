"""The form every data set has here: uint8 images, int64 labels, a training and a test part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from wage_neuro.errors import DataError


def check_pair(where: str, images: np.ndarray, labels: np.ndarray, classes: int | None) -> None:
    """Refuse images and labels that do not belong together; `where` opens the message.

    Raises
    ------
    DataError
        If images are not (n, height, width, channels) uint8 with n > 0, labels are not (n,) integers,
        or a label is outside 0..classes - 1 (classes=None: below 0).
    """
    if images.dtype != np.uint8:
        raise DataError(f"{where}: {images.dtype} images{_span(images)}: want uint8 0..255")
    if images.ndim != 4:
        raise DataError(f"{where}: images of shape {images.shape}: want (n, height, width, channels)")
    if images.size == 0:
        raise DataError(f"{where}: no images (shape {images.shape}): want at least one")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(f"{where}: {labels.dtype} labels of shape {labels.shape}: want (n,) integers")
    if len(images) != len(labels):
        raise DataError(f"{where}: {len(images)} images but {len(labels)} labels: want as many of both")
    low, high = labels.min(), labels.max()
    if low < 0 or (classes is not None and high >= classes):
        wanted = "0 or more" if classes is None else f"0..{classes - 1}"
        raise DataError(f"{where}: labels {low}..{high}: want {wanted}")


def _span(values: np.ndarray) -> str:
    """' in low..high', ' with NaN', or nothing where the values have no order."""
    if values.dtype.kind not in "iuf" or values.size == 0:
        return ""
    low, high = values.min(), values.max()
    return " with NaN" if np.isnan(low) else f" in {low}..{high}"


def pick(images: Any, key: np.ndarray) -> Any:
    """Some images by index or mask; those in files stay there.

    >>> pick(np.arange(6), np.array([4, 1])).tolist()
    [4, 1]
    """
    return images[key] if isinstance(images, np.ndarray) else images.take(key)


def _as_array(values: Any, most: int) -> Any:
    """Lists of whole numbers in 0..most as the array that they would be."""
    if not isinstance(values, list | tuple):
        return values
    found = np.asarray(values)
    if found.dtype.kind in "iu" and found.size and found.min() >= 0 and found.max() <= most:
        return found.astype(np.uint8 if most < 256 else np.int64)
    return found


def middle(images: np.ndarray, side: int) -> np.ndarray:
    """Middle square of each image, (n, side, side, channels).

    >>> middle(np.arange(16).reshape(1, 4, 4, 1), 2).ravel().tolist()
    [5, 6, 9, 10]
    """
    if not isinstance(images, np.ndarray):  # photos in files
        return images.middle(side)
    top, left = ((size - side) // 2 for size in images.shape[1:3])
    return np.ascontiguousarray(images[:, top : top + side, left : left + side])


def in_shape(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Images (n, height, width, channels) as (n, *shape): means of squares, black borders, grey as colours.

    Each side shrinks by the same whole number, grey levels rounded half up; smaller images stand in the
    middle. None where that does not lead there.

    >>> in_shape(np.full((1, 4, 4, 1), 9, np.uint8), (3, 3, 3))[0, ..., 2].tolist()
    [[9, 9, 0], [9, 9, 0], [0, 0, 0]]
    """
    if len(shape) != 3:
        return None
    height, width, channels = shape
    n, high, wide, colours = images.shape
    by = max(-(-high // height), -(-wide // width))
    if high % by or wide % by or colours not in (1, channels):
        return None
    if by > 1:
        sums = images.reshape(n, high // by, by, wide // by, by, colours).sum((2, 4), np.uint32)
        images = ((sums + by * by // 2) // (by * by)).astype(np.uint8)
    top, left = (height - high // by) // 2, (width - wide // by) // 2
    found = np.zeros((n, *shape), np.uint8)
    found[:, top : top + high // by, left : left + wide // by] = images
    return found


def every_fifth(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split 0..n - 1 into training and test: line the images up by label, every fifth is for test.

    No seed and no random numbers, so it is the same everywhere; images of one label keep their order, and
    every class is in the test part in proportion. (Plain every fifth is not enough: digits' labels run
    0, 1 .. 9 over and over for a while, and every fifth of those is a 0 or a 5.)

    Returns
    -------
    (train, test) : ascending indices; ceil(n / 5) for test.

    >>> train, test = every_fifth(np.array([0, 1] * 5))
    >>> test.tolist(), len(train)
    ([0, 1], 8)
    """
    test = np.sort(np.argsort(labels, kind="stable")[::5])
    return np.delete(np.arange(len(labels)), test), test


def form_of(shape: tuple[int, ...], signed: bool) -> str:
    """Size of an image, and how its grey levels are read.

    >>> form_of((28, 28, 1), signed=False)
    '28 x 28 x 1, unsigned'
    """
    return f"{' x '.join(map(str, shape))}, {'signed' if signed else 'unsigned'}"


def _content(array: Any) -> Iterator[bytes | memoryview]:
    """Bytes of an array, part by part, or what photographs in files have in their place."""
    if isinstance(array, np.ndarray):
        yield np.ascontiguousarray(array).data
    elif hasattr(array, "in_parts"):
        yield from (np.ascontiguousarray(part).data for part in array.in_parts())
    else:
        yield array.checksum


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels for training and for test.

    Parameters
    ----------
    train_images, test_images : (n, height, width, channels) uint8
        Grey levels or colours 0..255; they may be read-only views of the file, or stay in it (`stored`).
        Lists are taken as the arrays that they would be, here and for labels.
    train_labels, test_labels : (n,) int64
        0..classes - 1.
    signed : bool
        True: grey levels are read as -1..1 (CIFAR-10, SVHN); False: as 0..1.
    names : of the classes, where they are known
    window : int, optional
        Side of the square that a network sees of each image; test images are cut to it. See `windowed`.
    source : where the data was read from
    val_images, val_labels : optional
        A part of their own for validation, see `split`.

    Raises
    ------
    DataError
        If a part is empty, of another form, or the two parts differ in image size.

    >>> images = np.zeros((5, 8, 8, 1), np.uint8)
    >>> Dataset("blank", images, np.arange(5), images[:2], np.arange(2), classes=5, signed=False)
    Dataset(name='blank', classes=5, signed=False)
    """

    name: str
    train_images: np.ndarray = field(repr=False)
    train_labels: np.ndarray = field(repr=False)
    test_images: np.ndarray = field(repr=False)
    test_labels: np.ndarray = field(repr=False)
    classes: int
    signed: bool
    names: tuple[str, ...] = field(default=(), repr=False)
    window: int | None = field(default=None, repr=False)
    source: str = field(default="", repr=False)
    val_images: np.ndarray | None = field(default=None, repr=False)
    val_labels: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for part in ("train", "test", "val"):
            for what, most in (("images", 255), ("labels", 2**62)):
                name = f"{part}_{what}"
                object.__setattr__(self, name, _as_array(getattr(self, name), most))
        if self.val_images is not None and self.val_labels is not None:
            check_pair(f"{self.name} val", self.val_images, self.val_labels, self.classes)
        check_pair(f"{self.name} train", self.train_images, self.train_labels, self.classes)
        check_pair(f"{self.name} test", self.test_images, self.test_labels, self.classes)
        train, test = self.train_images.shape[1:], self.test_images.shape[1:]
        if test != (train if self.window is None else (self.window, self.window, train[-1])):
            raise DataError(f"{self.name}: training images of {train}, test images of {test}: want one size")
        if self.names and len(self.names) != self.classes:
            raise DataError(
                f"{self.name}: {len(self.names)} names: want one for each of {self.classes} classes"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of what a network sees of an image."""
        return self.test_images.shape[1:]

    def called(self, label: int) -> str:
        """Number of a class, and its name where it is known."""
        return f"{label} {self.names[label]}" if self.names else str(label)

    def windowed(self, side: int) -> Dataset:
        """Let a network see a square of each image: of a test image its middle; training draws the place.

        Raises
        ------
        DataError
            If an image is smaller.

        >>> images = np.zeros((5, 8, 8, 1), np.uint8)
        >>> whole = Dataset("blank", images, np.arange(5), images, np.arange(5), classes=5, signed=False)
        >>> whole.windowed(6).input_shape
        (6, 6, 1)
        """
        height, width = self.train_images.shape[1:3]
        if not 1 <= side <= min(height, width):
            raise DataError(f"window={side}: want 1..{min(height, width)}, {self.name} has {height}x{width}")
        return replace(self, test_images=middle(self.test_images, side), window=side)

    def like(self, shape: tuple[int, ...], signed: bool) -> Dataset:
        """Bring the images into the form of other ones, as `in_shape` does; they are read as those are.

        Raises
        ------
        DataError
            If that cannot be.

        >>> images = np.zeros((5, 8, 8, 1), np.uint8)
        >>> grey = Dataset("blank", images, np.arange(5), images, np.arange(5), classes=5, signed=False)
        >>> grey.like((12, 12, 3), signed=True).input_shape
        (12, 12, 3)
        >>> grey.like((12, 12, 3), signed=True).name
        'blank, shown as 12 x 12 x 3, signed'
        """
        if (self.input_shape, self.signed) == (shape, signed):
            return self
        known = self.window is None and isinstance(self.train_images, np.ndarray)
        train = in_shape(self.train_images, shape) if known else None
        test = in_shape(self.test_images, shape) if known else None
        if train is None or test is None:
            raise DataError(
                f"{self.name}: images of {form_of(self.input_shape, self.signed)}: cannot be shown as"
                f" {form_of(shape, signed)}"
            )
        return replace(
            self,
            name=f"{self.name}, shown as {form_of(shape, signed)}",
            train_images=train,
            test_images=test,
            signed=signed,
            val_images=None,
            val_labels=None,
        )

    def split(self, validation: int) -> Dataset:
        """Put images for validation in the place of the test set: the last training images, which then do not
        train, or the first ones of the data's own validation part, where it has one.

        Raises
        ------
        DataError
            If validation is outside 1..n - 1.

        >>> images = np.zeros((5, 8, 8, 1), np.uint8)
        >>> whole = Dataset("blank", images, np.arange(5), images, np.arange(5), classes=5, signed=False)
        >>> part = whole.split(2)
        >>> part.train_labels.tolist(), part.test_labels.tolist()
        ([0, 1, 2], [3, 4])
        """
        if self.val_images is not None and self.val_labels is not None:
            n = len(self.val_labels)
            if not 0 < validation <= n:
                raise DataError(f"validation={validation}: want 1..{n}, the validation images of {self.name}")
            return replace(
                self, test_images=self.val_images[:validation], test_labels=self.val_labels[:validation]
            )
        n = len(self.train_labels)
        if not 0 < validation < n:
            raise DataError(f"validation={validation}: want 1..{n - 1}, {self.name} has {n} training images")
        cut = n - validation
        return replace(
            self,
            train_images=self.train_images[:cut],
            train_labels=self.train_labels[:cut],
            test_images=self.train_images[cut:],
            test_labels=self.train_labels[cut:],
        )

    def subset(self, train: int | None = None, test: int | None = None) -> Dataset:
        """Keep the first `train` training and the first `test` test images; None keeps all.

        Raises
        ------
        DataError
            If a number is below 1 or above what there is.
        """
        for part, wanted, labels in (("train", train, self.train_labels), ("test", test, self.test_labels)):
            if wanted is not None and not 1 <= wanted <= len(labels):
                raise DataError(
                    f"{part}_images={wanted}: want 1..{len(labels)}, the {part} images of {self.name}"
                )
        return replace(
            self,
            train_images=self.train_images[:train],
            train_labels=self.train_labels[:train],
            test_images=self.test_images[:test],
            test_labels=self.test_labels[:test],
        )

    def only_classes(self, first: int, last: int) -> Dataset:
        """Keep the images of the classes first .. last, numbered from 0.

        Raises
        ------
        DataError
            If these are not classes of the data, or a part has no images of them.
        """
        if not first <= last < self.classes:
            raise DataError(f"classes {first}-{last}: {self.name} has classes 0-{self.classes - 1}")
        train, test = (
            (first <= labels) & (labels <= last) for labels in (self.train_labels, self.test_labels)
        )
        return Dataset(
            f"{self.name}:{first}-{last}",
            pick(self.train_images, train),
            self.train_labels[train] - first,
            pick(self.test_images, test),
            self.test_labels[test] - first,
            last - first + 1,
            self.signed,
            source=self.source,
        )

    @property
    def checksum(self) -> str:
        """Sha256 (hex) over shape and bytes of the four arrays, labels as little-endian int64.

        Of photographs in files, over what they say themselves.
        """
        digest = hashlib.sha256()
        for images, labels in (
            (self.train_images, self.train_labels),
            (self.test_images, self.test_labels),
        ):
            for array in (images, labels.astype("<i8", copy=False)):
                digest.update(str(array.shape).encode())
                for part in _content(array):
                    digest.update(part)
        return digest.hexdigest()
