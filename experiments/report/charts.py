"""Charts of Bokeh in the style of our pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from experiments.records.style import (
    EDGE,
    INK,
    MUTED,
    decade_ticks,
    series,
    value_colours,
)
from experiments.report.page import Chart, bokeh, models, table

WIDTH, HEIGHT = 680, 320
"""Pixels; a page of A4 is as wide."""
MARKS = 20
"""Marks on a line; a longer one has one at every few of its points."""
Line = tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]


def blank(x_label: str, y_label: str, width: int = WIDTH, height: int = HEIGHT, **more: Any) -> Any:
    """An empty chart."""
    figure = bokeh().figure(
        width=width, height=height, toolbar_location=None, tools="", x_axis_label=x_label,
        y_axis_label=y_label, background_fill_color="#ffffff", **more,
    )  # fmt: skip
    figure.outline_line_color = None
    figure.grid.grid_line_color = EDGE
    for axis in figure.axis:
        axis.axis_label_text_color = axis.major_label_text_color = INK
        axis.axis_label_text_font_style = "normal"
        axis.axis_line_color = axis.major_tick_line_color = MUTED
        axis.minor_tick_line_color = None
    return figure


def hover(renderer: Any, rows: Sequence[tuple[str, str]]) -> Any:
    """What hovering says of a thing: names, and Bokeh's fields."""
    said = "".join(f"<div><b>{escape(name)}</b> {value}</div>" for name, value in rows)
    return models().HoverTool(renderers=[renderer], tooltips=f'<div style="color: {INK}">{said}</div>')


def lines(
    found: Mapping[str, Line], x_label: str, y_label: str, alt: str, *, log: bool = False, **size: int
) -> Chart:
    """Lines by name, apart by mark and dash too; hovering reads a point."""
    values = [float(y) for _, ys in found.values() for y in ys]
    log = log and min(values, default=0) > 0
    figure = blank(x_label, y_label, y_axis_type="log" if log else "linear", **size)
    shown = []
    for i, (name, (x, y)) in enumerate(found.items()):
        look, every = series(i), max(1, len(x) // MARKS)
        line = figure.line(list(x), list(y), color=look.colour, line_dash=look.bokeh_dash, line_width=2)
        marks = figure.scatter(
            list(x)[::every], list(y)[::every], color=look.colour, marker=look.bokeh_marker, size=6
        )
        places = (x_label, "$snap_x{0.[00]}"), (y_label, "$snap_y{0.[000]}")
        figure.add_tools(hover(line, [(name, ""), *places]))
        shown.append((name, [line, marks]))
    figure.add_layout(
        models().Legend(items=shown, orientation="horizontal", ncols=2 if len(shown) > 3 else len(shown) or 1,
               border_line_color=None, padding=0, label_text_color=INK, label_text_font_size="12px"),
        "above",
    )  # fmt: skip
    if log:
        ticks = decade_ticks(min(values), max(values))
        figure.yaxis.ticker = models().FixedTicker(ticks=ticks)
        figure.yaxis.major_label_overrides = {tick: f"{tick:,.10g}" for tick in ticks}
        figure.y_range.start, figure.y_range.end = ticks[0] / 1.04, ticks[-1] * 1.04
    else:
        figure.yaxis.formatter = models().NumeralTickFormatter(format="0,0.[000]")
    _whole(figure.xaxis, [float(x) for xs, _ in found.values() for x in xs], figure)
    figure.xaxis.formatter = models().NumeralTickFormatter(format="0,0.[0]")
    return Chart(figure, alt, _numbers(found, x_label))


def _whole(axis: Any, values: Sequence[float], figure: Any) -> None:
    """Ticks at whole numbers alone, where all places are whole; one place stands in the middle."""
    places = sorted(set(values))
    if len(places) == 1:
        axis.ticker = models().FixedTicker(ticks=places)
        figure.x_range.start, figure.x_range.end = places[0] - 1, places[0] + 1
    elif all(value == int(value) for value in places):
        axis.ticker = models().AdaptiveTicker(min_interval=1, num_minor_ticks=0)


def _numbers(found: Mapping[str, Line], x_label: str) -> str:
    """The lines as a table, where they have the same places and not too many."""
    first = list(next(iter(found.values()), ((), ()))[0])
    if not first or len(first) > 400 or any(list(x) != first for x, _ in found.values()):
        return ""
    rows = zip(first, *(y for _, y in found.values()), strict=True)
    return table([x_label, *found], [[f"{value:,.6g}" for value in row] for row in rows])


def heat(
    counts: np.ndarray, x_names: Sequence[str], y_values: Sequence[int], x_label: str, y_label: str, alt: str,
    width: int = WIDTH // 2, height: int = 220,
) -> Chart:  # fmt: skip
    """Counts (columns, rows), each as its share of the column; darker for more, on a root scale."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    columns, rows = shares.shape
    step = y_values[1] - y_values[0] if len(y_values) > 1 else 1
    figure = blank(
        x_label, y_label, width, height, x_range=(-0.5, columns - 0.5),
        y_range=(y_values[0] - step / 2, y_values[-1] + step / 2),
    )  # fmt: skip
    figure.grid.grid_line_color = None
    mapper = models().LinearColorMapper(palette=["#ffffff", *value_colours(255)], low=0, high=1)
    image = np.sqrt(shares / max(float(shares.max()), 1e-12)).T.astype(np.float32)
    held = models().ColumnDataSource({"shade": [image], "share": [(100 * shares).T.astype(np.float32)]})
    glyph = figure.image(
        image="shade", source=held, x=-0.5, y=y_values[0] - step / 2, dw=columns, dh=step * rows,
        color_mapper=mapper,
    )  # fmt: skip
    every = max(1, columns // 6)
    ticks = list(range(0, columns, every))
    figure.xaxis.ticker = models().FixedTicker(ticks=ticks)
    figure.xaxis.major_label_overrides = {tick: x_names[tick] for tick in ticks}
    figure.add_tools(hover(glyph, [(y_label, "$y{0}"), ("share", "@share{0.00} %")]))
    return Chart(figure, alt)
