"""The commands export, import and round-trip."""

from __future__ import annotations

import importlib.util
import json
import re
import sys

import h5py
import numpy as np
import pytest

import mappings.formats
from experiments.commands import export
from experiments.runs.training import Config, Run
from wage_neuro import Network, checkpoint, initial_state
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import CheckpointError
from wage_neuro.rules import Rules

INSTALL_ONNX = 'pip install "wage-neuro[onnx]"'
ALL = ", ".join(export.ROUND)
needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnx") is None, reason="the extra `onnx` is not installed"
)
KINDS = [pytest.param(kind, marks=[needs_onnx] if "onnx" in kind else []) for kind in export.ROUND]
STRIDED = Config(
    data="digits", network="6C3S2-24FC", epochs=2, eta="4", train_images=400, rules=Rules(batch=32)
)


@pytest.fixture(scope="module")
def run(tmp_path_factory, helpers):
    """A run that netx can take too."""
    return helpers.fit(Run.start(STRIDED, tmp_path_factory.mktemp("run"))).folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_comes_back(kind, run, wage_neuro, tmp_path):
    wanted = wage_neuro("evaluate", run).last
    exported = wage_neuro("export", run, "--to", kind, "--output", "net")
    assert exported.code == 0
    assert f"{(tmp_path / 'net').stat().st_size:,} bytes" in exported.last
    imported = wage_neuro("import", "net", "--output", "net.npz")
    assert imported.code == 0
    assert f"({kind})" in imported.last
    assert wage_neuro("evaluate", "net.npz").last == wanted
    assert wanted.startswith("test accuracy ")


def test_packed_is_sixteen_times_smaller(wage_neuro, tmp_path):
    network = Network.parse("512FC-512FC-10FC", (784,))
    checkpoint.save(tmp_path / "c.npz", Checkpoint(network, Rules(), initial_state(network)))
    assert wage_neuro("export", "c.npz", "--to", "packed", "--output", "p").last.endswith(" 16.0 x as much")


def test_a_program_resumes_to_the_same_bits(run, helpers, wage_neuro, tmp_path, assert_same_state):
    (tmp_path / "other").mkdir()
    assert wage_neuro("export", run, "--to", "program", "--output", "p.json").code == 0
    assert wage_neuro("import", "p.json", "--output", "other/checkpoint.npz").code == 0
    resumed = wage_neuro("train", "--resume", "other", "--epochs", 3, "--engine", "numpy")
    assert resumed.code == 0
    whole = Run.start(Config.from_json({**STRIDED.to_json(), "epochs": 3}), tmp_path / "whole")
    (tmp_path / "whole").mkdir()
    helpers.fit(whole)
    states = [checkpoint.load(tmp_path / name / "checkpoint.npz").state for name in ("other", "whole")]
    assert_same_state(*states)


def test_round_trip_writes_its_record(run, uninterrupted, wage_neuro, tmp_path):
    pooled, wider = uninterrupted["batch"].folder, Network.parse("9FC-10FC", (64,), bits="3888")
    checkpoint.save(tmp_path / "wider.npz", Checkpoint(wider, Rules(), initial_state(wider)))
    done = wage_neuro("round-trip", run, pooled, "wider.npz", "--record", "r.json")
    assert done.code == 0
    strided, with_pools, wide = json.loads((tmp_path / "r.json").read_text())["round_trips"]
    assert strided["images"] == 360
    assert [row["format"] for row in strided["formats"]] == list(export.ROUND)
    for row in strided["formats"]:
        if "refused" in row:  # where the extra is not installed
            assert row["refused"] == f"format {row['format']!r} needs onnx: {INSTALL_ONNX}"
        else:
            assert row["classes_that_differ"] == row["logits_that_differ"] == 0
    refused = [{row["format"]: row.get("refused") for row in rows["formats"]} for rows in (with_pools, wide)]
    assert "netx has no max-pooling" in refused[0]["netx"]
    assert "nir-if has no max-pooling" in refused[0]["nir-if"]
    assert "netx has no max-pooling" in done.out
    assert "k_W=3: packed weights take two bits each" in refused[1]["packed"]


def test_round_trip_sees_a_difference(run, wage_neuro, monkeypatch):
    """The comparator: a format that loses a weight is caught."""
    honest = export.reader_of

    def lossy(path):
        name, read_honestly = honest(path)

        def read(path):
            saved = read_honestly(path)
            saved.state.S[-1][:, 0] *= -1
            return saved

        return name, read

    monkeypatch.setattr(export, "reader_of", lossy)
    done = wage_neuro("round-trip", run)
    assert done.code == 1
    assert "logits differ after a round trip" in done.err


def test_import_leaves_a_checkpoint_alone(run, wage_neuro, tmp_path):
    wage_neuro("export", run, "--to", "packed", "--output", "net")
    (tmp_path / "old.npz").write_text("as it was")
    refused = wage_neuro("import", "net", "--output", "old.npz")
    assert (refused.code, refused.err) == (1, "wage-neuro: old.npz: is there already\n")
    assert (tmp_path / "old.npz").read_text() == "as it was"


