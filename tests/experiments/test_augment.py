"""Augmentation: shifts and mirrors of the right images, the same for every cut of an epoch."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.augment import Augment
from wage_neuro.errors import SettingError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", Augment()),
        ("crop1", Augment(1)),
        ("flip", Augment(0, True)),
        ("crop4-flip", Augment(4, True)),
        ("crop28", Augment(28)),
    ],
)
def test_parse(text, expected):
    assert Augment.parse(text) == expected


@pytest.mark.parametrize("text", ["", "crop", "crop0", "flip4", "cropflip", "-flip", "crop4-", "crop4,flip"])
def test_what_cannot_be_read(text):
    with pytest.raises(SettingError, match=r"want none, crop1, flip or crop4-flip$"):
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


def test_bits_do_not_depend_on_the_cut():
    images = np.random.default_rng(0).integers(0, 256, (50, 6, 6)).astype(np.uint8)
    augment = Augment(1, True)
    whole = augment.apply(images, 0, 3, slice(0, 50))
    parts = [augment.apply(images[a:b], 0, 3, slice(a, b)) for a, b in ((0, 7), (7, 8), (8, 31), (31, 50))]
    assert np.array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(augment.apply(images, 0, 4, slice(0, 50)), whole)
    assert not np.array_equal(augment.apply(images, 1, 3, slice(0, 50)), whole)


def test_features_cannot_be_shifted():
    features = np.zeros((3, 9), np.uint8)
    assert Augment().apply(features, 0, 0, slice(0, 3)) is features
    with pytest.raises(SettingError, match=r"^augment: images of shape \(9,\) have no height and width$"):
        Augment(1).apply(features, 0, 0, slice(0, 3))
