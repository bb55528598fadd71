"""A memory of samples seen: a reservoir of uint8 images that are recalled while new ones are learned.

Source: algorithm R (Vitter, ACM TOMS 1985); experience replay (Chaudhry et al., arXiv:1902.10486), with the
logits of the time beside each image (Buzzega et al., arXiv:2004.07211).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wage_neuro.errors import SettingError
from wage_neuro.layers import UNKNOWN
from wage_neuro.random_bits import KEEP, RECALL, words

_WORDS_A_BLOCK = 4
LOGIT = np.iinfo(np.int32)
"""What a logit kept can be; the least one stands for one that is not known."""


def _uniform_words(seed: int, purpose: int, first: int, count: int) -> np.ndarray:
    skip = first % _WORDS_A_BLOCK
    return words((seed, purpose, 0, 0), first - skip, skip + count)[skip:]


def slots_to_keep(seed: int, first: int, count: int, size: int) -> np.ndarray:
    """Slot in which algorithm R keeps each sample, -1 for none; a function of the sample's number alone.

    >>> slots_to_keep(0, first=0, count=3, size=5).tolist()
    [0, 1, 2]
    """
    number = np.arange(first, first + count, dtype=np.uint64)
    # of 64 random bits the remainder is uniform to 2**-40
    drawn = (_uniform_words(seed, KEEP, first, count) % (number + np.uint64(1))).astype(np.int64)
    slot = np.where(number < size, number.astype(np.int64), drawn)
    return np.where(slot < size, slot, -1)


def slots_to_recall(seed: int, first: int, count: int, filled: np.ndarray) -> np.ndarray:
    """Slots of recalls `first` .. `first + count`, each uniform over the `filled` slots of its time."""
    return (_uniform_words(seed, RECALL, first, count) % filled.astype(np.uint64)).astype(np.int64)


def with_gaps(images: np.ndarray, labels: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Leave `step` gaps, of zeros, behind every `step` new samples; n is a multiple of step.

    >>> with_gaps(np.array([[5], [6]]), np.array([1, 2]), step=1)[1].tolist()
    [1, 0, 2, 0]
    """
    n = len(images)
    order = np.zeros((n // step, 2, step, *images.shape[1:]), images.dtype)
    numbers = np.zeros((n // step, 2, step), np.int64)
    order[:, 0] = images.reshape(-1, step, *images.shape[1:])
    numbers[:, 0] = labels.reshape(-1, step)
    return order.reshape(2 * n, *images.shape[1:]), numbers.reshape(2 * n)


def known(logits: np.ndarray) -> np.ndarray:
    """Kept logits as int64, UNKNOWN where there are none."""
    return np.where(logits == LOGIT.min, UNKNOWN, logits.astype(np.int64))


@dataclass(frozen=True)
class Mixed:
    """New and recalled samples in the order in which they are learned.

    Attributes
    ----------
    images, labels : (2 n, ...), (2 n,) `step` new ones, `step` recalled ones, and so on
    kept : (n,) slot that each new sample went into, -1 for none
    recalled : (n,) slot that each recalled sample came from
    """

    images: np.ndarray
    labels: np.ndarray
    kept: np.ndarray
    recalled: np.ndarray


@dataclass
class Reservoir:
    """Samples kept so that each one seen has the same chance to be among them.

    Parameters
    ----------
    images : (size, *image_shape) uint8
    labels : (size,) uint8 or wider
    seed : int
        Names what is kept and what is recalled.
    logits : (size, outputs) int32, optional
        What the network answered when it learned the image.
    seen : int
        Samples that were offered.
    """

    images: np.ndarray
    labels: np.ndarray
    seed: int
    logits: np.ndarray | None = None
    seen: int = 0

    @classmethod
    def empty(
        cls, size: int, image_shape: tuple[int, ...], outputs: int, seed: int, with_logits: bool = False
    ) -> Reservoir:
        """A memory of `size` samples.

        Raises
        ------
        SettingError
            If it could hold none.
        """
        if size < 1:
            raise SettingError(f"memory={size}: replay needs room for 1 sample or more")
        labels = np.zeros(size, np.min_scalar_type(outputs - 1))
        logits = np.full((size, outputs), LOGIT.min, np.int32) if with_logits else None
        return cls(np.zeros((size, *image_shape), np.uint8), labels, seed, logits)

    @property
    def bytes(self) -> int:
        """Bytes of the images, labels and logits."""
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All that it holds, by name."""
        held = {"images": self.images, "labels": self.labels}
        return held if self.logits is None else {**held, "logits": self.logits}

    def interleave(self, images: np.ndarray, labels: np.ndarray, step: int) -> Mixed:
        """Put as many recalled samples behind every `step` new ones; the new ones are offered first.

        images, labels : (n, ...), (n,) new samples, n a multiple of step
        """
        order, numbers = with_gaps(images, labels, step)
        slots = self.fill(order, numbers, step, 2 * self.seen).reshape(-1, 2, step)
        return Mixed(order, numbers, slots[:, 0].reshape(-1), slots[:, 1].reshape(-1))

    def steps_apart(self, n: int, step: int) -> int:
        """How many of the next n new samples can be learned at once where logits are kept.

        Up to the step that recalls a slot which another one fills, or the other way round: its logits are not
        those of before all of them. n is a multiple of step.
        """
        size, numbers = len(self.images), np.arange(n) // step + 1
        filled = np.minimum(self.seen + step * numbers, size)
        kept = slots_to_keep(self.seed, self.seen, n, size).reshape(-1, step).tolist()
        recalled = slots_to_recall(self.seed, self.seen, n, filled).reshape(-1, step).tolist()
        written: set[int] = set()
        read: set[int] = set()
        for i, (new, old) in enumerate(zip(kept, recalled, strict=True)):
            if not (written.isdisjoint(old) and read.isdisjoint(new)):
                return i * step
            written.update(new)
            read.update(old)
        return n

    def fill(self, images: np.ndarray, labels: np.ndarray, step: int, first: int) -> np.ndarray:
        """Take in what is new and put recalled samples into the gaps, in place.

        Parameters
        ----------
        images, labels : (n, ...), (n,) places first .. first + n of the order in which a network learns:
            `step` new samples, `step` gaps, and so on

        Returns
        -------
        (n,) slot that a new sample went into, -1 for none, or that a recalled one came from.
        """
        slots = np.empty(len(images), np.int64)
        done = 0
        while done < len(images):
            turn, place = divmod(first + done, 2 * step)
            is_new = place < step
            part = slice(done, min(len(images), done + (step if is_new else 2 * step) - place))
            count = part.stop - done
            if is_new:
                slots[part] = self._offer(images[part], labels[part])
            else:
                filled = np.full(count, min(self.seen, len(self.images)))
                slots[part] = slots_to_recall(self.seed, turn * step + place - step, count, filled)
                images[part], labels[part] = self.images[slots[part]], self.labels[slots[part]]
            done += count
        return slots

    def _offer(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        slots = slots_to_keep(self.seed, self.seen, len(images), len(self.images))
        for slot, image, label in zip(slots, images, labels, strict=True):
            if slot >= 0:
                self._keep(slot, image, label)
        self.seen += len(images)
        return slots

    def _keep(self, slot: int, image: np.ndarray, label: int) -> None:
        self.images[slot], self.labels[slot] = image, label
        if self.logits is not None:
            self.logits[slot] = LOGIT.min

    def former_logits(self, slots: np.ndarray) -> np.ndarray:
        """(n, outputs) int64 logits of some slots, UNKNOWN where there are none yet."""
        assert self.logits is not None
        return known(self.logits[slots])

    def keep_logits(self, slots: np.ndarray, logits: np.ndarray) -> None:
        """Keep the (n, outputs) logits of samples that went into these slots; -1 went nowhere."""
        assert self.logits is not None
        for slot, row in zip(slots, logits, strict=True):
            if slot >= 0:
                self.logits[slot] = np.clip(row, LOGIT.min + 1, LOGIT.max)


@dataclass(frozen=True)
class Replay:
    """A memory in front of a network that learns: `step` new samples, as many recalled, and so on.

    Attributes
    ----------
    augment : images and their first place in the order of learning -> the images that the network sees;
        what is kept is not augmented
    """

    memory: Reservoir
    step: int
    augment: Callable[[np.ndarray, int], np.ndarray]
