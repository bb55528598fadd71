"""A team whose members are joined by a wire; what the wire is, `Wire` leaves open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from mappings.cluster.codes import add_up, bytes_for, pack_codes, pack_sums, packed_bytes, unpack_codes
from wage_neuro.team import Team, weight_parts


class Wire(ABC):
    """What joins the members of a team; all of them call the same methods in the same order."""

    rank: int
    size: int

    @abstractmethod
    def exchange(self, to: Sequence[np.ndarray], sizes: Sequence[int]) -> Any:
        """Send each member the bytes that are its own, and take `sizes` of bytes from each; returns at once,
        having copied them.

        Returns what `arrived` makes the received bytes of, one after the other.
        """

    @abstractmethod
    def arrived(self, sent: Any) -> np.ndarray:
        """(sum of sizes,) uint8 of an `exchange`."""

    @abstractmethod
    def gather(self, own: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
        """Bytes of all members, rank by rank; `sizes` says how many each has."""

    @abstractmethod
    def most(self, values: np.ndarray) -> np.ndarray:
        """Largest of each int64 value."""

    @abstractmethod
    def total(self, values: np.ndarray) -> np.ndarray:
        """Sum of each int64 value."""

    @abstractmethod
    def objects(self, own: Any) -> list[Any]:
        """Any small object of each member, rank by rank."""

    def tells(self) -> bool:
        """Whether this member, which ends all, is the one to say why."""
        return True

    def abort(self, code: int = 1) -> None:
        """End all members, at once."""
        raise NotImplementedError


@dataclass
class Traffic:
    """Bytes that one member has sent to others, by what they were.

    Attributes
    ----------
    sums : of gradients
    steps : of weights
    maxima : of errors and gradients; an all-reduce is counted as log2(members) sends, rounded up
    metrics : what is no part of learning: counts of wrong answers, logits of the test images
    """

    sums: int = 0
    steps: int = 0
    maxima: int = 0
    metrics: int = 0

    @property
    def learning(self) -> int:
        """Bytes that learning took."""
        return self.sums + self.steps + self.maxima

    def to_json(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def float_bytes(weights: int, size: int) -> int:
    """Bytes that each member sends where gradients of float32 are all-reduced in a ring, the least there is.

    Source: Patarasu and Yuan, J. Parallel Distrib. Comput. 69, 117 (2009): 2 (size - 1) / size of the data.

    >>> float_bytes(1000, 2), float_bytes(1000, 4)
    (4000, 6000)
    """
    return 2 * (size - 1) * 4 * weights // size


class WiredTeam(Team):
    """Members of a team on a wire.

    Sums go straight to who adds them up: what is on the way are one member's own, which fit in fewer bytes
    than sums of several, and any whole number of bytes will do.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire, self.traffic = wire, Traffic()
        self.rank, self.size = wire.rank, wire.size

    def __str__(self) -> str:
        return f"{self.size} ranks"

    def most(self, values: Sequence[int]) -> np.ndarray:
        self.traffic.maxima += self._reduced(len(values))
        return self.wire.most(np.array(values, np.int64))

    def agree(self, values: Sequence[int]) -> np.ndarray:
        self.traffic.metrics += self._reduced(len(values))
        return self.wire.most(np.array(values, np.int64))

    def total(self, values: Sequence[int] | np.ndarray) -> np.ndarray:
        own = np.array(values, np.int64)
        self.traffic.metrics += self._reduced(own.size)
        return self.wire.total(own)

    def _reduced(self, numbers: int) -> int:
        return 8 * numbers * (self.size - 1).bit_length()

    def send_sums(self, sums: np.ndarray, bound: int) -> Any:
        width, parts = bytes_for(bound), weight_parts(len(sums), self.size)
        own = (parts[self.rank].stop - parts[self.rank].start) * width
        packed = pack_sums(sums, width)
        to = [packed[part.start * width : part.stop * width] for part in parts]
        self.traffic.sums += sum(len(part) for rank, part in enumerate(to) if rank != self.rank)
        return width, self.wire.exchange(to, [own] * self.size)

    def take_sums(self, sent: Any) -> np.ndarray:
        width, exchange = sent
        return add_up(self.wire.arrived(exchange), self.size, width)

    def share(
        self, own: Sequence[np.ndarray], weights: Sequence[int], bits: Sequence[int]
    ) -> list[np.ndarray]:
        packed = [pack_codes(codes, k) for codes, k in zip(own, bits, strict=True)]
        parts = [weight_parts(n, self.size) for n in weights]
        sizes = [
            [packed_bytes(p[rank].stop - p[rank].start, k) for p, k in zip(parts, bits, strict=True)]
            for rank in range(self.size)
        ]
        totals = [sum(each) for each in sizes]
        self.traffic.steps += totals[self.rank] * (self.size - 1)
        everything = self.wire.gather(np.concatenate([*packed, np.empty(0, np.uint8)]), totals)
        found = [np.empty(n, np.int8 if k <= 8 else np.int16) for n, k in zip(weights, bits, strict=True)]
        at = 0
        for rank in range(self.size):
            for layer, (codes, k) in enumerate(zip(found, bits, strict=True)):
                part, size = parts[layer][rank], sizes[rank][layer]
                codes[part] = unpack_codes(everything[at : at + size], part.stop - part.start, k)
                at += size
        return found

    def gather(self, own: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        row = own.dtype.itemsize * int(np.prod(own.shape[1:]))
        self.traffic.metrics += len(own) * row * (self.size - 1)
        flat = np.ascontiguousarray(own).reshape(-1).view(np.uint8)
        return self.wire.gather(flat, [n * row for n in counts]).view(own.dtype).reshape(-1, *own.shape[1:])

    def sent(self, weights: int, updates: int) -> dict[str, int]:
        return {
            "ranks": self.size,
            "updates": updates,
            "learning": self.traffic.learning,
            **self.traffic.to_json(),
            "float32": float_bytes(weights, self.size) * updates,
        }

    def objects(self, own: Any) -> list[Any]:
        return self.wire.objects(own)
