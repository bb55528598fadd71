"""Prototypes: a read-out that keeps samples of the features below it and answers with the nearest one.

A prototype is a row of integer codes with a label, as an axon's 8-bit synapses and a neuron's bias are. The
nearest one wins; an error, or a narrow lead, allots a new prototype to the sample; the winner of a right
answer moves to the sample, by less the more often it has won. Nothing is replayed, and no error is sent.

Source: continually learning prototypes (CLP), Hajizada et al., arXiv:2404.00418; nearest neighbours that are
kept where the others err, Hart, IEEE Transactions on Information Theory 14 (1968).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from wage_neuro.activity import FIELDS, count_dense_inputs
from wage_neuro.control import Control
from wage_neuro.errors import SettingError
from wage_neuro.fixed_point import carrier
from wage_neuro.kinds import Kind
from wage_neuro.network import Network
from wage_neuro.random_bits import UPDATE, bits16
from wage_neuro.read_out import ReadOutEngine
from wage_neuro.rules import MARGIN_UNITS, Rules
from wage_neuro.support import Support
from wage_neuro.train import State

_LAYER = 2**16  # no layer of a network has this number: names the random bits of the prototypes
_ERRORS, _LEARNING, _UPDATES = (
    list(FIELDS).index(name) for name in ("errors", "learning_operations", "updates")
)
PART = 64
"""Samples whose distances are computed at once."""
NOWHERE = np.iinfo(np.int64).min
"""Nearness of a class that has no prototype."""


@dataclass(frozen=True)
class Learned:
    """What samples did to the prototypes: answers that were wrong, codes that changed."""

    errors: int
    changed: int


@dataclass
class Prototypes:
    """Labelled codes.

    Attributes
    ----------
    codes : (most, features) int8 or int16, as the features are
    labels : (most,) int16, -1 where there is no prototype yet
    wins : (most,) int32 right answers since it was allotted, that one counted
    born : (most,) int64 sample that it was allotted to
    seed : names the random bits
    margin : in eighths: a right answer must lead by this share of the squared distance to the nearest
        prototype of another class
    seen : samples learned
    """

    codes: np.ndarray
    labels: np.ndarray
    wins: np.ndarray
    born: np.ndarray
    seed: int
    margin: int = 0
    seen: int = 0

    @classmethod
    def empty(
        cls, most: int, features: int, dtype: type[np.signedinteger], seed: int, margin: int = 0
    ) -> Prototypes:
        """Room for `most` prototypes.

        Raises
        ------
        SettingError
            If there is room for none.
        """
        if most < 1:
            raise SettingError(f"memory={most}: prototypes need room for 1 or more")
        labels, born = np.full(most, -1, np.int16), np.zeros(most, np.int64)
        return cls(np.zeros((most, features), dtype), labels, np.zeros(most, np.int32), born, seed, margin)

    @property
    def count(self) -> int:
        """Prototypes so far."""
        return int(np.count_nonzero(self.labels >= 0))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All that it holds, by name."""
        return {name: getattr(self, name) for name in ("codes", "labels", "wins", "born")}

    def holding(self, arrays: dict[str, np.ndarray], seen: int) -> Prototypes:
        """Prototypes like these that hold these arrays instead, after so many samples."""
        return replace(self, **arrays, seen=seen)  # type: ignore[arg-type]

    @property
    def bytes(self) -> int:
        """Bytes of the codes, labels, wins and ages."""
        return sum(array.nbytes for array in self.arrays.values())

    def nearness(self, x: np.ndarray, rows: np.ndarray | slice | None = None) -> np.ndarray:
        """2 x P - P P, the squared distance to each prototype but for x x, which is the same for all.

        x : (n, features) codes; rows : some of the prototypes
        Returns (n, prototypes) int64.
        """
        P = self.codes[slice(self.count) if rows is None else rows]
        top = np.iinfo(self.codes.dtype).max
        dtype = carrier(self.codes.shape[1] * top * top)
        P_carried = P.astype(dtype)
        products = x.astype(dtype) @ P_carried.T
        return 2 * products.astype(np.int64) - np.einsum("ij,ij->i", P_carried, P_carried).astype(np.int64)

    def learn(self, x: np.ndarray, labels: np.ndarray) -> Learned:
        """Learn (n, features) codes with their (n,) labels, one after another; n best up to `PART`."""
        # all distances at once, and again those to the few prototypes that change on the way
        near = np.full((len(x), min(len(self.labels), self.count + len(x))), NOWHERE)
        near[:, : self.count] = self.nearness(x)
        squares = (x.astype(np.int64) ** 2).sum(axis=1)
        errors = changed = 0
        for i, label in enumerate(labels):
            mine = self.labels[: near.shape[1]] == label
            right, wrong = (np.where(kind, near[i], NOWHERE) for kind in (mine, ~mine))
            place, best_right, best_wrong = int(right.argmax()), int(right.max()), int(wrong.max())
            needed = self.margin * (int(squares[i]) - best_wrong) if best_wrong > NOWHERE else 0
            if best_right > best_wrong and (best_right - best_wrong) * MARGIN_UNITS >= needed:
                codes = self._move(place, x[i])
            else:
                place, codes = self._allot(int(label)), x[i]
            errors += best_right <= best_wrong
            changed += int(np.count_nonzero(self.codes[place] != codes))
            self.codes[place] = codes
            near[i:, place] = self.nearness(x[i:], np.array([place]))[:, 0]
            self.seen += 1
        return Learned(errors, changed)

    def _move(self, winner: int, x: np.ndarray) -> np.ndarray:
        """Codes of the winner after a step of 2**-floor(log2(wins)) to x, rounded stochastically."""
        self.wins[winner] += 1
        P = self.codes[winner]
        D = x.astype(np.int64) - P
        shift = int(self.wins[winner]).bit_length() - 1
        r = bits16((self.seed, UPDATE, _LAYER, self.seen), 0, len(D)).astype(np.int64)
        step = ((np.abs(D) << 16 >> shift) + r) >> 16
        return (P + np.sign(D) * step).astype(P.dtype)

    def _allot(self, label: int) -> int:
        """Place of a new prototype; where there is no room, that of the oldest of the least useful."""
        place = self.count
        if place == len(self.labels):
            place = int(np.lexsort((self.born, self.wins))[0])
        self.labels[place], self.wins[place], self.born[place] = label, 1, self.seen
        return place

    def logits(self, x: np.ndarray, classes: int) -> np.ndarray:
        """(n, classes) int64 nearness of each class's nearest prototype, NOWHERE of a class without one."""
        logits = np.full((len(x), classes), NOWHERE)
        if self.count:
            near, owner = self.nearness(x), self.labels[: self.count]
            for label in np.unique(owner):
                logits[:, label] = near[:, owner == label].max(axis=1)
        return logits


