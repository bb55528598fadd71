"""How a run's weights are spread as it learns: weights.jsonl, a row of counts an epoch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from experiments.runs import run_folder
from experiments.runs.forms import Counts
from wage_neuro.errors import CheckpointError
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.state import State
from wage_neuro.train import visible_weights
from wage_neuro.typed import Count, read_rows, reading

FILE = "weights.jsonl"
BINS = 64
"""Of a layer's codes; a few more or less, so that they are even and one has 0 in its middle."""
AT_MOST = 20
"""A 20th of the time goes there: epochs that are shorter are not all counted."""


class SpreadRow(TypedDict):
    """Weights of each layer, counted after `epoch` epochs: of each bin from the lowest code up."""

    epoch: Count
    stored: list[Counts]
    visible: list[Counts]


def bin_width(most: int) -> int:
    """Codes of one bin, an odd number, where codes are -most..most.

    >>> bin_width(1), bin_width(127), bin_width(32767)
    (1, 5, 1025)
    """
    width = -(-(2 * most + 1) // BINS)
    return width + (width % 2 == 0)


def centres(most: int) -> list[int]:
    """Middle code of each bin.

    >>> centres(1), centres(127)[:2], centres(127)[-1]
    ([-1, 0, 1], [-125, -120], 125)
    """
    width = bin_width(most)
    half = -(-(most - width // 2) // width)
    return [width * i for i in range(-half, half + 1)]


def counted(codes: np.ndarray, most: int) -> list[int]:
    """How many codes of -most..most are in each bin.

    >>> counted(np.array([[-1, 1], [1, 1]], np.int8), 1)
    [1, 0, 3]
    """
    width, bins = bin_width(most), centres(most)
    index = (codes.astype(np.int32).reshape(-1) + (width // 2 - bins[0])) // width
    return [int(n) for n in np.bincount(index, minlength=len(bins))]


def spread_of(network: Network, rules: Rules, state: State, epoch: int) -> SpreadRow:
    """Count the weights of every layer."""
    V, layers = visible_weights(network, state), network.layers
    stored = [layer.bits.stored_max(rules.stored_range) for layer in layers]
    return {
        "epoch": epoch,
        "stored": [counted(S, most) for S, most in zip(state.S, stored, strict=True)],
        "visible": [counted(v, layer.bits.weight_max) for v, layer in zip(V, layers, strict=True)],
    }


@dataclass
class Spread:
    """The rows of a run in its folder."""

    folder: Path
    rows: list[SpreadRow] = field(default_factory=list)
    _last: float = 0.0
    _cost: float = 0.0

    @classmethod
    def of(cls, folder: Path, network: Network, rules: Rules, epoch: int) -> Spread:
        """What there is up to this epoch; what cannot be read is begun anew."""
        try:
            rows = read(folder, network, rules)
        except CheckpointError:
            rows = []
        return cls(folder, [row for row in rows if row["epoch"] <= epoch])

    def note(self, network: Network, rules: Rules, engine: Any, epoch: int) -> None:
        """Count the weights of an engine, or of what else has a `state`, unless it was done just before."""
        began = time.monotonic()
        if began - self._last < AT_MOST * self._cost:
            return
        self.rows = [row for row in self.rows if row["epoch"] < epoch]
        self.rows.append(spread_of(network, rules, engine.state, epoch))
        self._last = time.monotonic()
        self._cost = self._last - began

    def write(self) -> None:
        """Write them."""
        run_folder.write_rows(self.folder / FILE, self.rows)  # type: ignore[arg-type]


def read(folder: Path, network: Network, rules: Rules) -> list[SpreadRow]:
    """Rows of a run's folder; none where it has no such file.

    Raises
    ------
    CheckpointError
        If the file is damaged, or of another network.
    """
    path, what = folder / FILE, "counts of a run's weights"
    if not path.exists():
        return []
    rows: list[SpreadRow] = read_rows(path, SpreadRow, what)
    wanted = {
        "stored": [len(centres(layer.bits.stored_max(rules.stored_range))) for layer in network.layers],
        "visible": [len(centres(layer.bits.weight_max)) for layer in network.layers],
    }
    with reading(path, what):
        for i, row in enumerate(rows, start=1):
            for name, bins in wanted.items():
                found = [len(counts) for counts in row[name]]  # type: ignore[literal-required]
                if found != bins or not all(map(sum, row[name])):  # type: ignore[literal-required]
                    raise ValueError(f"line {i}.{name} has {found} bins with weights: want {bins}")
    return rows
