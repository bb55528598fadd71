"""Streaming linear discriminant analysis in integers: a read-out of class means and one shared covariance.

Each sample adds its codes, and their products with each other, to sums; no sample is kept, none comes twice,
and neither order nor cut of the stream matters. Where an answer is wanted the sums are solved for the weights
of a linear read-out, by an integer Cholesky factor. All scales are powers of two, and every width is proven
from the worst case.

Source: Hayes and Kanan, Lifelong machine learning with deep streaming linear discriminant analysis,
arXiv:1909.01520.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isqrt

import numpy as np

from wage_neuro.activity import FIELDS, count_dense_inputs
from wage_neuro.bits import Bits
from wage_neuro.control import Control
from wage_neuro.errors import SettingError
from wage_neuro.fixed_point import carrier, peak, round_shift_half_even
from wage_neuro.kinds import Kind
from wage_neuro.network import Network
from wage_neuro.prototypes import NOWHERE
from wage_neuro.read_out import ReadOutEngine
from wage_neuro.rules import Rules
from wage_neuro.support import Support
from wage_neuro.train import State

CODE_BITS = 8  # of a feature at most
SUM_BITS = 31  # of a sum of products, sign not counted
FRACTION = 16  # bits of a class mean behind the point
SOLVED_BITS = 28  # of what is solved for; with a factor's 20 and 2**11 features a sum stays below 2**59
WEIGHT_BITS = 16  # of a weight of the read-out, sign counted
BLOCK = 64  # columns of the factor that are made together


@dataclass
class Discriminant:
    """Sums over labelled codes.

    After as many samples as the sums have room for, and again after each half of that, all sums are halved:
    nothing overflows, and what came before counts half.

    Attributes
    ----------
    products : (features * (features + 1) / 2,) int32 of each two features, the lower triangle row by row
    sums : (classes, features) int32 of each class's codes
    counts : (classes,) int32 samples of each class
    most : samples that the sums have room for, a power of two
    shrinkage : the covariance gets 2**-shrinkage of its mean variance on the diagonal
    seen : samples learned
    """

    products: np.ndarray
    sums: np.ndarray
    counts: np.ndarray
    most: int
    shrinkage: int
    seen: int = 0
    _solved: tuple[int, np.ndarray, np.ndarray] | None = field(default=None, repr=False)

    @classmethod
    def empty(cls, features: int, classes: int, bits: Bits, shrinkage: int) -> Discriminant:
        """Sums of nothing.

        Raises
        ------
        SettingError
            If a code is too wide.

        >>> Discriminant.empty(3, 2, Bits(), 8).most
        131072
        """
        if bits.k_A > CODE_BITS:
            raise SettingError(f"k_A={bits.k_A}: a discriminant takes features of {CODE_BITS} bits or fewer")
        products, sums, counts = (
            np.zeros(shape, np.int32)
            for shape in (features * (features + 1) // 2, (classes, features), classes)
        )
        # a product is below 2**(2 * (k_A - 1)), so `most` of them are below 2**SUM_BITS
        return cls(products, sums, counts, 1 << SUM_BITS - 2 * (bits.k_A - 1), shrinkage)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All that it holds, by name."""
        return {name: getattr(self, name) for name in ("products", "sums", "counts")}

    def holding(self, arrays: dict[str, np.ndarray], seen: int) -> Discriminant:
        """One like this that holds these arrays instead, after so many samples."""
        return replace(self, **arrays, seen=seen, _solved=None)  # type: ignore[arg-type]

    @property
    def bytes(self) -> int:
        """Bytes of the sums."""
        return sum(array.nbytes for array in self.arrays.values())

    # --- learning ---

    def learn(self, x: np.ndarray, labels: np.ndarray) -> None:
        """Add (n, features) codes with their (n,) labels."""
        done, half = 0, self.most // 2
        while done < len(x):
            part = slice(done, done + half - self.seen % half)
            self._add(x[part], labels[part])
            done, self.seen = part.stop, self.seen + len(x[part])
            if self.seen >= self.most and self.seen % half == 0:
                for array in self.arrays.values():
                    array >>= 1

    def _add(self, x: np.ndarray, labels: np.ndarray) -> None:
        dtype = carrier(len(x) * (1 << CODE_BITS - 1) ** 2)
        a = x.astype(dtype)
        self.products += (a.T @ a)[self._lower].astype(np.int32)
        np.add.at(self.counts, labels, 1)
        np.add.at(self.sums, labels, x.astype(np.int32))

    @property
    def _lower(self) -> np.ndarray:
        return np.tri(self.sums.shape[1], dtype=bool)

    # --- answering ---

    def logits(self, x: np.ndarray) -> np.ndarray:
        """(n, classes) int64 of (n, features) codes, NOWHERE of a class that never came."""
        weights, bias = self.read_out()
        dtype = carrier(x.shape[1] * (1 << CODE_BITS - 1 + WEIGHT_BITS - 1))
        found = (x.astype(dtype) @ weights.astype(dtype)).astype(np.int64) + bias
        found[:, self.counts == 0] = NOWHERE
        return found

    def read_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights (features, classes) int16 and bias (classes,) int64, all on one scale: m / C and -m w / 2.

        m are the class means, C is the shrunk covariance.
        """
        if self._solved is None or self._solved[0] != self.seen:
            self._solved = (self.seen, *self._solve())
        return self._solved[1:]

    def _solve(self) -> tuple[np.ndarray, np.ndarray]:
        number = np.maximum(self.counts, 1).astype(np.int64)[:, np.newaxis]
        means = (2 * (self.sums.astype(np.int64) << FRACTION) + number) // (2 * number)
        scatter, least = self._scatter(means)
        L = cholesky(scatter, least)
        root = isqrt(least)
        half = substituted(L, means.T, root)
        weights = substituted(L.T[::-1, ::-1], half[::-1], root)[::-1]
        weights = round_shift_half_even(weights, peak(weights).bit_length() - (WEIGHT_BITS - 1))
        top = (1 << WEIGHT_BITS - 1) - 1
        weights = np.clip(weights, -top, top).astype(np.int16)
        bias = -np.einsum("cf,fc->c", means, weights.astype(np.int64)) >> FRACTION + 1
        return weights, bias

    def _scatter(self, means: np.ndarray) -> tuple[np.ndarray, int]:
        """Lower triangle of what the codes differ from their class means, shrunk, and what was added to it.

        It is scaled by a power of two to the width that `cholesky` takes. Sums of products, and of sums with
        means, are below 2**(SUM_BITS + FRACTION), so that float64 carries them.
        """
        D = len(means.T)
        A = np.zeros((D, D))
        A[self._lower] = self.products
        A *= 1 << FRACTION
        A -= self.sums.T.astype(np.float64) @ means.astype(np.float64)
        A = np.tril(A)
        shift = int(A.diagonal().max()).bit_length() + 1 - 2 * factor_bits(D)  # 1: what is added
        if A.diagonal().max() > 0:
            A = round_shift_half_even(A, shift)
        least = max(1, int(A.trace()) // D >> self.shrinkage)
        A[np.diag_indices(D)] += least
        return A, least


def factor_bits(D: int) -> int:
    """Bits of a factor's entries, so that D of their products, and what they are taken from, stay exact.

    >>> factor_bits(2000), factor_bits(10)
    (20, 24)
    """
    return (52 - (D - 1).bit_length()) // 2


def cholesky(A: np.ndarray, least: int) -> np.ndarray:
    """Lower factor L of L L' = A, each entry rounded to a whole number.

    Parameters
    ----------
    A : (D, D) float64 that carries whole numbers, symmetric, of which the lower triangle is read
        Its diagonal is below 2**(2 * factor_bits(D)).
    least : int, 1 or more
        A square on L's diagonal is never less: where rounding would leave no positive number.

    Returns
    -------
    (D, D) int64, abs < 2**factor_bits(D)

    >>> cholesky(np.array([[4.0, 0], [6, 34]]), 1).tolist()
    [[2, 0], [3, 5]]
    """
    D, top = len(A), (1 << factor_bits(len(A))) - 1
    L = A.copy()
    for first in range(0, D, BLOCK):
        end = min(first + BLOCK, D)
        L[first:, first:end] -= L[first:, :first] @ L[first:end, :first].T
        for j in range(first, end):
            column = (L[j:, j] - L[j:, first:j] @ L[j, first:j]).astype(np.int64)
            pivot = min(isqrt(max(int(column[0]), least)), top)
            L[:j, j], L[j, j] = 0, pivot
            L[j + 1 :, j] = np.clip(_divided(column[1:], pivot), -top, top)
    return L.astype(np.int64)


def substituted(L: np.ndarray, right: np.ndarray, root: int) -> np.ndarray:
    """Solve L y = right * 2**s, with the s that lets y fill its bits.

    Parameters
    ----------
    L : (D, D) int64, lower triangle, abs < 2**factor_bits(D)
    right : (D, n) int64
    root : square root of what was added to the diagonal: y is no longer than right * 2**s / root

    Returns
    -------
    (D, n) int64, abs < 2**SOLVED_BITS
    """
    length = peak(right) * (isqrt(len(right)) + 1)
    shift = SOLVED_BITS - 1 + root.bit_length() - length.bit_length()
    right = right << shift if shift > 0 else right >> -shift
    top, y = (1 << SOLVED_BITS) - 1, np.zeros_like(right)
    for j, row in enumerate(L):
        y[j] = np.clip(_divided(right[j] - row[:j] @ y[:j], int(row[j])), -top, top)
    return y


def _divided(x: np.ndarray, by: int) -> np.ndarray:
    """x / by to the nearest whole number, halves up."""
    return (2 * x + by) // (2 * by)


ASKED, NOTHING = -1, -2
"""In a label's place: the sample is only asked; there is none."""
_LEARNING, _UPDATES, _REACHED = (
    list(FIELDS).index(name) for name in ("learning_operations", "updates", "synapses_reached")
)


