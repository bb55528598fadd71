"""How weights are spread: counts of every code, at no bit's cost."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.runs import spread
from experiments.runs.training import Run
from wage_neuro.errors import CheckpointError


@given(st.integers(1, 2**15 - 1), st.data())
def test_each_code_is_in_the_bin_whose_middle_is_nearest(most, data):
    code = data.draw(st.integers(-most, most))
    middles = spread.centres(most)
    counts = spread.counted(np.array([code], np.int32), most)
    assert len(counts) == len(middles) <= spread.BINS + 2
    assert sum(counts) == 1
    assert abs(middles[counts.index(1)] - code) == min(abs(middle - code) for middle in middles)


@pytest.mark.parametrize("most", [1, 3, 127, 2047])
def test_bins_are_even_and_symmetric(most):
    counts = spread.counted(np.arange(-most, most + 1), most)
    assert counts == counts[::-1]
    assert sum(counts) == 2 * most + 1
    assert set(counts[1:-1]) == {spread.bin_width(most)}


def test_a_run_counts_its_weights_from_the_first_to_the_last(helpers, tmp_path, monkeypatch):
    monkeypatch.setattr(spread, "AT_MOST", 0)
    run = Run.start(helpers.small(epochs=2), tmp_path)
    begin = run.saved.state
    helpers.fit(run)
    rows = spread.read(tmp_path, run.network, run.config.rules)
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    for state, row in ((begin, rows[0]), (run.saved.state, rows[-1])):
        for S, counts in zip(state.S, row["stored"], strict=True):
            # the authors' range of 8 bits: -64..64, in bins of three codes
            wanted = [int((np.abs(S.astype(int) - middle) <= 1).sum()) for middle in range(-63, 64, 3)]
            wanted[0], wanted[-1] = int((S <= -62).sum()), int((S >= 62).sum())
            assert counts == wanted
    assert all(len(counts) == 3 for counts in rows[0]["visible"])
    assert [sum(counts) for counts in rows[2]["visible"]] == [S.size for S in begin.S]


def test_a_resumed_run_goes_on_with_its_rows(helpers, tmp_path, monkeypatch):
    monkeypatch.setattr(spread, "AT_MOST", 0)
    whole = helpers.fit(Run.start(helpers.small(), tmp_path / "whole"))
    helpers.fit(Run.start(helpers.small(), tmp_path / "cut"), stop=(1, 96))
    known = whole.network, whole.config.rules
    kept = [row["epoch"] for row in spread.read(tmp_path / "cut", *known)]
    assert kept == [0, 1]
    resumed = helpers.fit(Run.resume(tmp_path / "cut"))
    assert spread.read(tmp_path / "cut", *known) == spread.read(tmp_path / "whole", *known)
    assert all(np.array_equal(a, b) for a, b in zip(whole.saved.state.S, resumed.saved.state.S, strict=True))


def test_rows_past_the_checkpoint_and_damaged_files_are_dropped(helpers, tmp_path):
    run = Run.start(helpers.small(), tmp_path)
    known = run.network, run.config.rules
    row = spread.spread_of(*known, run.saved.state, 3)
    (tmp_path / spread.FILE).write_text(json.dumps(row) + "\n" + json.dumps({**row, "epoch": 4}) + "\n")
    assert [row["epoch"] for row in spread.Spread.of(tmp_path, *known, 3).rows] == [3]
    assert [row["epoch"] for row in spread.Spread.of(tmp_path, *known, 4).rows] == [3, 4]
    for damaged in (
        {"epoch": -1},
        {**row, "stored": row["stored"][:-1]},
        {**row, "visible": [[1, 2]] * 3},
        {**row, "visible": [[0, 0, 0]] * 3},
        {**row, "stored": [[*row["stored"][0], 1], *row["stored"][1:]]},
    ):
        (tmp_path / spread.FILE).write_text(json.dumps(damaged) + "\n")
        assert spread.Spread.of(tmp_path, *known, 3).rows == []
        with pytest.raises(CheckpointError, match="damaged counts of a run's weights"):
            spread.read(tmp_path, *known)


def test_what_takes_long_is_not_done_after_every_epoch(helpers, tmp_path):
    run = Run.start(helpers.small(), tmp_path)
    noted = spread.Spread(tmp_path)
    noted.note(run.network, run.config.rules, run.saved, 0)
    slow = replace(noted, _cost=1e6)
    slow.note(run.network, run.config.rules, run.saved, 1)
    assert [row["epoch"] for row in slow.rows] == [0]
