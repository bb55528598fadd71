"""A picture of a placed network: the cores in use by layer with their fill, the messages between them, and a
legend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.records import chip_geometry as geometry
from experiments.records.chip_geometry import Window
from experiments.records.figure import picture
from experiments.records.style import EDGE, FAINT, INK, MUTED, decade_ticks, series, shade
from mappings.chips.cost import Cost
from mappings.chips.placement import Placement

WIDTH, PANEL, TALLEST = 12.0, 7.2, 4.6  # inches: all, a map, and the most that a map may be high
TILE = 0.9  # the most that a tile is wide
LINES = 300
"""Lines between cores that can be told apart; where there are more, they are summed by layer."""
NONE = "no messages between cores: the host's alone"
LEAST_POINTS = 4.5
"""Smallest number in a core; smaller ones are left out."""


def draw(path: Path, placement: Placement, cost: Cost, title: str, lines: list[str]) -> None:
    """Draw the map, as PNG and as SVG; `lines` are printed below the legend."""
    window = Window.of(placement)
    tile = min(TILE, PANEL / window.width, TALLEST / window.height)
    panel = max(1.3, tile * window.height)
    rows = len(placement.populations) - 1
    height = max(1.2 + 2 * (panel + 0.45), 1.2 + 0.28 * (rows + 1) + 0.2 * len(lines))
    with picture(path, WIDTH, height, dpi=100, svg=True, layout=None) as figure:

        def box(left: float, top: float, width: float, tall: float) -> Any:
            return figure.add_axes((left / WIDTH, 1 - (top + tall) / height, width / WIDTH, tall / height))

        wide = 1.03 * tile * window.width
        where, traffic = box(0.3, 0.95, wide, panel), box(0.3, 1.4 + panel, wide, panel)
        _draw_cores(where, placement, window)
        image = _draw_traffic(traffic, placement, cost, window)
        bar = box(PANEL + 0.45, 1.4 + panel, 0.12, min(panel, 2.2))
        figure.colorbar(image, cax=bar).set_label("messages a sample\nthrough a tile", fontsize=8.5)
        _tick_bar(bar, image)
        size = min(14.0, 14 * 88 / len(title))  # long names of networks stay on one line
        figure.text(0.3 / WIDTH, 1 - 0.32 / height, title, fontsize=size, fontweight="bold", va="center")
        legend = 0.28 * (rows + 1)
        _draw_legend(box(PANEL + 0.9, 0.75, WIDTH - PANEL - 1.1, legend), placement)
        below = 1 - max(1.0 + legend, 0.75 + legend) / height
        left = (PANEL + 1.55) / WIDTH
        figure.text(left, below - 0.25 / height, "\n".join(lines), fontsize=8.5, va="top", linespacing=1.5)


def _frame(axes: Any, placement: Placement, window: Window) -> None:
    """Borders and numbers of the chips; the first tile is at the upper left."""
    from matplotlib.patches import Rectangle

    chip = placement.chip
    for number in range(placement.chips):
        x, y = (int(v[0]) for v in placement.xy(np.array([number * chip.cores])))
        x, y = x - x % chip.mesh_columns, y - y % chip.mesh_rows
        axes.add_patch(
            Rectangle((x, y), chip.mesh_columns, chip.mesh_rows, fill=False, edgecolor=INK, linewidth=1.3)
        )
        if placement.chips > 1:
            at = max(x, window.left) + 0.25, max(y, window.top) + 0.3
            style = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": INK, "linewidth": 0.6}
            axes.text(*at, f"chip {number}", fontsize=7.5, ha="left", va="top", bbox=style, zorder=6)
    margin = 0.012 * window.width
    axes.set(
        xlim=(window.left - margin, window.right + margin),
        ylim=(window.bottom + margin, window.top - margin),
        aspect="equal",
    )
    axes.set_anchor("NW")
    axes.axis("off")


def _boxes(x: np.ndarray, y: np.ndarray, width: float | np.ndarray, height: float | np.ndarray) -> np.ndarray:
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return np.stack([np.stack(np.broadcast_arrays(*corner), axis=-1) for corner in corners], axis=1)


def _draw_cores(axes: Any, placement: Placement, window: Window) -> None:
    from matplotlib.collections import PolyCollection

    shown = geometry.shown_cores(placement, window)
    x, y, size = geometry.corners(placement, shown)
    gap = 0.05 * size
    empty = _boxes(x + gap, y + gap, size - 2 * gap, size - 2 * gap)
    axes.add_collection(PolyCollection(list(empty), facecolors=FAINT, edgecolors=EDGE, linewidths=0.5))
    heights, below = geometry.fill(placement)
    px, py, size = geometry.corners(placement, placement.core)
    room = size - 2 * gap
    bottom = py + gap + room * (1 - below)
    boxes = _boxes(px + gap, bottom, room, -heights * room)
    of_piece = np.array([piece.population for piece in placement.pieces])
    for t, colour in enumerate(geometry.colours(placement)):
        hatch = geometry.HATCH.get(placement.populations[t].role)
        mine = list(boxes[of_piece == t])
        axes.add_collection(
            PolyCollection(mine, facecolors=[colour], edgecolors="white", linewidths=0, hatch=hatch)
        )
    numbered = ", numbered" * _number(axes, placement, window, size)
    _frame(axes, placement, window)
    some = f"{placement.cores:,} of {placement.chips * placement.chip.cores:,} cores"
    axes.set_title(
        f"{some}{numbered}, by layer; fill: of the scarcest resource", fontsize=10, loc="left", pad=8
    )


def _number(axes: Any, placement: Placement, window: Window, size: float) -> bool:
    """Write the number that a core has in its chip into it, where it can be read, and say whether."""
    points = 0.34 * size * 72 * min(PANEL / window.width, TALLEST / window.height)
    if points < LEAST_POINTS:
        return False
    style = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    used = np.unique(placement.core)
    x, y, _ = geometry.corners(placement, used)
    for a, b, core in zip(x, y, used, strict=True):
        place = a + size / 2, b + size / 2
        number = int(core % placement.chip.cores)
        axes.text(*place, number, fontsize=min(9, points), ha="center", va="center", bbox=style, zorder=5)
    return True


def _draw_traffic(axes: Any, placement: Placement, cost: Cost, window: Window) -> Any:
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    load = geometry.tile_traffic(placement, cost)[window.top : window.bottom, window.left : window.right]
    top = max(load.max(), 10.0)
    greys = LinearSegmentedColormap.from_list("traffic", shade(("#f4f6f8", "#b4bfca"), 64))
    image = axes.imshow(
        np.where(load > 0, load, np.nan),
        extent=(window.left, window.right, window.bottom, window.top),
        cmap=greys, norm=LogNorm(max(top * 1e-3, 1.0), top, clip=True), interpolation="none",
    )  # fmt: skip
    _draw_lines(axes, placement, cost)
    _frame(axes, placement, window)
    return image


def _draw_lines(axes: Any, placement: Placement, cost: Cost) -> None:
    """Arcs that lean to the left, seen from the sender, so both ways are apart."""
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    x, y, size = geometry.corners(placement, np.arange(placement.places))
    middle = np.stack([x + size / 2, y + size / 2], axis=1)
    axes.plot(*middle[np.unique(placement.core)].T, ".", color=INK, markersize=2.5, zorder=4, linestyle="")
    traffic = geometry.between_cores(placement, cost)
    what = f"messages between cores, {len(traffic.messages):,} pairs" if len(traffic.messages) else NONE
    if len(traffic.messages) > LINES:
        what += ", summed by layer"
        traffic = geometry.between_populations(placement, cost)
        of_piece = np.array([piece.population for piece in placement.pieces])
        of_layer = [middle[placement.core[of_piece == t]] for t in range(len(placement.populations))]
        middle = np.array([cores.mean(axis=0) if len(cores) else (0, 0) for cores in of_layer])
    most, handles = max(traffic.messages[:1].tolist() or [1.0]), []
    for i, (is_error, name) in enumerate(((False, "activations"), (True, "errors"))):
        mine, look = np.flatnonzero(traffic.errors == is_error), series(i)
        lines = arcs(middle[traffic.source[mine]], middle[traffic.target[mine]], 0.46 * size)
        widths = 0.5 + 2.6 * (traffic.messages[mine] / most) ** 0.5
        style = {"colors": look.colour, "linewidths": widths, "linestyles": [look.dash], "alpha": 0.75}
        if len(mine):
            axes.add_collection(LineCollection(list(lines), zorder=3, **style))
            handles.append(Line2D([], [], color=look.colour, linestyle=look.dash, label=name, marker=""))
    more = ", wider for more" if handles else ""
    axes.set_title(what + more, fontsize=10, loc="left", pad=8)
    if handles:
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, -0.01), ncols=2, borderpad=0)


def arcs(a: np.ndarray, b: np.ndarray, tall: float, points: int = 13) -> np.ndarray:
    """(lines, points, 2) places on an arc from each of `a` to each of `b`, at most so many tiles high."""
    t = np.linspace(0, 1, points)[None, :, None]
    across = (b - a)[:, None]
    length = np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-9)
    left = np.stack([across[..., 1], -across[..., 0]], axis=-1) / length
    return a[:, None] + t * across + 4 * t * (1 - t) * tall * np.tanh(0.4 * length) * left


def _tick_bar(bar: Any, image: Any) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = image.norm.vmin, image.norm.vmax
    bar.yaxis.set_major_locator(FixedLocator([t for t in decade_ticks(low, high, 7) if low <= t <= high]))
    bar.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    bar.yaxis.set_minor_locator(NullLocator())


def _draw_legend(axes: Any, placement: Placement) -> None:
    from matplotlib.patches import Rectangle

    layers, shown = placement.network.layers, placement.populations[1:]
    axes.set(xlim=(0, 1), ylim=(len(shown) + 1.0, 0))
    axes.axis("off")
    columns = ((0.10, "layer", "left"), (0.64, "neurons", "right"), (0.77, "cores", "right"))
    axes.text(0.99, 0.6, "fill", ha="right", va="center", fontsize=9, color=MUTED)
    for x, text, side in columns:
        axes.text(x, 0.6, text, ha=side, va="center", fontsize=9, color=MUTED)
    heights, _ = geometry.fill(placement)
    every = geometry.colours(placement)
    for row, (t, population) in enumerate(enumerate(shown, 1), 1):
        mine = np.array([piece.population == t for piece in placement.pieces])
        hatch = geometry.HATCH.get(population.role)
        look: dict[str, Any] = {"facecolor": every[t], "edgecolor": "white", "linewidth": 0, "hatch": hatch}
        axes.add_patch(Rectangle((0, row + 0.25), 0.07, 0.64, **look))
        name = {"forward": str(layers[population.layer].spec), "pool": str(layers[population.layer].pool)}
        text = f"{population.layer}  {name.get(population.role, population.role)}"
        cells = (text, f"{population.size:,}", f"{len(np.unique(placement.core[mine])):,}")
        for (x, _, side), cell in zip(columns, cells, strict=True):
            axes.text(x, row + 0.58, cell, ha=side, va="center", fontsize=9.5)
        share = float(np.mean(heights[mine]))
        axes.add_patch(Rectangle((0.83, row + 0.36), 0.16, 0.44, color=FAINT))
        axes.add_patch(Rectangle((0.83, row + 0.36), 0.16 * share, 0.44, **look))
