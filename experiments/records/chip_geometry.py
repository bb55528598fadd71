"""Where the cores of a placed network stand in a picture, how full they are, and what goes between them."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from mappings.chips.cost import Cost
from mappings.chips.placement import HOST, RESOURCES, Placement, Population

LIGHTNESS = {"forward": 0.52, "pool": 0.74, "error": 0.34}
HATCH = {"pool": "----", "error": "////"}
"""What tells roles apart where colours do not."""
OF_ERRORS = ("third factor", "loss", "feedback")
"""Links that carry errors; the others carry activations."""


def colour(population: Population, last: int) -> tuple[float, float, float]:
    """Hue by layer of 0..last, lightness by role."""
    hue = 0.60 - 0.62 * max(0, population.layer) / max(1, last)  # blue, green, orange, red
    return colorsys.hls_to_rgb(hue % 1, LIGHTNESS.get(population.role, 0.52), 0.62)


def colours(placement: Placement) -> list[tuple[float, float, float]]:
    """Colour of each population."""
    last = placement.populations[-1].layer
    return [colour(population, last) for population in placement.populations]


def tiles(placement: Placement) -> tuple[int, int]:
    """Columns and rows of tiles over all chips."""
    chip_rows = -(-placement.chips // placement.chip_columns)
    return placement.chip_columns * placement.chip.mesh_columns, chip_rows * placement.chip.mesh_rows


@dataclass(frozen=True)
class Window:
    """The tiles that are shown, half open: those in use, and one beside them where there are more."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def of(cls, placement: Placement) -> Window:
        (x, y), (columns, rows) = placement.xy(placement.core), tiles(placement)
        return cls(
            max(0, int(x.min()) - 1),
            max(0, int(y.min()) - 1),
            min(columns, int(x.max()) + 2),
            min(rows, int(y.max()) + 2),
        )

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def holds(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Which tiles are in it."""
        return (x >= self.left) & (x < self.right) & (y >= self.top) & (y < self.bottom)


def corners(placement: Placement, core: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Upper left corners of cores, in units of tiles, and their size."""
    side = int(np.ceil(placement.chip.tile_cores**0.5))
    x, y = placement.xy(core)
    inner_y, inner_x = np.divmod(core % placement.chip.cores % placement.chip.tile_cores, side)
    return x + inner_x / side, y + inner_y / side, 1 / side


def shown_cores(placement: Placement, window: Window) -> np.ndarray:
    """Every core of the tiles in a window, used or not."""
    every = np.arange(placement.chips * placement.chip.cores)
    return every[window.holds(*placement.xy(every))]


def fill(placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    """(pieces,) share of its core that a piece fills, and the share below it."""
    limits = {name: placement.limit(name) for name in RESOURCES}
    of_core = np.max([placement.core_resources[n] / limits[n] for n in RESOURCES], axis=0)
    of_piece = np.max([placement.piece_resources[n] / limits[n] for n in RESOURCES], axis=0)
    total = np.bincount(placement.core, of_piece, placement.places)
    heights = of_core[placement.core] * of_piece / total[placement.core]
    stacked = np.cumsum(heights) - heights
    _, firsts, which = np.unique(placement.core, return_index=True, return_inverse=True)
    first = firsts[which]  # pieces of a core follow each other
    return heights, stacked - stacked[first]


@dataclass(frozen=True)
class Traffic:
    """Messages a sample from one place to another, the most first; `errors` where they carry errors."""

    source: np.ndarray
    target: np.ndarray
    messages: np.ndarray
    errors: np.ndarray


def between_cores(placement: Placement, cost: Cost) -> Traffic:
    """Messages from core to core; the host's are not among them."""
    return _between(placement, cost, placement.core)


def between_populations(placement: Placement, cost: Cost) -> Traffic:
    """Messages from population to population, where cores are too many to be told apart."""
    return _between(placement, cost, np.array([piece.population for piece in placement.pieces]))


def _between(placement: Placement, cost: Cost, group: np.ndarray) -> Traffic:
    """Sum messages from group to group of pieces, for the (pieces,) group of each."""
    edges, groups = placement.edges, int(group.max()) + 1
    inside = (edges.source != HOST) & (edges.target != HOST)
    is_error = np.array([link.role in OF_ERRORS for link in placement.links] + [False] * 4)
    errors = is_error[edges.link[inside]]  # what is of no link counts from the end
    pair = group[edges.source[inside]].astype(np.int64) * groups + group[edges.target[inside]]
    found, which = np.unique(2 * pair + errors, return_inverse=True)
    messages = np.bincount(which, cost.edge_messages[inside], len(found))
    source, target = np.divmod(found // 2, groups)
    kept = np.flatnonzero((source != target) & (messages > 0))
    kept = kept[np.argsort(-messages[kept], kind="stable")]
    return Traffic(source[kept], target[kept], messages[kept], found[kept] % 2 == 1)


def tile_traffic(placement: Placement, cost: Cost) -> np.ndarray:
    """(rows, columns) messages a sample that start at, pass or reach each tile."""
    columns, rows = tiles(placement)
    edges, messages = placement.edges, cost.edge_messages
    x, y = (np.append(a, 0) for a in placement.xy(placement.core))
    x0, y0, x1, y1 = x[edges.source], y[edges.source], x[edges.target], y[edges.target]
    across, down = np.zeros((rows, columns + 1)), np.zeros((rows + 1, columns))
    np.add.at(across, (y0, np.minimum(x0, x1)), messages)
    np.add.at(across, (y0, np.maximum(x0, x1) + 1), -messages)
    np.add.at(down, (np.minimum(y0, y1), x1), messages)
    np.add.at(down, (np.maximum(y0, y1) + 1, x1), -messages)
    load = across.cumsum(axis=1)[:, :-1] + down.cumsum(axis=0)[:-1]
    np.add.at(load, (y0, x1), -messages)  # the corner belongs to both legs
    return np.where(load > 1e-9 * max(1.0, load.max()), load, 0.0)