def answer_or_learn(
    held: Discriminant, x: np.ndarray, labels: np.ndarray, counts: np.ndarray | None = None
) -> np.ndarray:
    """Learn the samples that have a label, then answer those that are asked.

    Parameters
    ----------
    x, labels : (n, features), (n,) codes and labels, ASKED or NOTHING
    counts : (fields,) to add the activity to; see `wage_neuro.activity`

    Returns
    -------
    (n, classes) int64 logits, 0 of a sample that is not asked.
    """
    logits = np.zeros((len(x), len(held.counts)), np.int64)
    learns, asked = labels >= 0, labels == ASKED
    if learns.any():
        held.learn(x[learns], labels[learns])
    if asked.any():
        logits[asked] = held.logits(x[asked])
    if counts is not None:
        _count(counts, held, x[learns], x[asked])
    return logits


def _count(counts: np.ndarray, held: Discriminant, learned: np.ndarray, asked: np.ndarray) -> None:
    features = held.sums.shape[1]
    if len(asked):
        count_dense_inputs(counts, held.read_out()[0], asked)
    met = learned != 0
    active = met.sum(axis=1)
    pairs = int((active * (active + 1) // 2 + active).sum())
    rows = np.arange(features, 0, -1) + 1  # a product with each feature from it on; the class's sum
    count_dense_inputs(counts, np.zeros((features, 0)), learned)
    counts[_REACHED] += int(met.sum(axis=0) @ rows)
    counts[[_LEARNING, _UPDATES]] += pairs


class DiscriminantEngine(ReadOutEngine):
    """A discriminant on what the fixed layers below the last make of an image.

    In the last layer's place it is counted what the sums take: a feature other than 0 meets the sums of its
    products with the features up to it, and its class's (synapse reached); two such features meet, or one and
    its class (learning operation, and an update: the sum changes). Of an answer, where features meet the
    read-out; how that is solved for is not counted.
    """

    supports = Support(
        who="a discriminant",
        kinds=frozenset(Kind) - {Kind.NORMALISED},
        abilities=frozenset({"counts activity"}),
    )

    def __init__(self, network: Network, rules: Rules, state: State, discriminant: Discriminant) -> None:
        super().__init__(network, rules, state)
        self.held = discriminant

    @property
    def seen(self) -> int:
        return self.held.seen

    def learn(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        """Add samples to the sums; there is no step size, and the (n, classes) logits returned are 0."""
        self.network.check_labels(labels, len(images))
        return answer_or_learn(self.held, self.features(images), labels, self._counts)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return (n, classes) int64 logits on one scale that changes as it learns."""
        asked = np.full(len(images), ASKED)
        return answer_or_learn(self.held, self.features(images), asked, self._counts)
