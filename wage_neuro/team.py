"""A team: processes that learn every batch together, each on its own rows, to the bits of one process alone.

All that one needs of the others are whole numbers: the largest error of each layer, the sums of each
gradient, the steps of each weight. Their sums and maxima do not depend on who adds them up, nor in which
order. How they travel is the business of `mappings.cluster`; this floor knows what is asked of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from wage_neuro.errors import SettingError
from wage_neuro.rules import Rules
from wage_neuro.state import State

GRAIN = 128
"""Weights that are never parted: whole blocks of random bits, and of what a compiled kernel moves at once."""


def cut(n: int, parts: int) -> list[slice]:
    """Cut n things into parts as even as can be, in order; the larger parts come first.

    >>> cut(8, 3)
    [slice(0, 3, None), slice(3, 6, None), slice(6, 8, None)]
    """
    ends = [n // parts * i + min(i, n % parts) for i in range(parts + 1)]
    return [slice(first, last) for first, last in pairwise(ends)]


def weight_parts(n: int, parts: int) -> list[slice]:
    """Cut n weights into parts of whole grains; the last one may be shorter, and some may have none.

    >>> weight_parts(300, 2)
    [slice(0, 256, None), slice(256, 300, None)]
    """
    return [slice(min(n, p.start * GRAIN), min(n, p.stop * GRAIN)) for p in cut(-(-n // GRAIN), parts)]


class Team:
    """A team of one: what it asks of the others is what it has.

    >>> ALONE.rows(128), ALONE.most([3, 5]).tolist()
    (slice(0, 128, None), [3, 5])
    """

    rank, size = 0, 1

    def rows(self, batch: int) -> slice:
        """Rows of every batch that this member learns."""
        return cut(batch, self.size)[self.rank]

    def part(self, weights: int) -> slice:
        """Weights of a layer, row-major, that this member updates."""
        return weight_parts(weights, self.size)[self.rank]

    def most(self, values: Sequence[int]) -> np.ndarray:
        """Largest of each value over all members, int64, each |value| < 2**63."""
        return np.array(values, np.int64)

    def agree(self, values: Sequence[int]) -> np.ndarray:
        """As `most`, of what is no part of learning: whether to stop, say."""
        return np.array(values, np.int64)

    def total(self, values: Sequence[int] | np.ndarray) -> np.ndarray:
        """Sum of each int64 value over all members, in the same shape."""
        return np.array(values, np.int64)

    def send_sums(self, sums: np.ndarray, bound: int) -> Any:
        """Send each member its part of this one's sums, without waiting for anybody.

        sums : (n,) integers, or whole numbers in floats; bound : largest magnitude that any member's may have
        """
        return sums

    def take_sums(self, sent: Any) -> np.ndarray:
        """(m,) int64 sums over all members of this one's part, of what `send_sums` returned."""
        return np.asarray(sent, np.int64)

    def share(
        self, own: Sequence[np.ndarray], weights: Sequence[int], bits: Sequence[int]
    ) -> list[np.ndarray]:
        """Give each layer's own part to all members, and take theirs.

        own : of each layer (m,) codes of its own part of the weights, |code| < 2**(bits - 1)
        Returns (n,) codes of all weights of each layer.
        """
        return list(own)

    def gather(self, own: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        """Rows of all members, rank by rank, each `counts` of them."""
        return own

    def objects(self, own: Any) -> list[Any]:
        """A small object of each member, rank by rank."""
        return [own]

    def sent(self, weights: int, updates: int) -> dict[str, int]:
        """What this member has sent in so many updates of so many weights; nothing if it is alone."""
        return {}

    def most_rows(self, batch: int) -> int:
        """Rows of a batch of the member that has the most."""
        return -(-batch // self.size)


ALONE = Team()


def whole(state: State, team: Team) -> State:
    """A member's state with the momentum of all weights: each has followed its own part of it alone.

    All members ask at the same time.
    """
    if team.size == 1 or state.momentum is None:
        return state
    found = []
    for M in state.momentum:
        parts = weight_parts(M.size, team.size)
        own = M.reshape(-1)[parts[team.rank]]
        found.append(team.gather(own, [part.stop - part.start for part in parts]).reshape(M.shape))
    return state.having(momentum=found)


def code_bits(rules: Rules, k_G: int) -> int:
    """Bits of what tells how a weight moved: a ternary step, or else the weight that was stored.

    >>> code_bits(Rules(update="ternary"), 8), code_bits(Rules(), 8)
    (2, 8)
    """
    return 2 if rules.update == "ternary" else k_G


def check_team(rules: Rules, team: Team) -> None:
    """Raise SettingError unless each member has a sample of every update, and no synapse has an importance.

    That is raised where a task ends, and a team has one task.
    """
    if team.size == 1:
        return
    if rules.samples_an_update < team.size:
        one = " with pipelined" if rules.pipelined else ""
        raise SettingError(
            f"batch={rules.batch}{one}: {team.size} ranks share the samples of each update,"
            f" {rules.samples_an_update}; want as many ranks or fewer"
        )
    if rules.consolidation:
        raise SettingError(f"consolidation={rules.consolidation} on {team.size} ranks: want 0, or one rank")
