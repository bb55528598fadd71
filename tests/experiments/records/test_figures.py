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


def test_an_svg_shows_what_its_png_shows(tmp_path):
    with figure.picture(tmp_path / "a.png", 4, 3, svg=True) as made:
        made.subplots().plot([1, 2], [3, 4])
    with Image.open(tmp_path / "a.png") as image:
        assert image.info[figure.SHOWN] == figure.shown_in(tmp_path / "a.svg") != ""
    with figure.picture(tmp_path / "b.png", 4, 3, svg=True) as made:
        made.subplots().plot([1, 2], [3, 5])
    assert figures.same_picture(tmp_path / "a.svg", tmp_path / "a.svg")
    assert not figures.same_picture(tmp_path / "a.svg", tmp_path / "b.svg")


def test_nothing_is_written_where_drawing_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), figure.picture(tmp_path / "a.png", 4, 3, svg=True):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "values", [[0.41, 0.44], [3.0], [1, 2_000_000], [0.003, 0.9], [99, 101]], ids=lambda values: f"{values}"
)
def test_a_logarithmic_axis_has_ticks_on_both_sides_of_the_values(values, tmp_path):
    made = Figure()
    axes = made.subplots()
    axes.plot(values)
    figure.logarithmic(axes.yaxis, values)
    ticks = list(axes.get_yticks())
    low, high = axes.get_ylim()
    assert len([tick for tick in ticks if low <= tick <= high]) >= 2
    assert ticks[0] <= min(values)
    assert max(values) <= ticks[-1]
    assert len(ticks) <= 10
    assert not any("e" in axes.yaxis.get_major_formatter()(tick) for tick in ticks)


@pytest.mark.parametrize("epochs", [[1], [1, 2], [1, 2, 3], list(range(1, 301))])
def test_epochs_are_whole(epochs):
    axes = Figure().subplots()
    axes.plot(epochs, epochs)
    figure.epochs_axis(axes, epochs)
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert ticks
    assert all(tick == int(tick) for tick in ticks)
    if len(epochs) == 1:
        assert ticks == [1]


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
