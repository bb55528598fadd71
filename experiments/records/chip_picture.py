"""A picture of a placed network: the cores by layer with their fill, the traffic over the mesh, and a
legend."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import numpy as np

from experiments.records.figure import save
from mappings.chips.cost import Cost
from mappings.chips.placement import RESOURCES, Placement, Population

INK, PAPER, EMPTY, EDGE = "#1f2933", "#ffffff", "#f1f3f5", "#d5dae0"
LIGHTNESS = {"forward": 0.50, "pool": 0.72, "error": 0.32}


def draw(path: Path, placement: Placement, cost: Cost, title: str, lines: list[str]) -> None:
    """Draw the map; `lines` are printed below the legend."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8.2), facecolor=PAPER)
    where = figure.add_axes((0.025, 0.495, 0.60, 0.42))
    traffic = figure.add_axes((0.025, 0.035, 0.60, 0.42))
    bar = figure.add_axes((0.635, 0.06, 0.010, 0.30))
    colours = _colours(placement)
    _draw_cores(where, placement, colours)
    image = _draw_traffic(traffic, placement, cost)
    figure.colorbar(image, cax=bar, label="messages a sample through a tile")
    size = min(15.0, 15 * 88 / len(title))  # long names of networks stay on one line
    figure.text(0.025, 0.965, title, fontsize=size, fontweight="bold", color=INK, va="center")
    _draw_legend(figure.add_axes((0.665, 0.40, 0.325, 0.515)), placement, colours)
    figure.text(0.715, 0.36, "\n".join(lines), fontsize=9, color=INK, va="top", linespacing=1.5)
    save(path, figure, dpi=100)


def _colours(placement: Placement) -> list[tuple[float, float, float]]:
    """Hue by layer, lightness by role."""
    last = max(1, placement.populations[-1].layer)

    def colour(population: Population) -> tuple[float, float, float]:
        hue = 0.60 - 0.62 * max(0, population.layer) / last  # blue, green, orange, red
        return colorsys.hls_to_rgb(hue % 1, LIGHTNESS.get(population.role, 0.5), 0.62)

    return [colour(population) for population in placement.populations]


