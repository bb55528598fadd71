"""Strokes become images such as a data set has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.live.drawing import POINTS_MAX, image_of
from wage_neuro.errors import DataError

PLACES = st.tuples(st.floats(0, 1), st.floats(0, 1))
STROKES = st.lists(st.lists(PLACES, max_size=5).map(tuple), max_size=4)


@given(STROKES, st.sampled_from([(8, 8, 1), (28, 28, 1), (32, 32, 3), (9, 12, 1)]))
def test_is_an_image_with_ink_where_there_are_points(strokes, shape):
    image = image_of(strokes, shape)
    assert (image.shape, image.dtype) == (shape, np.uint8)
    assert image.any() == any(strokes)
    assert (image == image[..., :1]).all()


def test_size_and_place_do_not_matter(star):
    small = [tuple((0.1 + 0.6 * x, 0.3 + 0.6 * y) for x, y in stroke) for stroke in star]
    for side in (8, 28):
        one, other = image_of(star, (side, side, 1)), image_of(small, (side, side, 1))
        assert np.abs(one.astype(int) - other).max() <= 1  # the last bit of a float may cross a rounding


def test_fills_the_rows_that_digits_fill():
    line = [((0.4, 0.4), (0.4, 0.6))]
    rows = {side: np.flatnonzero(image_of(line, (side, side, 1)).any(axis=(1, 2))) for side in (8, 28)}
    assert (rows[8][0], rows[8][-1]) == (0, 7)
    assert (rows[28][0], rows[28][-1]) == (4, 23)  # 20 of 28 rows, as MNIST's digits
    dot = image_of([((0.9, 0.9),)], (28, 28, 1))[..., 0]
    assert dot[13:15, 13:15].all()
    assert not dot[:11].any()


def test_too_many_points_are_refused():
    with pytest.raises(DataError, match=rf"^{POINTS_MAX + 1} points: want {POINTS_MAX} at most$"):
        image_of([((0.5, 0.5),) * (POINTS_MAX + 1)], (8, 8, 1))
