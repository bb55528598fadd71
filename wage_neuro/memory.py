"""A memory of samples seen: images in 1 to 8 bits a pixel that are recalled while new ones are learned.

What is kept is decided by algorithm R, or by classes, so that each has the same room. Random bits are named
by a sample's number alone, so neither the cut of the stream nor a resume changes what is kept or recalled.

Source: algorithm R (Vitter, ACM TOMS 1985); experience replay (Chaudhry et al., arXiv:1902.10486), with the
logits of the time beside each image (Buzzega et al., arXiv:2004.07211); class-balanced reservoir (Chrysakis
and Moens, ICML 2020, PMLR 119).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from wage_neuro.errors import SettingError, either
from wage_neuro.layers import SPARED, UNKNOWN
from wage_neuro.random_bits import KEEP, RECALL, words

_WORDS_A_BLOCK = 4
LOGIT = np.iinfo(np.int32)
"""What a message of former logits can be; its two least numbers stand for UNKNOWN and for SPARED."""
RECENT = 100
"""New samples whose classes are of the moment."""
MEMORY_BITS = (1, 2, 4, 8)
KEEPS = ("reservoir", "balanced")
"""How it is decided what is kept."""


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


@dataclass(frozen=True, kw_only=True)
class MemoryForm:
    """What a memory keeps, and how.

    Parameters
    ----------
    bits : 1, 2, 4 or 8
        Of each pixel.
    keep : 'reservoir' or 'balanced'
        How it is decided what is kept.
    with_logits : bool
        Former logits beside each image.
    asymmetric : bool
        New samples push down none but outputs of classes of the moment.
    """

    bits: int = 8
    keep: str = "reservoir"
    with_logits: bool = False
    asymmetric: bool = False

    def __post_init__(self) -> None:
        if self.bits not in MEMORY_BITS:
            raise SettingError(f"memory_bits={self.bits}: want {either(MEMORY_BITS)}")
        if self.keep not in KEEPS:
            raise SettingError(f"keep={self.keep!r}: want {either(KEEPS)}")


@dataclass
class Balance:
    """What a class-balanced reservoir knows beside its samples.

    Attributes
    ----------
    offered : (outputs,) int64 samples of each class so far
    full : (outputs,) uint8, 1 of a class that once had more room than any other: it gets no more
    """

    offered: np.ndarray
    full: np.ndarray

    def slots_to_keep(self, seed: int, first: int, labels: np.ndarray, held: np.ndarray) -> np.ndarray:
        """Slot in which each of the (n,) samples is kept, -1 for none; `held` labels change with them.

        A sample of a class that is not full takes the place of one of the largest class, any other that of
        one of its own by algorithm R.
        """
        size, slots = len(held), np.full(len(labels), -1)
        drawn = _uniform_words(seed, KEEP, first, len(labels)).tolist()
        for i, (label, word) in enumerate(zip(labels.tolist(), drawn, strict=True)):
            self.offered[label] += 1
            if first + i < size:
                slots[i] = first + i
            else:
                room = np.bincount(held, minlength=len(self.offered))
                self.full[room == room.max()] = 1
                places = np.flatnonzero(held == label if self.full[label] else (room == room.max())[held])
                place = word % (int(self.offered[label]) if self.full[label] else len(places))
                slots[i] = places[place] if place < len(places) else -1
            if slots[i] >= 0:
                held[slots[i]] = label
        return slots

    def copy(self) -> Balance:
        """One that goes its own way."""
        return Balance(self.offered.copy(), self.full.copy())


# --- bits a pixel ------------------------------------------------------------------------------------


def pack(images: np.ndarray, bits: int) -> np.ndarray:
    """Grey levels as the nearest of 2**bits levels, 8 / bits of them a byte, the first in the highest bits.

    images : (n, ...) uint8
    Returns (n, bytes) uint8; the rest of an image's last byte is 0.

    >>> pack(np.array([[0, 90, 255]], np.uint8), 2).tolist()
    [[28]]
    """
    n, pixels, a_byte, top = len(images), math.prod(images.shape[1:]), 8 // bits, (1 << bits) - 1
    # 255 and the top are odd, so no level stands half-way between two
    levels = (images.reshape(n, pixels).astype(np.uint16) * top + 127) // 255
    levels = np.pad(levels, ((0, 0), (0, -pixels % a_byte)))
    return (levels.reshape(n, -(-pixels // a_byte), a_byte) << _shifts(bits)).sum(axis=2).astype(np.uint8)


def unpack(packed: np.ndarray, bits: int, image_shape: tuple[int, ...]) -> np.ndarray:
    """Return the (n, *image_shape) uint8 grey levels that `pack` has kept.

    >>> unpack(np.array([[28]], np.uint8), 2, (3,)).tolist()
    [[0, 85, 255]]
    """
    top = (1 << bits) - 1
    levels = packed.astype(np.uint16)[:, :, None] >> _shifts(bits) & top
    levels = levels.reshape(len(packed), packed.shape[1] * 8 // bits)
    grey = levels[:, : math.prod(image_shape)] * (255 // top)
    return grey.astype(np.uint8).reshape(len(packed), *image_shape)


def _shifts(bits: int) -> np.ndarray:
    return np.arange(8 - bits, -1, -bits, dtype=np.uint16)


# --- order of learning -------------------------------------------------------------------------------


def with_gaps(
    images: np.ndarray, labels: np.ndarray, step: int, recalled: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Leave `recalled` times `step` gaps, of zeros, behind every `step` new samples; n is a multiple of step.

    >>> with_gaps(np.array([[5], [6]]), np.array([1, 2]), step=1)[1].tolist()
    [1, 0, 2, 0]
    """
    n, period = len(images), 1 + recalled
    order = np.zeros((n // step, period, step, *images.shape[1:]), images.dtype)
    numbers = np.zeros((n // step, period, step), np.int64)
    order[:, 0] = images.reshape(-1, step, *images.shape[1:])
    numbers[:, 0] = labels.reshape(-1, step)
    return order.reshape(period * n, *images.shape[1:]), numbers.reshape(period * n)


def known(logits: np.ndarray) -> np.ndarray:
    """Kept logits, or those of a message, as int64: UNKNOWN where none are, SPARED of a spared output."""
    found = np.where(logits == LOGIT.min, UNKNOWN, logits.astype(np.int64))
    found[logits == LOGIT.min + 1] = SPARED
    return found


@dataclass(frozen=True)
class Mixed:
    """New and recalled samples in the order in which they are learned.

    Attributes
    ----------
    images, labels : (n (1 + recalled), ...) `step` new ones, `recalled` times as many old ones, and so on
    kept : (n,) slot that each new sample went into, -1 for none
    recalled : slot that each recalled sample came from
    spared : (n, outputs) bool, outputs that new samples leave alone; None where they leave none alone
    """

    images: np.ndarray
    labels: np.ndarray
    kept: np.ndarray
    recalled: np.ndarray
    spared: np.ndarray | None


@dataclass
class Reservoir:
    """Samples kept so that each one seen has the same chance to be among them, or each class the same room.

    Parameters
    ----------
    images : (size, *image_shape) uint8; in fewer than 8 bits (size, bytes) as `pack` makes them
    labels : (size,) uint8 or wider
    seed : int
        Names what is kept and what is recalled.
    logits : (size, outputs) int32, optional
        What the network answered when it learned the image.
    seen : int
        Samples that were offered.
    bits : 1, 2, 4 or 8
        Of each pixel.
    image_shape : of an image before it was packed
    balance : where each class has the same room
    came : (outputs,) int64 number of the last new sample of each class; where new samples push down none but
        outputs of classes among the last RECENT
    """

    images: np.ndarray
    labels: np.ndarray
    seed: int
    logits: np.ndarray | None = None
    seen: int = 0
    bits: int = 8
    image_shape: tuple[int, ...] = ()
    balance: Balance | None = None
    came: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.image_shape = self.image_shape or self.images.shape[1:]

    @classmethod
    def empty(
        cls,
        size: int,
        image_shape: tuple[int, ...],
        outputs: int,
        seed: int,
        form: MemoryForm | None = None,
    ) -> Reservoir:
        """A memory of `size` samples.

        Raises
        ------
        SettingError
            If it could hold none, or not in so many bits.
        """
        if size < 1:
            raise SettingError(f"memory={size}: replay needs room for 1 sample or more")
        form = form or MemoryForm()
        bits = form.bits
        a_row = image_shape if bits == 8 else (-(-math.prod(image_shape) * bits // 8),)
        return cls(
            np.zeros((size, *a_row), np.uint8),
            np.zeros(size, np.min_scalar_type(outputs - 1)),
            seed,
            np.full((size, outputs), LOGIT.min, np.int32) if form.with_logits else None,
            bits=bits,
            image_shape=tuple(image_shape),
            balance=Balance(np.zeros(outputs, np.int64), np.zeros(outputs, np.uint8))
            if form.keep == "balanced"
            else None,
            came=np.full(outputs, -RECENT) if form.asymmetric else None,
        )

    @property
    def bytes(self) -> int:
        """Bytes of all that it holds, as it is stored."""
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def tells(self) -> bool:
        """Whether it says more of a sample than its label: its former logits, or outputs that it spares."""
        return self.logits is not None or self.came is not None

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All that it holds, by name."""
        held = {"images": self.images, "labels": self.labels, "logits": self.logits, "came": self.came}
        if self.balance:
            held |= {"offered": self.balance.offered, "full": self.balance.full}
        return {name: array for name, array in held.items() if array is not None}

    def holding(self, arrays: dict[str, np.ndarray], seen: int) -> Reservoir:
        """A memory like this one that holds these arrays instead, after so many samples."""
        balance = Balance(arrays["offered"], arrays["full"]) if self.balance else None
        return Reservoir(
            arrays["images"],
            arrays["labels"],
            self.seed,
            arrays.get("logits"),
            seen,
            self.bits,
            self.image_shape,
            balance,
            arrays.get("came"),
        )

    def recall(self, slots: np.ndarray) -> np.ndarray:
        """(n, *image_shape) uint8 images of some slots, as they are recalled."""
        rows = self.images[slots]
        return rows if self.bits == 8 else unpack(rows, self.bits, self.image_shape)

    def interleave(self, images: np.ndarray, labels: np.ndarray, step: int, recalled: int = 1) -> Mixed:
        """Put `recalled` times as many old samples behind every `step` new ones, which are offered first.

        images, labels : (n, ...), (n,) new samples, n a multiple of step
        """
        order, numbers = with_gaps(images, labels, step, recalled)
        spared = None if self.came is None else self.spare(labels)
        slots = self.fill(order, numbers, step, (1 + recalled) * self.seen, recalled)
        slots = slots.reshape(-1, (1 + recalled) * step)
        return Mixed(order, numbers, slots[:, :step].reshape(-1), slots[:, step:].reshape(-1), spared)

    def spare(self, labels: np.ndarray) -> np.ndarray:
        """(n, outputs) bool: outputs that the next new samples leave alone, in whose order they come.

        Source: ER-ACE, Caccia et al., arXiv:2104.05025, whose batch is here the RECENT samples.
        """
        assert self.came is not None
        spared = np.empty((len(labels), len(self.came)), bool)
        for i, label in enumerate(labels):
            self.came[label] = self.seen + i
            spared[i] = self.seen + i + 1 - self.came > RECENT
        return spared

    def steps_apart(self, labels: np.ndarray, step: int, recalled: int = 1) -> int:
        """How many of the next n new samples can be learned at once where logits are kept.

        Up to the step that recalls a slot which another one fills, or the other way round: its logits are not
        those of before all of them. labels : (n,), n is a multiple of step.
        """
        n = len(labels)
        size, numbers = len(self.images), np.arange(n * recalled) // (step * recalled) + 1
        filled = np.minimum(self.seen + step * numbers, size)
        ahead = replace(self, balance=self.balance and self.balance.copy())
        kept = ahead.slots_to_keep(labels).reshape(-1, step)
        drawn = slots_to_recall(self.seed, self.seen * recalled, n * recalled, filled)
        written: set[int] = set()
        read: set[int] = set()
        recalls = drawn.reshape(-1, step * recalled).tolist()
        for i, (new, old) in enumerate(zip(kept.tolist(), recalls, strict=True)):
            if not (written.isdisjoint(old) and read.isdisjoint(new)):
                return i * step
            written.update(new)
            read.update(old)
        return n

    def slots_to_keep(self, labels: np.ndarray) -> np.ndarray:
        """Slot into which each of the next samples goes, -1 for none; what is known of classes changes."""
        if self.balance is None:
            return slots_to_keep(self.seed, self.seen, len(labels), len(self.labels))
        return self.balance.slots_to_keep(self.seed, self.seen, labels, self.labels.astype(np.int64))

    def kept_of(self, labels: np.ndarray) -> int:
        """How many samples of a stream with these labels are kept, from its first one on."""
        balance = self.balance and Balance(*map(np.zeros_like, (self.balance.offered, self.balance.full)))
        begun = replace(self, labels=np.zeros_like(self.labels), seen=0, balance=balance)
        return int(np.count_nonzero(begun.slots_to_keep(labels) >= 0))

    def fill(
        self, images: np.ndarray, labels: np.ndarray, step: int, first: int, recalled: int = 1
    ) -> np.ndarray:
        """Take in what is new and put recalled samples into the gaps, in place.

        Parameters
        ----------
        images, labels : (n, ...), (n,) places first .. first + n of the order in which a network learns:
            `step` new samples, `recalled` times as many gaps, and so on

        Returns
        -------
        (n,) slot that a new sample went into, -1 for none, or that a recalled one came from.
        """
        turn, place = np.divmod(first + np.arange(len(images)), (1 + recalled) * step)
        new = place < step
        slots, gaps = np.empty(len(images), np.int64), np.flatnonzero(~new)
        slots[new] = self.slots_to_keep(labels[new])
        if gaps.size:
            filled = np.minimum(self.seen + np.cumsum(new)[gaps], len(self.labels))
            number = int(turn[gaps[0]]) * step * recalled + int(place[gaps[0]]) - step
            slots[gaps] = slots_to_recall(self.seed, number, gaps.size, filled)
        self._exchange(images, labels, slots, new)
        self.seen += int(np.count_nonzero(new))
        return slots

    def _exchange(self, images: np.ndarray, labels: np.ndarray, slots: np.ndarray, new: np.ndarray) -> None:
        """Keep what is new and fill the gaps, each from what its slot holds when its turn comes."""
        last: dict[int, int] = {}  # slot -> place of the new sample that is in it by now
        origin = np.full(len(slots), -1)
        for place, (slot, is_new) in enumerate(zip(slots.tolist(), new.tolist(), strict=True)):
            if not is_new:
                origin[place] = last.get(slot, -1)
            elif slot >= 0:
                last[slot] = place
        written = np.flatnonzero(new & (slots >= 0))
        packed = images[written] if self.bits == 8 else pack(images[written], self.bits)
        before, here = ~new & (origin < 0), origin >= 0
        rows = np.concatenate(
            [self.images[slots[before]], packed[np.searchsorted(written, origin[here])]],
            dtype=np.uint8,
            casting="unsafe",
        )
        gaps = np.concatenate([np.flatnonzero(before), np.flatnonzero(here)])
        images[gaps] = rows if self.bits == 8 else unpack(rows, self.bits, images.shape[1:])
        labels[before], labels[here] = self.labels[slots[before]], labels[origin[here]]
        into, places = (np.array(list(part), np.int64) for part in (last.keys(), last.values()))
        self.images[into], self.labels[into] = packed[np.searchsorted(written, places)], labels[places]
        if self.logits is not None:
            self.logits[into] = LOGIT.min

    def former_logits(self, slots: np.ndarray) -> np.ndarray:
        """(n, outputs) int64 logits of some slots, UNKNOWN where there are none yet."""
        assert self.logits is not None
        return known(self.logits[slots])

    def keep_logits(self, slots: np.ndarray, logits: np.ndarray) -> None:
        """Keep the (n, outputs) logits of samples that went into these slots; -1 went nowhere."""
        assert self.logits is not None
        for slot, row in zip(slots, logits, strict=True):
            if slot >= 0:
                self.logits[slot] = np.clip(row, LOGIT.min + 2, LOGIT.max)


@dataclass(frozen=True)
class Replay:
    """A memory in front of a network that learns: `step` new samples, the recalled ones, and so on.

    Attributes
    ----------
    augment : images and their first place in the order of learning -> the images that the network sees;
        what is kept is not augmented
    recalled : samples for each new one
    """

    memory: Reservoir
    step: int
    augment: Callable[[np.ndarray, int], np.ndarray]
    recalled: int = 1

    @property
    def period(self) -> int:
        """Samples of a step, new and recalled."""
        return (1 + self.recalled) * self.step