def _tiles(placement: Placement) -> tuple[int, int]:
    """Columns and rows of tiles over all chips."""
    chip_rows = -(-placement.chips // placement.chip_columns)
    return placement.chip_columns * placement.chip.mesh_columns, chip_rows * placement.chip.mesh_rows


def _frame(axes: Any, placement: Placement) -> None:
    """Borders of the chips; the first tile is at the upper left."""
    from matplotlib.patches import Rectangle

    chip, (columns, rows) = placement.chip, _tiles(placement)
    for number in range(placement.chips):
        x, y = (int(v[0]) for v in placement.xy(np.array([number * chip.cores])))
        corner = (x, y)
        axes.add_patch(
            Rectangle(
                corner, chip.mesh_columns, chip.mesh_rows, fill=False, edgecolor=INK, linewidth=1.1, zorder=4
            )
        )
    margin = 0.012 * columns
    axes.set(xlim=(-margin, columns + margin), ylim=(rows + margin, -margin), aspect="equal")
    axes.set_anchor("NW")
    axes.axis("off")


def _corners(placement: Placement, core: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Upper left corners of cores, in units of tiles, and their size."""
    side = int(np.ceil(placement.chip.tile_cores**0.5))
    x, y = placement.xy(core)
    inner_y, inner_x = np.divmod(core % placement.chip.cores % placement.chip.tile_cores, side)
    return x + inner_x / side, y + inner_y / side, 1 / side


def _boxes(x: np.ndarray, y: np.ndarray, width: float | np.ndarray, height: float | np.ndarray) -> np.ndarray:
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return np.stack([np.stack(np.broadcast_arrays(*corner), axis=-1) for corner in corners], axis=1)


def _draw_cores(axes: Any, placement: Placement, colours: list[tuple[float, float, float]]) -> None:
    from matplotlib.collections import PolyCollection

    every = np.arange(placement.chips * placement.chip.cores)
    x, y, size = _corners(placement, every)
    gap = 0.06 * size if placement.chips < 4 else 0.0
    empty = _boxes(x + gap, y + gap, size - 2 * gap, size - 2 * gap)
    axes.add_collection(
        PolyCollection(
            list(empty), facecolors=EMPTY, edgecolors=EDGE, linewidths=0.5 if placement.chips < 4 else 0.0
        )
    )
    heights, below = _fill(placement)
    px, py, size = _corners(placement, placement.core)
    room = size - 2 * gap
    bottom = py + gap + room * (1 - below)
    axes.add_collection(
        PolyCollection(
            list(_boxes(px + gap, bottom, room, -heights * room)),
            facecolors=[colours[piece.population] for piece in placement.pieces],
        )
    )
    _frame(axes, placement)
    axes.set_title(
        f"cores by layer; the fill is that of the scarcest resource    "
        f"{placement.cores:,} of {placement.chips * placement.chip.cores:,} cores",
        fontsize=10, color=INK, loc="left",
    )  # fmt: skip


def _fill(placement: Placement) -> tuple[np.ndarray, np.ndarray]:
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


def _draw_traffic(axes: Any, placement: Placement, cost: Cost) -> Any:
    from matplotlib.colors import LogNorm

    load = tile_traffic(placement, cost)
    top = max(load.max(), 10.0)
    image = axes.imshow(
        np.where(load > 0, load, np.nan),
        extent=(0, load.shape[1], load.shape[0], 0),
        cmap="YlGnBu", norm=LogNorm(max(top * 1e-3, 1.0), top, clip=True), interpolation="nearest",
    )  # fmt: skip
    _frame(axes, placement)
    axes.set_title("messages through each tile, X first, then Y; the host is at the upper left", fontsize=10,
                   color=INK, loc="left")  # fmt: skip
    return image


def tile_traffic(placement: Placement, cost: Cost) -> np.ndarray:
    """(rows, columns) messages a sample that start at, pass or reach each tile."""
    columns, rows = _tiles(placement)
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


def _draw_legend(axes: Any, placement: Placement, colours: list[tuple[float, float, float]]) -> None:
    from matplotlib.patches import Rectangle

    layers, shown = placement.network.layers, placement.populations[1:]
    axes.set(xlim=(0, 1), ylim=(max(10, len(shown)) + 1.6, 0))
    axes.axis("off")
    columns = ((0.06, "layer", "left"), (0.62, "neurons", "right"), (0.76, "cores", "right"))
    axes.text(0.99, 0.7, "fill", ha="right", va="center", fontsize=9, color="#7b8794")
    for x, text, side in columns:
        axes.text(x, 0.7, text, ha=side, va="center", fontsize=9, color="#7b8794")
    heights, _ = _fill(placement)
    for row, (t, population) in enumerate(enumerate(shown, 1), 1):
        mine = np.array([piece.population == t for piece in placement.pieces])
        axes.add_patch(Rectangle((0, row + 0.42), 0.035, 0.6, color=colours[t]))
        name = {"forward": str(layers[population.layer].spec), "pool": str(layers[population.layer].pool)}
        text = f"{population.layer}  {name.get(population.role, population.role)}"
        cells = (text, f"{population.size:,}", f"{len(np.unique(placement.core[mine])):,}")
        for (x, _, side), cell in zip(columns, cells, strict=True):
            axes.text(x, row + 0.72, cell, ha=side, va="center", fontsize=9.5, color=INK)
        fill = float(np.mean(heights[mine]))
        axes.add_patch(Rectangle((0.83, row + 0.5), 0.16, 0.44, color=EMPTY))
        axes.add_patch(Rectangle((0.83, row + 0.5), 0.16 * fill, 0.44, color=colours[t]))
