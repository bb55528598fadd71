"""What a run leaves in its folder, and that it is whole or not there."""

from __future__ import annotations

import json
import re
import stat
import subprocess

import pytest

from experiments import run_folder
from wage_neuro.errors import SettingError
from wage_neuro.files import written_whole

PNG = b"\x89PNG\r\n\x1a\n"


def row(epoch: int, error: float = 0.25, train_error: float = 0.5) -> dict:
    return {"epoch": epoch, "error": error, "train_error": train_error}


def test_prepare_makes_the_folder_and_leaves_it_empty(tmp_path):
    folder = tmp_path / "a" / "b"
    run_folder.prepare(folder, new=True)
    run_folder.prepare(folder, new=True)
    assert list(folder.iterdir()) == []


def test_prepare_keeps_what_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    run_folder.prepare(tmp_path, new=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_with_a_run_takes_no_new_one(tmp_path):
    (tmp_path / run_folder.CHECKPOINT).write_bytes(b"weights")
    with pytest.raises(SettingError, match=r"it holds a run already; --resume .* goes on with it"):
        run_folder.prepare(tmp_path, new=True)
    run_folder.prepare(tmp_path, new=False)
    assert (tmp_path / run_folder.CHECKPOINT).read_bytes() == b"weights"


@pytest.mark.parametrize("name", ["file", "file/run", "n" * 300])
def test_a_folder_that_cannot_be_written(tmp_path, name):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SettingError, match=r"^run folder .*: cannot write there \(.+\)$") as error:
        run_folder.prepare(tmp_path / name, new=True)
    assert str(tmp_path / name) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_free_counts_up(tmp_path):
    names = []
    for _ in range(3):
        folder = run_folder.free(tmp_path / "runs" / "x")
        folder.mkdir(parents=True)
        names.append(folder.name)
    assert names == ["x", "x-2", "x-3"]


def test_metrics_are_a_json_row_an_epoch(tmp_path):
    rows = [row(0), row(1, error=1 / 3)]
    run_folder.write_metrics(tmp_path, rows[:1])
    run_folder.write_metrics(tmp_path, rows)
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    assert [json.loads(line) for line in text.splitlines()] == rows


@pytest.mark.parametrize(
    "rows",
    [
        [row(0)],
        [row(0), row(1, 0.1), row(2, 0.05)],
        [row(0), row(1, 0.0)],  # no logarithm of zero
        [row(0, 0.0, 0.0)],
        [row(0, 1.0, 1.0), row(1, 1.0, 1.0)],
    ],
    ids=["one", "three", "a zero", "only zeros", "all wrong"],
)
def test_the_curve_is_a_picture(tmp_path, rows):
    run_folder.draw_curve(tmp_path / "curve.png", "a $title_ with signs", rows, "test")
    data = (tmp_path / "curve.png").read_bytes()
    assert data.startswith(PNG)
    assert data.endswith(b"IEND\xaeB`\x82")
    assert len(data) > 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]


def test_a_file_is_whole_or_as_before(tmp_path):
    path = tmp_path / "record.json"
    run_folder.write_text(path, "before")
    with pytest.raises(TypeError, match="bytes-like"), written_whole(path) as file:
        file.writelines([b"half", None])
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_versions_name_what_computes():
    found = run_folder.versions()
    assert {"wage-neuro", "python", "commit", "machine", "numpy", "lava-nc"} <= set(found)
    assert all(isinstance(text, str) and text for text in found.values())


def test_versions_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert run_folder.versions()["commit"] == "unknown"


def test_a_commit_is_dirty_where_code_differs_from_it(tmp_path, monkeypatch):
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    code, record = tmp_path / "experiments" / "code.py", tmp_path / "results" / "record.json"
    for path in (code, record):
        path.parent.mkdir()
        path.write_text("1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.setattr(run_folder, "__file__", str(code))
    clean = run_folder.versions()["commit"]
    assert re.fullmatch("[0-9a-f]{12}", clean)
    record.write_text("2\n")
    assert run_folder.versions()["commit"] == clean
    code.write_text("2\n")
    assert run_folder.versions()["commit"] == f"{clean}-dirty"
