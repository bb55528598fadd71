"""What a run leaves in its folder, and that it is whole or not there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from experiments.runs import run_folder
from wage_neuro.errors import SettingError
from wage_neuro.files import written_whole

ROOT = Path(run_folder.__file__).resolve().parents[1]
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


def test_a_new_folder_is_nobody_else_s(tmp_path):
    names = []
    for _ in range(3):
        with run_folder.new_folder(tmp_path / "runs" / "x") as folder:
            (folder / "checkpoint.npz").touch()
            names.append(folder.name)
    assert names == ["x", "x-2", "x-3"]


def test_a_new_folder_that_stays_empty_is_taken_away(tmp_path):
    made = run_folder.new_folder(tmp_path / "runs" / "x")
    assert made.__enter__().is_dir()
    assert not made.__exit__(ValueError, ValueError("no"), None)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs").mkdir()
    with run_folder.new_folder(tmp_path / "runs" / "x"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"], "it was there before"


def test_a_new_folder_where_none_can_be(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(SettingError, match=r"^run folder .*/file/x: cannot write there \(.+\)$"),
        run_folder.new_folder(tmp_path / "file" / "x"),
    ):
        pass


def test_a_locked_folder_names_its_owner_and_is_free_after(tmp_path):
    one, other = run_folder.Lock(tmp_path), run_folder.Lock(tmp_path)
    with one, one:
        owner = rf"process {os.getpid()} on \S+ \(.+\)"
        for _ in range(2):
            with (
                pytest.raises(SettingError, match=rf"^run folder {tmp_path}: in use by {owner}; wait, or"),
                other,
            ):
                pass
    assert list(tmp_path.iterdir()) == []
    with other, pytest.raises(SettingError, match="in use"), one:
        pass


def test_who_takes_a_folder_sweeps_what_killed_writes_left(tmp_path):
    (tmp_path / ".curve.png.0123abcd.part").write_bytes(b"half")
    with run_folder.Lock(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [run_folder.LOCK]


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from experiments.runs.run_folder import Lock\n"
        "with Lock(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(
        words, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"in\n"
        with (
            pytest.raises(SettingError, match=f"in use by process {owner.pid} on "),
            run_folder.Lock(tmp_path),
        ):
            pass
        owner.kill()
    assert [path.name for path in tmp_path.iterdir()] == [run_folder.LOCK]
    with run_folder.Lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_its_owner_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    """The file that was opened may be gone when it is locked: then it keeps nobody out."""
    one, other, take = run_folder.Lock(tmp_path), run_folder.Lock(tmp_path), run_folder.lock

    def late(descriptor):
        if one._entered:
            one.__exit__()
        return take(descriptor)

    one.__enter__()
    monkeypatch.setattr(run_folder, "lock", late)
    with other, pytest.raises(SettingError, match="in use by"), one:
        pass


def test_prepare_sweeps_what_a_killed_write_left(tmp_path):
    (tmp_path / ".checkpoint.npz.0123abcd.part").write_bytes(b"half")
    run_folder.prepare(tmp_path, new=False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".table.json.0123abcd.part").write_bytes(b"half")
    run_folder.check_writable(tmp_path / "table.json")
    assert list(tmp_path.iterdir()) == []


def test_many_commands_may_begin_in_one_folder(tmp_path):
    def begin(n):
        for _ in range(40):
            run_folder.check_writable(tmp_path / "record.json")
            run_folder.write_text(tmp_path / f"{n}.json", "{}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin, range(8)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}.json" for n in range(8)]


def test_metrics_are_a_json_row_an_epoch(tmp_path):
    rows = [row(0), row(1, error=1 / 3)]
    run_folder.write_rows(tmp_path / "metrics.jsonl", rows[:1])
    run_folder.write_rows(tmp_path / "metrics.jsonl", rows)
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
