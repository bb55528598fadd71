"""Address events: what a moving camera sees, frames made of it, and files that do not fit."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest

from experiments.datasets.events import Events, counted, seen_by_saccades, time_surfaces
from wage_neuro.errors import DataError

TINY = Events(
    x=np.array([0, 1, 1, 1]),
    y=np.array([2, 0, 0, 0]),
    t=np.array([0, 5, 9, 10]),
    polarity=np.array([1, 0, 0, 0]),
    start=np.array([0, 10, 20]),
    label=np.array([7, 3]),
)


def test_counts_and_surfaces():
    frames = counted(TINY, (3, 2))
    assert frames.shape == (2, 3, 2, 2)
    assert sorted(zip(*(axis.tolist() for axis in np.nonzero(frames)), strict=True)) == [
        (0, 0, 1, 0),
        (0, 2, 0, 1),
        (1, 0, 1, 0),
    ]
    assert (frames[0, 0, 1, 0], frames[0, 2, 0, 1], frames[1, 0, 1, 0]) == (2, 1, 1)
    many = replace(TINY, **{f.name: np.repeat(getattr(TINY, f.name), 100) for f in fields(TINY)[:4]})
    assert counted(many, (3, 2)).max() == 127
    surfaces = time_surfaces(TINY, (3, 2), half_life_us=2)
    # the last events are 1, 10 and 10 us old
    assert (surfaces[0, 0, 1, 0], surfaces[0, 2, 0, 1], surfaces[1, 0, 1, 0]) == (127, 127 >> 5, 127 >> 5)
    assert np.count_nonzero(surfaces) == 3
    assert not time_surfaces(TINY, (3, 2), half_life_us=1)[1].any()  # 127 halved ten times


def test_a_moving_camera_sees_edges():
    """Against shifting by hand; each move back and forth, brighter and darker."""
    images = np.zeros((2, 4, 4, 1), np.uint8)
    images[0, 1, 2] = 200
    images[1, :, :, 0] = 20  # too faint
    events = seen_by_saccades(images, np.array([5, 6]), step_us=1000)
    assert events.start.tolist() == [0, 3000, 6000]
    assert len(events.t) == 6
    path = [(1, 2), (2, 2), (1, 3), (1, 2)]  # of the bright pixel
    for step, (before, after) in enumerate(pairwise(path)):
        now = (events.t > 1000 * step) & (events.t <= 1000 * (step + 1))
        seen = {
            (int(y), int(x), int(p))
            for y, x, p in zip(events.y[now], events.x[now], events.polarity[now], strict=True)
        }
        assert seen == {(*before, 0), (*after, 1)}


def test_files(tmp_path):
    path = tmp_path / "events.npz"
    TINY.save(path)
    read = Events.load(path)
    assert all(np.array_equal(getattr(read, f.name), getattr(TINY, f.name)) for f in fields(TINY))
    np.savez(path, x=TINY.x)
    with pytest.raises(DataError, match=r"events\.npz: .*y"):
        Events.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"events\.npz: "):
        Events.load(path)
    with pytest.raises(DataError, match=r"none\.npz: .*No such file"):
        Events.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.arange(3)}, "3 x: want one for each of 4 events"),
        ({"t": np.array([0, 5, 4, 10])}, r"t\[2\]=4: it falls"),
        ({"start": np.array([0, 20, 10])}, r"start\[2\]=10: it falls"),
        ({"start": np.arange(2)}, "2 starts of 2 samples: want one more"),
        ({"polarity": np.array([1, 0, 0, 2])}, r"polarity \[2\]: want 0 or 1"),
        ({"y": np.zeros(4)}, r"y of float64 and shape \(4,\): want"),
    ],
)
def test_events_that_do_not_fit(change, message):
    with pytest.raises(DataError, match=message):
        replace(TINY, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.array([0, 1, 2, 1])}, "x=2: want places in 0..1"),
        ({"y": np.array([2, -1, 0, 0])}, "y=-1: want places in 0..2"),
        ({"t": np.array([0, 5, 9, 20])}, "t=20: no sample is seen then"),
    ],
)
def test_events_outside(change, message):
    for frames in (counted, lambda events, shape: time_surfaces(events, shape, 1)):
        with pytest.raises(DataError, match=message):
            frames(replace(TINY, **change), (3, 2))
