"""Files written whole or not at all."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from wage_neuro import files
from wage_neuro.files import sweep, written_whole

ROOT = Path(files.__file__).resolve().parents[1]


def test_new_and_replaced(tmp_path):
    path = tmp_path / "a.bin"
    for text in (b"one", b"another"):
        with written_whole(path) as file:
            file.write(text)
        assert path.read_bytes() == text
        assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), ValueError("no")])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_failure_leaves_what_was(tmp_path, error, before):
    path = tmp_path / "a.bin"
    if before:
        path.write_bytes(before)

    def write():
        with written_whole(path) as file:
            file.write(b"half of it")
            raise error

    with pytest.raises(type(error)):
        write()
    assert os.listdir(tmp_path) == (["a.bin"] if before else [])
    assert not before or path.read_bytes() == before


@pytest.mark.parametrize("call", ["fsync", "replace", "fdopen"])
def test_a_failure_at_the_end_leaves_what_was(tmp_path, monkeypatch, call):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="disk full"), written_whole(path) as file:
        file.write(b"new")
    assert os.listdir(tmp_path) == ["a.bin"]
    assert path.read_bytes() == b"old"


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path, error in (
        (tmp_path / "none" / "a", FileNotFoundError),
        (tmp_path / "file" / "a", NotADirectoryError),
    ):
        with pytest.raises(error), written_whole(path):
            pytest.fail("nothing to write to")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_who_may_read(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with written_whole(tmp_path / "a") as file:
            file.write(b"one")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_the_file_then_its_name_then_the_folder_reach_the_disk(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace

    def synchronize(descriptor):
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synchronize)
    monkeypatch.setattr(os, "replace", lambda *names: done.append("name") or replace(*names))
    with written_whole(tmp_path / "a"):
        pass
    assert done == ["file", "name", "folder"]


def test_what_a_killed_write_left_is_swept_and_what_goes_on_is_not(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from wage_neuro.files import written_whole\n"
        "with written_whole(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for name in ("a[1].npz", "b.npz"):
        words = [sys.executable, "-c", code, str(tmp_path / name)]
        killed = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
        assert killed.returncode == -signal.SIGKILL
    (tmp_path / ".b.npz.mine.part").write_text("a user's")
    assert len(os.listdir(tmp_path)) == 3
    sweep(tmp_path, "a[1].npz")
    assert sorted(name[:3] for name in os.listdir(tmp_path)) == [".b.", ".b."]
    with written_whole(tmp_path / "b.npz") as file:
        file.write(b"whole")
        sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".b.npz.mine.part", "b.npz"]
    assert (tmp_path / "b.npz").read_bytes() == b"whole"


@pytest.mark.parametrize("gone", [True, False])
def test_a_write_that_is_swept_as_it_begins_is_begun_anew(tmp_path, monkeypatch, gone):
    """Another command may sweep between a file's making and its lock: it is gone by then, or locked."""
    lock, begun = files.lock, []

    def late(descriptor):
        begun.append(descriptor)
        if len(begun) > 1:
            return lock(descriptor)
        if gone:
            sweep(tmp_path)
        return gone

    monkeypatch.setattr(files, "lock", late)
    with written_whole(tmp_path / "a") as file:
        file.write(b"whole")
    assert len(begun) > 1
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_lock_that_fails_leaves_nothing(tmp_path, monkeypatch):
    opened = set(os.listdir("/proc/self/fd"))

    def fail(descriptor):
        raise OSError("input/output error")

    monkeypatch.setattr(files, "lock", fail)
    with pytest.raises(OSError, match="input/output"), written_whole(tmp_path / "a"):
        pytest.fail("nothing to write to")
    assert os.listdir(tmp_path) == []
    assert set(os.listdir("/proc/self/fd")) == opened


def test_a_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    assert files.lock(0)
    with written_whole(tmp_path / "a") as file:
        file.write(b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_what_is_left_of_a_long_name_is_swept(tmp_path):
    """A temporary name has the first 200 signs of its file's."""
    name = "a" * 199 + "b" * 20
    (tmp_path / f".{name[:200]}.01234567.part").write_text("half")
    sweep(tmp_path, name)
    assert os.listdir(tmp_path) == []
