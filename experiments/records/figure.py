"""A picture as a file: the one place that makes it in our style and saves it, with what it shows."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.records import style
from wage_neuro.files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = "Description"
"""Field of the file that holds the checksum of what the picture shows, whichever matplotlib drew it."""


@contextmanager
def picture(
    path: Path,
    width: float,
    height: float,
    *,
    dpi: int = 130,
    svg: bool = False,
    layout: Any = "constrained",
) -> Iterator[Figure]:
    """Give a figure in our style, in inches, and save it as PNG; with `svg` also beside it as SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_rc()):
        figure = Figure(figsize=(width, height), layout=layout)
        yield figure
        save(path, figure, dpi)
        if svg:
            save(path.with_suffix(".svg"), figure)


def _rc() -> Any:
    from cycler import cycler

    return {
        "axes.prop_cycle": cycler(
            color=[s.colour for s in style.SERIES],
            linestyle=[s.dash for s in style.SERIES],
            marker=[s.marker for s in style.SERIES],
        ),
        "axes.axisbelow": True,
        "axes.edgecolor": style.OTHERS,
        "axes.grid": True,
        "axes.labelcolor": style.INK,
        "axes.labelsize": 9.5,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": style.INK,
        "axes.titlesize": 10.5,
        "figure.titlesize": 11.5,
        "grid.color": style.EDGE,
        "grid.linewidth": 0.7,
        "hatch.linewidth": 0.6,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "legend.handlelength": 2.8,  # a dash pattern is seen whole
        "lines.linewidth": 1.6,
        "lines.markersize": 3.8,
        "svg.fonttype": "none",
        "svg.hashsalt": "wage-neuro",
        "text.color": style.INK,
        "xtick.color": style.MUTED,
        "xtick.labelsize": 9,
        "ytick.color": style.MUTED,
        "ytick.labelsize": 9,
    }


def save(path: Path, figure: Figure, dpi: int = 130) -> None:
    """Write a figure in the form that its name ends with, whole or not at all."""
    form = path.suffix[1:] or "png"
    metadata = {SHOWN: shown(figure), **({"Date": None} if form == "svg" else {})}
    with written_whole(path) as file:
        figure.savefig(file, format=form, dpi=dpi, metadata=metadata)


def whole_numbers(axis: Any) -> None:
    """Let an axis have ticks at whole numbers alone."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def epochs_axis(axes: Any, epochs: Sequence[int] | np.ndarray) -> None:
    """The horizontal axis of a curve over epochs; a single one stands in the middle."""
    axes.set_xlabel("epoch")
    if len(epochs) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
        axes.set_xticks(list(epochs))
    else:
        whole_numbers(axes.xaxis)


def logarithmic(axis: Any, values: Sequence[float]) -> None:
    """Make an axis logarithmic, from tick to tick around the values, all above 0."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ticks = style.decade_ticks(min(values), max(values))
    axis._set_axes_scale("log")
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_locator(NullLocator())
    axis.axes.set(**{f"{axis.axis_name}lim": (ticks[0] / 1.04, ticks[-1] * 1.04)})


def shown_in(path: Path) -> str:
    """The checksum that an SVG file names; '' where it names none."""
    found = re.search(r"<dc:description>(\w+)</dc:description>", path.read_text())
    return found[1] if found else ""


def shown(figure: Figure) -> str:
    """Checksum of a figure's texts and data: all but colours, ticks that matplotlib chose, and the layout."""
    parts: list[Any] = [[figure.get_suptitle(), *(text.get_text() for text in figure.texts)]]
    for axes in figure.axes:
        parts += [list(_texts(axes)), [_rounded(points) for points in _points(axes)]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _texts(axes: Any) -> Iterator[str]:
    from matplotlib.ticker import FixedLocator

    yield from (axes.get_title(place) for place in ("left", "center", "right"))
    yield from (axes.get_xlabel(), axes.get_ylabel())
    yield from (text.get_text() for text in axes.texts)
    if legend := axes.get_legend():
        yield from (text.get_text() for text in legend.get_texts())
    for axis in (axes.xaxis, axes.yaxis):
        if isinstance(locator := axis.get_major_locator(), FixedLocator):
            yield from axis.get_major_formatter().format_ticks(locator.tick_values(0, 0))


def _points(axes: Any) -> Iterator[np.ndarray]:
    yield from (line.get_xydata() for line in axes.lines)
    for patch in axes.patches:
        yield patch.get_patch_transform().transform(patch.get_path().vertices)
    for collection in axes.collections:
        for path in collection.get_paths():
            yield np.unique(path.vertices, axis=0)  # another matplotlib goes round a band another way
    yield from (np.ma.filled(image.get_array(), np.nan).reshape(-1) for image in axes.images)


def _rounded(points: np.ndarray) -> list[str]:
    """Six digits of each number: the last ones of a mean are those of the numpy that made it."""
    return [f"{value:.6g}" for value in np.asarray(points, float).reshape(-1)]
