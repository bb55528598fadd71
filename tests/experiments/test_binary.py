"""The table of binary against graded spikes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest

from experiments.training import Run


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
    assert graded["an_image"] == pytest.approx(sum(graded["by_layer"]))


@pytest.mark.parametrize("images", [0, 100_000])
def test_too_many_images(folder, wage_neuro, images):
    ended = wage_neuro("binary", folder, "--images", images)
    assert ended.code == 1
    assert ended.err.startswith(f"wage-neuro: images={images}: want 1..")


def test_without_brian2_it_says_what_to_install(folder, wage_neuro, monkeypatch):
    monkeypatch.setitem(sys.modules, "mappings.bit_serial", None)
    ended = wage_neuro("binary", folder)
    assert ended.code == 1
    assert ended.err.strip().endswith('binary spikes need Brian2: pip install "wage-neuro[brian2]"')
