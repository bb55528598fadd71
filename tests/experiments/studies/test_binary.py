"""The table of binary against graded spikes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest

from experiments.runs.training import Run


@pytest.fixture
def folder(helpers, tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    helpers.fit(Run.start(replace(helpers.small(), network="16FC", epochs=1), path))
    return path


def test_the_command_and_its_record(folder, wage_neuro, tmp_path):
    pytest.importorskip("brian2", reason="brian2 is an optional extra")
    ended = wage_neuro("binary", folder, "--images", 20, "--record", tmp_path / "binary.json")
    assert (ended.code, ended.last) == (0, "20 images, every logit equal: yes")
    record = json.loads((tmp_path / "binary.json").read_text())
    graded, binary = record["rows"]
    assert (graded["latency"], binary["latency"]) == (2, 14)
    assert graded["accuracy"] == binary["accuracy"]
    assert all(1 <= b / g <= 7 for g, b in zip(graded["by_layer"], binary["by_layer"], strict=True))
    assert record["same_logits"] is True
    assert record["same_in_lava"] in (True, None)
    assert graded["an_image"] == pytest.approx(sum(graded["by_layer"]))


def test_a_spike_that_differs_in_lava_ends_with_1(folder, wage_neuro, monkeypatch):
    pytest.importorskip("brian2", reason="brian2 is an optional extra")
    lava = pytest.importorskip("mappings.binary_spikes.lava_graph", reason="lava-nc is not installed")
    answer = lava.answer

    def wrong(*args):
        logits, trains = answer(*args)
        trains[1][2, 3, 5] ^= True
        return logits, trains

    monkeypatch.setattr(lava, "answer", wrong)
    ended = wage_neuro("binary", folder, "--images", 20)
    assert ended.code == 1
    assert ended.out.splitlines()[-2:] == [
        "every spike and logit equal in Lava: NO",
        "20 images, every logit equal: yes",
    ]


def test_without_lava_brian2_answers_alone(folder, wage_neuro, monkeypatch):
    pytest.importorskip("brian2", reason="brian2 is an optional extra")
    monkeypatch.setitem(sys.modules, "mappings.binary_spikes.lava_graph", None)
    ended = wage_neuro("binary", folder, "--images", 20)
    assert ended.code == 0
    assert "equal in Lava: not run, lava-nc is not installed" in ended.out


@pytest.mark.parametrize("images", [0, 100_000])
def test_too_many_images(folder, wage_neuro, images):
    ended = wage_neuro("binary", folder, "--images", images)
    assert ended.code == 1
    assert ended.err.startswith(f"wage-neuro: --images {images}: want 1..")
    assert ended.out == ""


def test_without_brian2_it_says_what_to_install(folder, wage_neuro, monkeypatch):
    monkeypatch.setitem(sys.modules, "mappings.binary_spikes.engine", None)
    ended = wage_neuro("binary", folder)
    assert ended.code == 1
    assert ended.err.strip().endswith('binary spikes need Brian2: pip install "wage-neuro[brian2]"')
