"""Address events in time, as an event camera sends them: x, y, t, polarity; and frames made of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from experiments.datasets.base import Dataset
from wage_neuro.errors import DataError

SACCADES = ((1, 0), (-1, 1), (0, -1))  # a triangle, as the camera of N-MNIST moves
STEP_US, THRESHOLD, MOST = (
    10_000,
    32,
    127,
)  # a pixel of movement; grey levels that make an event; largest code
AT_ONCE = 1000  # images whose events are held together
HALF_LIFE_US = 10_000
"""In which the trace of an event falls to a half, where no other time is given."""


@dataclass(frozen=True)
class Events:
    """A stream of events, with what it shows.

    Parameters
    ----------
    x, y : (n,) whole numbers, places
    t : (n,) microseconds, never falling
    polarity : (n,) 1 brighter, 0 darker
    start : (m + 1,) microseconds: sample i is seen from start[i] until start[i + 1]
    label : (m,) what it is

    Raises
    ------
    DataError
        If these do not fit together.
    """

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    polarity: np.ndarray
    start: np.ndarray
    label: np.ndarray

    def __post_init__(self) -> None:
        for field in fields(self):
            array = getattr(self, field.name)
            if array.ndim != 1 or array.dtype.kind not in "iub":
                raise DataError(
                    f"{field.name} of {array.dtype} and shape {array.shape}: want (n,) whole numbers"
                )
        for name in ("x", "y", "polarity"):
            if len(getattr(self, name)) != len(self.t):
                raise DataError(
                    f"{len(getattr(self, name))} {name}: want one for each of {len(self.t)} events"
                )
        if len(self.start) != len(self.label) + 1:
            raise DataError(f"{len(self.start)} starts of {len(self.label)} samples: want one more")
        for name in ("t", "start"):
            falls = np.flatnonzero(np.diff(getattr(self, name).astype(np.int64)) < 0)
            if len(falls):
                raise DataError(f"{name}[{falls[0] + 1}]={getattr(self, name)[falls[0] + 1]}: it falls")
        if len(self.t) and not 0 <= int(self.polarity.min()) <= int(self.polarity.max()) <= 1:
            raise DataError(f"polarity {self.polarity[self.polarity.astype(int) > 1][:1]}: want 0 or 1")

    def save(self, path: Path) -> None:
        """Write an `.npz`."""
        np.savez_compressed(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Events:
        """Read what `save` has written, or an `.npz` of the same names.

        Raises
        ------
        DataError
            If it cannot be read, or something is missing or does not fit.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(**{field.name: file[field.name] for field in fields(cls)})
        except KeyError as error:
            raise DataError(f"{path}: {error.args[0]}") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {error}") from None


def seen_by_saccades(images: np.ndarray, labels: np.ndarray, step_us: int = STEP_US) -> Events:
    """What an event camera that moves in a triangle would see of (n, h, w, 1) images, as N-MNIST was made.

    Each of the moves is a pixel; where a pixel's grey level then differs by 32 or more, there is an event.

    Source: Orchard et al., Frontiers in Neuroscience 9, 437 (2015).
    """
    grey = np.pad(images[..., 0].astype(np.int64), ((0, 0), (1, 1), (1, 1)))
    parts, at = [], [0, 0]
    for step, (dy, dx) in enumerate(SACCADES):
        before = np.roll(grey, at, axis=(1, 2))
        at = [at[0] + dy, at[1] + dx]
        change = (np.roll(grey, at, axis=(1, 2)) - before)[:, 1:-1, 1:-1]
        sample, y, x = np.nonzero(np.abs(change) >= THRESHOLD)
        t = (
            (sample * len(SACCADES) + step) * step_us
            + 1
            + np.abs(255 - np.abs(change[sample, y, x])) * step_us // 256
        )
        parts.append((x, y, t, change[sample, y, x] > 0))
    x, y, t, polarity = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(t, kind="stable")
    start = np.arange(len(images) + 1) * len(SACCADES) * step_us
    return Events(x[order], y[order], t[order], polarity[order].astype(np.uint8), start, labels)


def counted(events: Events, shape: tuple[int, int]) -> np.ndarray:
    """(m, h, w, 2) events of each sample, place and polarity, cut to 127: codes of 8 bits.

    Raises
    ------
    DataError
        If an event is outside of the shape.
    """
    frames = np.zeros((len(events.label), *shape, 2), np.int64)
    np.add.at(frames, _places(events, shape), 1)
    return np.minimum(frames, MOST)


def time_surfaces(events: Events, shape: tuple[int, int], half_life_us: int) -> np.ndarray:
    """(m, h, w, 2) codes of when each place and polarity had its last event before the sample's end.

    127 for an event right at the end, half of it for one `half_life_us` before, in whole numbers; 0 for none.
    """
    sample, y, x, polarity = _places(events, shape)
    last = np.full((len(events.label), *shape, 2), -1, np.int64)
    last[sample, y, x, polarity] = events.t  # times never fall, so the last one stays
    age = events.start[1:, None, None, None] - last
    return np.where(last < 0, 0, MOST >> np.minimum(age // half_life_us, 63))


def surfaces_of(data: Dataset, half_life_us: int = HALF_LIFE_US) -> Dataset:
    """Time surfaces of what an event camera would see of a data set's grey images, as grey levels.

    Raises
    ------
    DataError
        If the images have colours.
    """
    if data.train_images.shape[3] != 1:
        raise DataError(
            f"events-{data.name}: images of {data.train_images.shape[3]} channels: want grey ones"
        )
    train, test = (_surfaces(np.asarray(x), half_life_us) for x in (data.train_images, data.test_images))
    name = f"events-{data.name}"
    return Dataset(name, train, data.train_labels, test, data.test_labels, data.classes, signed=False)


def _surfaces(images: np.ndarray, half_life_us: int) -> np.ndarray:
    parts = []
    for first in range(0, len(images), AT_ONCE):
        part = images[first : first + AT_ONCE]
        seen = seen_by_saccades(part, np.zeros(len(part), np.int64))
        parts.append((2 * time_surfaces(seen, part.shape[1:3], half_life_us)).astype(np.uint8))
    return np.concatenate(parts)


def _places(events: Events, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    for name, values, size in (("y", events.y, shape[0]), ("x", events.x, shape[1])):
        bad = (values < 0) | (values >= size)
        if bad.any():
            raise DataError(f"{name}={values[bad][0]}: want places in 0..{size - 1}")
    sample = np.searchsorted(events.start, events.t, side="right") - 1
    if len(sample) and not 0 <= sample.min() <= sample.max() < len(events.label):
        raise DataError(
            f"t={events.t[(sample < 0) | (sample >= len(events.label))][0]}: no sample is seen then"
        )
    return sample, events.y, events.x, events.polarity.astype(np.int64)
