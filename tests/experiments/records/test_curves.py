"""Several runs in one picture."""

from __future__ import annotations

import json

import pytest

from experiments.records.curves import draw, read_record
from experiments.records.readme import RESULTS
from wage_neuro.errors import DataError

RECORD = RESULTS / "mnist-lenet-lava.json"


def test_a_picture_of_records(wage_neuro, tmp_path):
    output = tmp_path / "c.png"
    ended = wage_neuro("curves", RECORD, RECORD, "--mark", 99, "--mark-label", "a level", "--output", output)
    assert ended.code == 0, ended.err
    assert output.read_bytes().startswith(b"\x89PNG")
    assert output.stat().st_size > 10_000


def test_a_legend_prints_only_what_differs(monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr("experiments.records.figure.save", lambda path, figure, *_: made.append(figure))
    names = ("ternary-s0", "ternary-s1", "direct-s0")
    records = [read_record(RESULTS / f"onchip/mnist-{name}.json") for name in names]
    draw(tmp_path / "c.png", records)
    (axes,) = made[0].axes
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [text.rpartition(":")[0] for text in texts] == ["512-10", "direct feedback"]
    assert "one sample at a time" in axes.get_title()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged record of a training run"),
        ("[]", "damaged record of a training run"),
        (json.dumps({"curve": []}), "damaged record of a training run"),
    ],
)
def test_what_is_no_record(text, message, tmp_path):
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_record(tmp_path)


def test_a_run_without_a_record(wage_neuro, tmp_path):
    ended = wage_neuro("curves", tmp_path / "none", "--output", tmp_path / "c.png")
    assert ended.code == 1
    assert ended.err.startswith("wage-neuro: ")
    assert "no record of a training run to read" in ended.err
    assert not list(tmp_path.iterdir())