def answer_and_learn(
    prototypes: Prototypes, x: np.ndarray, labels: np.ndarray, classes: int, counts: np.ndarray | None = None
) -> np.ndarray:
    """Answer samples, then learn those that have a label.

    Parameters
    ----------
    x, labels : (n, features), (n,) codes and labels, -1 where a sample is only asked
    counts : (fields,) to add the activity to; see `wage_neuro.activity`

    Returns
    -------
    (n, classes) int64 logits from before anything was learned.
    """
    logits, learns = prototypes.logits(x, classes), labels >= 0
    if counts is not None:
        count_dense_inputs(counts, prototypes.codes[: prototypes.count].T, x)
    if learns.any():
        learned = prototypes.learn(x[learns], labels[learns])
        if counts is not None:
            meetings = np.count_nonzero(x[learns])
            counts[[_ERRORS, _LEARNING, _UPDATES]] += learned.errors, meetings, learned.changed
    return logits


class PrototypeEngine(ReadOutEngine):
    """Prototypes on what the fixed layers below the last make of an image; see `wage_neuro.engine.Engine`.

    In the last layer's place it is counted what the prototypes do: a feature other than 0 meets a code of a
    prototype (synapse reached; synaptic operation where it is not 0), or one that learns (learning
    operation); a code changes (update); an answer was wrong (error).
    """

    supports = Support(
        who="prototypes", kinds=frozenset(Kind) - {Kind.NORMALISED}, abilities=frozenset({"counts activity"})
    )

    def __init__(self, network: Network, rules: Rules, state: State, prototypes: Prototypes) -> None:
        super().__init__(network, rules, state)
        self.held = prototypes

    @property
    def seen(self) -> int:
        return self.held.seen

    def learn(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        """Learn samples one after another; `control` says nothing, as a prototype has a step size of its own.

        Returns the (n, classes) logits that they had before the first of their `PART` was learned.
        """
        self.network.check_labels(labels, len(images))
        x, counts = self.features(images), self._counts
        parts = [slice(i, i + PART) for i in range(0, len(x), PART)]
        classes = self.network.classes
        return np.concatenate([answer_and_learn(self.held, x[p], labels[p], classes, counts) for p in parts])

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return (n, classes) int64 logits: minus squared distances, but for what the classes share."""
        asked = np.full(len(images), -1)
        x, classes = self.features(images), self.network.classes
        return answer_and_learn(self.held, x, asked, classes, self._counts)
