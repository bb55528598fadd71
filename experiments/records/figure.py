"""A picture as a file: the one place that saves it, with what it shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wage_neuro.files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = "Description"
"""Field of the PNG that holds the checksum of what the picture shows, whichever matplotlib drew it."""


def save(path: Path, figure: Figure, dpi: int = 130) -> None:
    """Write a figure as PNG, whole or not at all."""
    with written_whole(path) as file:
        figure.savefig(file, format="png", dpi=dpi, metadata={SHOWN: shown(figure)})


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
