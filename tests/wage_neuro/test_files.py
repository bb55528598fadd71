"""Files written whole or not at all."""

from __future__ import annotations

import os

import pytest

from wage_neuro.files import written_whole


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


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
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
