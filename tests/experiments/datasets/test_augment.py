"""Augmentation: shifts and mirrors of the right images, the same for every cut of an epoch."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.datasets.augment import Augment
from wage_neuro.errors import SettingError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", Augment()),
        ("crop1", Augment(1)),
        ("flip", Augment(0, True)),
        ("crop4-flip", Augment(4, True)),
        ("crop28", Augment(28)),
        ("window56", Augment(window=56)),
        ("window224-flip", Augment(0, True, 224)),
    ],
)
def test_parse(text, expected):
    assert Augment.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "crop",
        "crop0",
        "flip4",
        "cropflip",
        "-flip",
        "crop4-",
        "crop4,flip",
        "window0-flip",
        "window",
        "crop4-window5",
    ],
)
def test_what_cannot_be_read(text):
    with pytest.raises(SettingError, match=r"want none, crop1, flip, crop4-flip or window224-flip$"):
        Augment.parse(text)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
@pytest.mark.parametrize("augment", [Augment(2), Augment(0, True), Augment(2, True)])
def test_every_image_is_one_of_its_shifts_and_each_is_drawn(augment, shape):
    rng = np.random.default_rng(0)
    image = rng.integers(1, 256, shape).astype(np.uint8)
    out = augment.apply(np.repeat(image[None], 1500, axis=0), seed=1, epoch=2, places=slice(0, 1500))
    border = [(augment.pad, augment.pad)] * 2 + [(0, 0)] * (len(shape) - 2)
    padded = np.pad(image, border)
    side = range(2 * augment.pad + 1)
    crops = [padded[y : y + 5, x : x + 7] for y in side for x in side]
    known = crops + [crop[:, ::-1] for crop in crops] * augment.flip
    drawn = {crop.tobytes() for crop in out}
    assert drawn == {crop.tobytes() for crop in known}
    counts = [int((out == crop).reshape(1500, -1).all(axis=1).sum()) for crop in known]
    assert min(counts) > 1500 / len(known) / 3


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3)])
@pytest.mark.parametrize("flip", [False, True])
def test_every_image_is_one_of_its_windows_and_each_is_drawn(flip, shape):
    """A window of 5 in 6x8 has 2 x 4 places; nothing is padded, so no zero comes in."""
    rng = np.random.default_rng(0)
    image = rng.integers(1, 256, shape).astype(np.uint8)
    out = Augment(0, flip, 5).apply(np.repeat(image[None], 1500, axis=0), 1, 2, slice(0, 1500))
    assert out.shape == (1500, 5, 5, *shape[2:])
    crops = [image[y : y + 5, x : x + 5] for y in range(2) for x in range(4)]
    known = crops + [crop[:, ::-1] for crop in crops] * flip
    counts = [int((out == crop).reshape(1500, -1).all(axis=1).sum()) for crop in known]
    assert sum(counts) == 1500
    assert min(counts) > 1500 / len(known) / 2


@pytest.mark.parametrize("augment", [Augment(1, True), Augment(0, True, 3)], ids=str)
def test_bits_do_not_depend_on_the_cut(augment):
    images = np.random.default_rng(0).integers(0, 256, (50, 6, 6)).astype(np.uint8)
    whole = augment.apply(images, 0, 3, slice(0, 50))
    parts = [augment.apply(images[a:b], 0, 3, slice(a, b)) for a, b in ((0, 7), (7, 8), (8, 31), (31, 50))]
    assert np.array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(augment.apply(images, 0, 4, slice(0, 50)), whole)
    assert not np.array_equal(augment.apply(images, 1, 3, slice(0, 50)), whole)


def test_features_cannot_be_shifted():
    features = np.zeros((3, 9), np.uint8)
    assert Augment().apply(features, 0, 0, slice(0, 3)) is features
    for augment in (Augment(1), Augment(window=2)):
        with pytest.raises(SettingError, match=r"^augment: images of shape \(9,\) have no height and width$"):
            augment.apply(features, 0, 0, slice(0, 3))


def test_a_window_past_the_image():
    message = r"^augment: images of shape \(6, 8\): want 7x7 or more$"
    with pytest.raises(SettingError, match=message):
        Augment(window=7).apply(np.zeros((3, 6, 8), np.uint8), 0, 0, slice(0, 3))
