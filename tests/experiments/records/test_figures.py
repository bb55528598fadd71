"""The committed pictures show what the committed records say."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from experiments.records import figure, figures
from experiments.records.readme import RESULTS


def test_pictures_equal_the_records(tmp_path):
    assert figures.stale(tmp_path) == {}, "run `make readme`"


def test_pictures_of_no_record_are_there():
    assert all((RESULTS / name).exists() for name in figures.OF_NO_RECORD)


@pytest.fixture
def kept(tmp_path):
    """A folder of records with two pictures, as they should be."""
    for name in ("onchip", "transfer"):
        shutil.copytree(RESULTS / name, tmp_path / "kept" / name)
    shutil.copy(RESULTS / "mnist-onchip.png", tmp_path / "kept")
    return tmp_path / "kept"


def test_a_changed_record_a_lost_and_a_strange_picture_are_found(kept, tmp_path):
    assert figures.stale(tmp_path / "same", kept) == {}
    record = kept / "onchip" / "mnist-conv-s0.json"
    content = json.loads(record.read_text())
    content["accuracy_last"] += 0.0003  # one digit of the legend
    record.write_text(json.dumps(content))
    lost = kept / "transfer" / "mnist-to-fashion-mnist.png"
    lost.unlink()
    shutil.copy(kept / "mnist-onchip.png", kept / "strange.png")
    found = figures.stale(tmp_path / "other", kept)
    assert found == {
        "strange.png": None,
        "mnist-onchip.png": tmp_path / "other" / "mnist-onchip.png",
        "transfer/mnist-to-fashion-mnist.png": tmp_path / "other" / "transfer" / lost.name,
    }
    assert figures.same_picture(
        found["transfer/mnist-to-fashion-mnist.png"], RESULTS / "transfer" / lost.name
    )


def drawn(path, height=3.0, text="a legend", style="-", **more):
    """A small figure with what the real ones have: lines, bands, bars, texts, an image."""
    made = Figure(figsize=(4, 3))
    axes, other = made.subplots(1, 2)
    axes.plot([1, 2, 3], [1, height, 2], style, label=text)
    axes.fill_between([1, 2, 3], [0, 1, 1], [2, 3, more.get("band", 3)])
    other.bar([1, 2], [1, more.get("bar", 2)])
    other.imshow(np.full((2, 2), more.get("grey", 0.5)))
    axes.set_xticks([1, 2, 3], ["one", "two", more.get("tick", "three")])
    axes.legend()
    made.suptitle(more.get("title", "a title"))
    figure.save(path, made)
    return path


def by_another_matplotlib(path):
    with Image.open(path) as image:
        info = PngInfo()
        info.add_text("Software", "Matplotlib version 9")
        info.add_text(figure.SHOWN, image.info[figure.SHOWN])
        image.save(path, pnginfo=info)
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"height": 3.001}, {"text": "another"}, {"band": 4}, {"bar": 3}, {"grey": 0.6}, {"tick": "drei"},
        {"title": "none"},
    ],
)  # fmt: skip
def test_other_data_are_another_picture_whoever_drew_it(change, tmp_path):
    one, other = drawn(tmp_path / "a.png"), by_another_matplotlib(drawn(tmp_path / "b.png", **change))
    assert not figures.same_picture(one, other)


def test_the_same_data_are_the_same_picture_by_another_matplotlib(tmp_path):
    one, other = drawn(tmp_path / "a.png"), drawn(tmp_path / "b.png", style=":")
    assert not figures.same_picture(one, other)  # the same matplotlib: every point counts
    assert figures.same_picture(one, by_another_matplotlib(other))
    with Image.open(one) as image:  # and what says nothing of what it shows is not trusted
        image.save(other)
    assert not figures.same_picture(one, other)
