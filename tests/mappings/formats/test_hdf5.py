"""Damaged HDF5 ends in one line, whatever the library makes of it."""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from experiments.commands import export
from mappings.formats import hdf5, netx, nir
from mappings.formats.inference import Inference
from wage_neuro import Network
from wage_neuro.errors import CheckpointError

FORMATS = {"netx": netx, "nir": nir}


@pytest.fixture(params=FORMATS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def file(kind, trained, tmp_path) -> Path:
    FORMATS[kind].write(tmp_path / "net.h5", Inference.of(trained(Network.parse("3C3-F-6FC-4FC", (6, 6, 1)))))
    return tmp_path / "net.h5"


def refused(kind: str, file: Path, message: str) -> None:
    for read in (FORMATS[kind].read, export.kind_of):
        with pytest.raises(CheckpointError, match=rf"\A{re.escape(str(file))}: [^\n]*{message}[^\n]*\Z"):
            read(file)


def test_a_whole_file_is_told_by_its_kind(kind, file):
    assert hdf5.check(file) == export.kind_of(file) == kind
    other = {"netx": "nir", "nir": "netx"}[kind]
    with pytest.raises(CheckpointError, match="file, not a"):
        FORMATS[other].read(file)


def test_bytes_that_changed_are_refused_or_change_nothing(kind, file):
    whole, back, rng, number = file.read_bytes(), FORMATS[kind].read(file), random.Random(5), 0
    for _ in range(6):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 4))):
            damaged[rng.randrange(min(6000, len(whole)))] = rng.choice((0, 255, rng.randrange(256)))
        file.write_bytes(damaged)
        try:
            again = FORMATS[kind].read(file)
        except CheckpointError:  # `reading` sees to its one line
            number += 1
            continue
        assert again.network == back.network
        assert all(np.array_equal(one, other) for one, other in zip(again.V, back.V, strict=True))
    assert number


def test_a_file_that_declares_more_than_its_network_has(kind, file):
    name = {"netx": "layer/1/more", "nir": "node/nodes/more"}[kind]
    with h5py.File(file, "r+") as f:
        f.create_dataset(name, (6, 1 << 30), np.uint8, chunks=(1, 1 << 20), compression="gzip")
    assert file.stat().st_size < 1 << 21
    refused(kind, file, r"its arrays would take 6\.0 GiB; the network that it names has \S+ MiB at most")


def test_a_network_that_is_none(kind, file):
    with h5py.File(file, "r+") as f:
        place = f.attrs if kind == "netx" else f["node/metadata"]
        text = place["wage_neuro"] if kind == "netx" else place["wage_neuro"][()]
        header = json.dumps({**json.loads(text), "network": "999999999FC-999999999FC-4FC"})
        if kind == "nir":
            del place["wage_neuro"]
        place["wage_neuro"] = header
    with pytest.raises(CheckpointError, match=r"net\.h5: [^\n]*$"):
        FORMATS[kind].read(file)


def test_groups_in_each_other_without_end(kind, file):
    with h5py.File(file, "r+") as f:
        name = {"netx": "layer", "nir": "node"}[kind]
        f[name]["again"] = f[name]
    refused(kind, file, "more than 20 groups in each other")


def test_a_library_that_hangs_or_dies(kind, file, monkeypatch, tmp_path):
    monkeypatch.setattr(hdf5, "CPU_S", 0.1)
    for code, message in (
        ("while True: pass", "the library hangs on it"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "hangs on it or dies of it"),
        ("raise SystemExit(3)", "the library cannot read it"),
    ):
        (tmp_path / "child.py").write_text(code)
        monkeypatch.setattr(hdf5, "__file__", str(tmp_path / "child.py"))
        began = time.monotonic()
        with pytest.raises(CheckpointError, match=rf"truncated or damaged HDF5 \({message}|{message}"):
            FORMATS[kind].read(file)
        assert time.monotonic() - began < 60


def test_the_child_is_limited_in_time(tmp_path, monkeypatch):
    """Where nobody stops it from outside its processor time does."""
    code = (
        f"import sys; text = open({hdf5.__file__!r}).read()\n"
        "exec(text.replace('__main__', 'no'), globals())\n"
        "import os; __file__ = 'x'; ROOT = os.getcwd()\n"
        "def _kind(path):\n    while True: pass\n"
        "_main('x', '1')\n"
    )
    (tmp_path / "child.py").write_text(code)
    monkeypatch.setattr(hdf5, "__file__", str(tmp_path / "child.py"))
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(CheckpointError, match="the library hangs on it or dies of it"):
        hdf5.check(tmp_path / "x")