def test_export_refuses(run, uninterrupted, wage_neuro, tmp_path):
    pooled = uninterrupted["batch"].folder
    for words, line in (
        ((run, "--to", "onyx", "--output", "f"), f"--to 'onyx': want {ALL} or c"),
        (("none", "--to", "nir", "--output", "f"), "none: no such checkpoint"),
        ((run, "--to", "nir", "--output", tmp_path), f"{tmp_path}: is a folder; want a file"),
        ((run, "--to", "nir", "--output", "no/f"), "no/f: cannot write there (No such file or directory)"),
        (
            (pooled, "--to", "netx", "--output", "f"),
            "layer 0 8C3-MP2: netx has no max-pooling; formats that say it: nir",
        ),
        ((run, "--to", "onyx", "--output", "f", "--learn"), "--to 'onyx'"),
    ):
        refused = wage_neuro("export", *words)
        assert refused.code == 1
        assert refused.err.startswith(f"wage-neuro: {line}")
        assert refused.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "module", "extra"),
    [
        ("onnx", "onnx", "onnx"),
        ("qonnx", "onnx", "onnx"),
        ("nir", "nir", "export"),
        ("program", "jsonschema", "export"),
    ],
)
def test_what_is_not_installed_is_named_with_its_extra(
    kind, module, extra, run, wage_neuro, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, module, None)  # an import of it fails
    monkeypatch.delitem(sys.modules, f"mappings.formats.{kind}", raising=False)
    monkeypatch.delattr(mappings.formats, kind, raising=False)
    refused = wage_neuro("export", run, "--to", kind, "--output", "f")
    line = f'wage-neuro: format {kind!r} needs {module}: pip install "wage-neuro[{extra}]"\n'
    assert (refused.code, refused.err) == (1, line)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_onnx_where_it_is_not_installed(wage_neuro, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    (tmp_path / "f").write_bytes(b"\x08\x08\x12\x0awage-neuro")
    refused = wage_neuro("import", "f", "--output", "c.npz")
    assert refused.err == f"wage-neuro: format 'onnx' needs onnx: {INSTALL_ONNX}\n"


def test_c_source_is_written_with_its_bytes(run, wage_neuro, tmp_path):
    done = wage_neuro("export", run, "--to", "c", "--output", "net.c")
    assert done.code == 0
    assert done.last.endswith("bytes of RAM beside the stack")
    ram = re.search(r"RAM_BYTES (\d+)", (tmp_path / "net.h").read_text())[1]
    assert f"beside the code, {int(ram):,} bytes of RAM" in done.out
    for words, line in (
        (
            ("--to", "c", "--output", "n.c", "--learn"),
            "layer 0 6C3S2: C source that learns has no",
        ),
        (("--to", "c", "--output", "n.c", "--ram", 100), "--ram 100: 6C3S2-F-24FC-10FC needs "),
        (("--to", "c", "--output", "n.c", "--flash=9"), "--flash 9: 6C3S2-F-24FC-10FC needs "),
        (("--to", "c", "--output", "n"), "n: want a name that ends in .c"),
        (("--to", "packed", "--output", "n", "--learn"), "--learn with --to packed: want --to c"),
        (("--to", "packed", "--output", "n", "--ram", 9), "--ram with --to packed: want --to c"),
    ):
        refused = wage_neuro("export", run, *words)
        assert refused.code == 1
        assert refused.err.startswith(f"wage-neuro: {line}")
        assert refused.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.c", "net.h"]


@pytest.mark.parametrize("kind", KINDS)
def test_import_refuses_a_truncated_file(kind, run, wage_neuro, tmp_path):
    wage_neuro("export", run, "--to", kind, "--output", "net")
    whole = (tmp_path / "net").read_bytes()
    (tmp_path / "net").write_bytes(whole[: len(whole) - 64])
    refused = wage_neuro("import", "net", "--output", "c.npz")
    assert refused.code == 1
    assert refused.err.startswith("wage-neuro: net: ")
    assert refused.err.count("\n") == 1
    assert not (tmp_path / "c.npz").exists()


def test_import_refuses_other_files(run, wage_neuro, tmp_path):
    (tmp_path / "text").write_text("what is this")
    (tmp_path / "empty").write_text("")
    (tmp_path / "object.json").write_text("{}")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    for name, line in (
        ("none", "none: No such file or directory"),
        (".", ".: Is a directory"),
        ("text", f"text: not a file of {ALL}"),
        ("empty", f"empty: not a file of {ALL}"),
        ("object.json", "object.json: not a wage-neuro learning program"),
        ("other.h5", "other.h5: a NIR graph that wage-neuro did not write: no metadata"),
        (run / "checkpoint.npz", f"{run / 'checkpoint.npz'}: not a file of {ALL}"),
    ):
        refused = wage_neuro("import", name, "--output", "c.npz")
        assert refused.code == 1, name
        assert refused.err.startswith(f"wage-neuro: {line}")
        assert refused.err.count("\n") == 1
    assert not (tmp_path / "c.npz").exists()


def test_kinds_are_told_by_content(tmp_path):
    (tmp_path / "x").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(CheckpointError, match="truncated or damaged HDF5"):
        export.kind_of(tmp_path / "x")


def test_softmax_and_an_unquantized_layer_are_not_exported(wage_neuro, tmp_path):
    for text, name in (("8FC-3FCU", "u.npz"), ("8FC-3FC", "q.npz")):
        network = Network.parse(text, (9,))
        saved = Checkpoint(network, Rules(loss="softmax"), initial_state(network))
        checkpoint.save(tmp_path / name, saved)
    for kind in (kind for kind in export.ROUND if "onnx" not in kind):  # those: test_onnx_graph.py
        ended = wage_neuro("export", "u.npz", "--to", kind, "--output", "net")
        what = "a learning program" if kind == "program" else "an exported network"
        assert (ended.code, ended.err) == (1, f"wage-neuro: layer 1 3FCU: {what} has no unquantized layer\n")
        ended = wage_neuro("export", "q.npz", "--to", kind, "--output", f"q.{kind}")
        assert ended.code == (kind == "program")  # the answers do not ask for the loss
    assert ended.err == "wage-neuro: loss='softmax': a learning program has 'sse' or 'one-sided' only\n"
    assert not (tmp_path / "net").exists()
