"""Building the compiled kernels: which compiler, what is written, what is said where there is none."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from wage_neuro.kernels import build

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def compiler(tmp_path):
    """A compiler that writes the name of what it is asked for, or that fails."""

    def make(name: str, text: str) -> list[str]:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
        return [str(path)]

    return make


WORKS = 'while [ $# -gt 1 ]; do shift; [ "$1" = -o ] && { echo made > "$2"; }; done; true'
FAILS = 'echo "x.cpp:1: error: no such thing" >&2; exit 1'


def test_the_next_compiler_is_tried_and_the_library_is_sealed(compiler, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "compilers", lambda: iter([compiler("bad", FAILS), compiler("good", WORKS)]))
    target = tmp_path / "lib.so"
    assert build.build(target).endswith(f"made with {tmp_path}/good")
    assert target.read_bytes().startswith(b"made\n")
    assert build.version_of(target) == build.version()
    assert build.build(target) == f"compiled kernels {build.version()}: up to date"
    assert [path.name for path in tmp_path.glob(".build-*")] == []


def test_a_library_of_another_source_is_made_anew(compiler, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "compilers", lambda: iter([compiler("good", WORKS)]))
    target = tmp_path / "lib.so"
    build.build(target)
    monkeypatch.setattr(build, "version", lambda: "0123456789ab")
    assert "made with" in build.build(target)
    assert build.version_of(target) == "0123456789ab"


def test_a_changed_byte_breaks_the_seal(compiler, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "compilers", lambda: iter([compiler("good", WORKS)]))
    target = tmp_path / "lib.so"
    build.build(target)
    whole = target.read_bytes()
    for place in range(len(whole)):
        target.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert build.version_of(target) is None
    target.write_bytes(whole[:-1])
    assert build.version_of(target) is None


def test_no_compiler_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "compilers", lambda: iter([]))
    monkeypatch.setattr("sys.argv", ["build", "--output", str(tmp_path / "lib.so")])
    assert build.main() == 1
    assert capsys.readouterr().err == (
        "compiled kernels: no C++ compiler found (c++, g++, clang++ or the wheel ziglang);"
        " all works on numpy, more slowly\n"
    )
    assert not (tmp_path / "lib.so").exists()


def test_a_compiler_that_fails_is_told_in_one_line(compiler, tmp_path, monkeypatch):
    bad = compiler("bad", FAILS)
    monkeypatch.setattr(build, "compilers", lambda: iter([bad]))
    with pytest.raises(
        OSError, match=rf"^compiled kernels: {bad[0]}: x\.cpp:1: error: no such thing; all works"
    ):
        build.build(tmp_path / "lib.so")
    assert not (tmp_path / "lib.so").exists()


def test_flags_of_another_kind_of_machine(monkeypatch):
    monkeypatch.setattr(build.platform, "machine", lambda: "aarch64")
    assert build.instruction_sets() == {"generic": (0, [])}


def test_the_systems_compiler_comes_before_the_wheel(monkeypatch):
    monkeypatch.setenv("CXX", "mine")
    monkeypatch.setattr(build.shutil, "which", lambda name: name in ("mine", "g++"))
    monkeypatch.setattr(build, "find_spec", lambda name: name == "ziglang")
    found = list(build.compilers())
    assert found[:2] == [["mine"], ["g++"]]
    assert found[2][1:] == ["-m", "ziglang", "c++"]


def test_a_wheel_carries_the_library(compiler, tmp_path):
    source = tmp_path / "source"
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source)
    ignore = shutil.ignore_patterns("__pycache__", "results", "libwage.so")
    for name in ("wage_neuro", "processes", "mappings", "experiments"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    command = [build.sys.executable, "setup.py", "-q", "bdist_wheel", "-d", str(tmp_path)]
    environment = {**os.environ, "CXX": compiler("mine", WORKS)[0]}
    subprocess.run(command, cwd=source, env=environment, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert "-py3-none-" in wheel.name
    with zipfile.ZipFile(wheel) as file:
        (tmp_path / "lib.so").write_bytes(file.read("wage_neuro/kernels/libwage.so"))
        assert "wage_neuro/kernels/source/native.cpp" in file.namelist()
    assert build.version_of(tmp_path / "lib.so") == build.version()


def test_it_is_a_command():
    done = subprocess.run(
        [build.sys.executable, "-m", "wage_neuro.kernels.build", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "--sanitize" in done.stdout
