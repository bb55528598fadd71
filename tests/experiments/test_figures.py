"""The committed pictures show what the committed records say."""

from __future__ import annotations

import json
import shutil

import pytest

from experiments import figures
from experiments.readme import RESULTS


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
