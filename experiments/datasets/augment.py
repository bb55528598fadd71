"""Augmentation of training images, in integers and from counter-based bits."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from wage_neuro import random_bits
from wage_neuro.errors import SettingError


@dataclass(frozen=True)
class Augment:
    """Pad with zeros, crop at a random place, and mirror every second image.

    Parameters
    ----------
    pad : int
        Zeros on each side; the crop has the image's own size, so it shifts by up to as many pixels.
    flip : bool
        Mirror left and right with probability 1/2.
    window : int, optional
        Side of the square that is cropped out of an image which is not padded; test images show their middle
        (`Dataset.windowed`).

    >>> Augment.parse("crop4-flip")
    Augment(pad=4, flip=True, window=None)
    """

    pad: int = 0
    flip: bool = False
    window: int | None = None

    @classmethod
    def parse(cls, text: str) -> Augment:
        """Read 'crop4-flip' (the paper's for CIFAR-10), 'window224-flip' (for ImageNet), 'flip' or 'none'."""
        match = re.fullmatch(r"(?:crop([1-9]\d?)|window([1-9]\d{0,2}))(-flip)?|flip|none", text)
        if not match:
            raise SettingError(f"augment {text!r}: want none, crop1, flip, crop4-flip or window224-flip")
        pad, window = match[1] or 0, match[2]
        return cls(int(pad), text.endswith("flip"), int(window) if window else None)

    def apply(
        self,
        images: np.ndarray,
        seed: int,
        epoch: int,
        places: slice,
        some: np.ndarray | slice = slice(None),
    ) -> np.ndarray:
        """Augment the images that stand at some places of an epoch's order.

        images : (n, height, width[, channels]) uint8
        some : which of these places the images stand at, if not at all of them

        Returns
        -------
        Images of the same shape, or of a window's; the bits depend on seed, epoch and place alone.
        """
        if self == Augment():
            return images
        if images.ndim < 3:
            raise SettingError(f"augment: images of shape {images.shape[1:]} have no height and width")
        if self.window and self.window > min(images.shape[1:3]):
            want = f"{self.window}x{self.window}"
            raise SettingError(f"augment: images of shape {images.shape[1:]}: want {want} or more")
        first = places.start // 4 * 4  # whole blocks of random words
        words = random_bits.words((seed, random_bits.AUGMENT, 0, epoch), first, places.stop - first)
        words = words[places.start - first :][some]
        if self.pad or self.window:
            images = _crop(images, self.pad, self.window, words)
        if self.flip:
            mirrored = (words & np.uint64(1)).astype(bool)
            images = np.where(mirrored.reshape(-1, *[1] * (images.ndim - 1)), images[:, :, ::-1], images)
        return images


def _crop(images: np.ndarray, pad: int, window: int | None, words: np.ndarray) -> np.ndarray:
    n, *size = images.shape[:3]
    h, w = (window, window) if window else size
    border = ((0, 0), (pad, pad), (pad, pad), *[(0, 0)] * (images.ndim - 3))
    padded: np.ndarray = np.pad(images, border)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (h, w), axis=(1, 2))  # type: ignore[call-overload,unused-ignore]
    top, left = (
        (words >> np.uint64(shift)) % np.uint64(offsets)
        for shift, offsets in zip((16, 40), windows.shape[1:3], strict=True)
    )
    cropped = windows[np.arange(n), top.astype(np.intp), left.astype(np.intp)]
    # the window's axes come last; channels, if any, before them
    return np.ascontiguousarray(np.moveaxis(cropped, 1, -1) if images.ndim == 4 else cropped)
