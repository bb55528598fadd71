"""Strokes of a pen as an image such as a data set has: as large as its digits are, and in the middle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from wage_neuro.errors import DataError

Place = Annotated[float, (-1, 2)]
Stroke = tuple[tuple[Place, Place], ...]
"""Points (x, y) that a pen went through; 0..1 is the width, and the height, of what is drawn on."""

POINTS_MAX = 4000
FINE = 32  # places a side at least, at which it is asked whether there is ink
LEAST = 0.15  # extent of a drawing that is made as large as a digit; a dot stays one
BOX = np.array([20 / 28, 20 / 28])  # width and height that a digit has, of MNIST's
SMALL, SMALL_BOX = 16, np.array([6 / 8, 1.0])  # images of so few rows leave no margin: scikit-learn's digits


def image_of(strokes: Sequence[Stroke], shape: tuple[int, ...]) -> np.ndarray:
    """Draw strokes as (height, width, channels) uint8, ink 255.

    The drawing is moved to the middle and made as large as digits are: all of 8 rows, 20 of MNIST's 28.

    Raises
    ------
    DataError
        If there are too many points.

    >>> image_of([((0.2, 0.1), (0.2, 0.9))], (8, 8, 1))[..., 0][:, 2:6].max(axis=0).tolist()
    [0, 204, 204, 0]
    """
    if sum(map(len, strokes)) > POINTS_MAX:
        raise DataError(f"{sum(map(len, strokes))} points: want {POINTS_MAX} at most")
    height, width = shape[:2]
    side = min(height, width)
    strokes = [stroke for stroke in strokes if stroke]
    if not strokes:
        return np.zeros(shape, np.uint8)
    pen = max(0.8, 0.045 * side)
    box = side * (SMALL_BOX if side <= SMALL else BOX) - 2 * pen
    lines = _centred([np.array(stroke) for stroke in strokes], box, (width, height))
    fine = max(1, -(-FINE // side))
    near = np.full((height * fine, width * fine), np.inf)
    y, x = ((np.indices(near.shape) + 0.5) / fine).reshape(2, -1)
    for line in lines:
        near = np.minimum(near, _distance(x, y, line).reshape(near.shape))
    ink = np.clip((pen - near) * fine + 0.5, 0, 1)
    grey = np.rint(255 * ink.reshape(height, fine, width, fine).mean(axis=(1, 3))).astype(np.uint8)
    return np.repeat(grey[..., None], shape[2], axis=2)


def _centred(lines: list[np.ndarray], box: np.ndarray, room: tuple[int, int]) -> list[np.ndarray]:
    """The same lines, as large as a `box` of cells holds, in the middle of a `room` of cells."""
    points = np.concatenate(lines)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = float((box / np.maximum(high - low, LEAST)).min())
    return [(line - (low + high) / 2) * scale + np.array(room) / 2 for line in lines]


def _distance(x: np.ndarray, y: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Distance of each place to a line of points, in cells."""
    nearest = np.full(x.shape, np.inf)
    ends = line[1:] if len(line) > 1 else line
    for (x0, y0), (x1, y1) in zip(line, ends, strict=False):
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-12), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x0 - along * dx, y - y0 - along * dy))
    return nearest
