"""The benchmark's own parts, without timing anything."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from typing import Any

import pytest

from experiments.benchmarks import bench
from experiments.benchmarks.bench_kernels import THREADED, Case, Measured, threads_measured
from experiments.engines import NAMES
from wage_neuro import Network


def test_without_torch_the_products_take_its_place():
    network = Network.parse("mlp", (28, 28, 1), 10)
    products = bench.Products(network)
    assert [(a @ b).shape for a, b in products.pairs] == [
        (128, 256),
        (784, 256),
        (128, 10),
        (256, 10),
        (128, 256),
    ]
    products(1)


def test_rows_of_the_torch_engine_come_from_another_python(tmp_path, capsys):
    row: dict[str, Any] = {
        "what": "a",
        "ours": 2.0,
        "unit": "b",
        "against": "c",
        "ratio": None,
        "bar": "",
        "met": True,
    }
    python = tmp_path / "python"
    write = f"""open(sys.argv[-1], "w").write({json.dumps({"rows": [row]})!r})"""
    python.write_text(f"#!{sys.executable}\nimport sys\n{write}\n")
    python.chmod(0o755)
    assert bench.torch_engine(str(python), 3) == [bench.Row(**row)]
    python.write_text(f"#!{sys.executable}\nimport there_is_no_such_module\n")
    assert bench.torch_engine(str(python), 3) == []
    assert "not measured, ModuleNotFoundError: No module named 'there_is" in capsys.readouterr().err
    assert bench.torch_engine(None, 3) == []


def test_the_ratio_is_the_other_s_time_to_ours():
    ratio, ours, others = bench.pairwise(lambda: None, lambda: sum(range(200_000)), pairs=3)
    assert ratio > 1
    assert others > ours


def test_a_small_network_one_sample_at_a_time(monkeypatch):
    """Rows of the engines that are installed: microseconds a sample, and the ratio to the numpy engine."""
    monkeypatch.setattr(bench, "SMALL", {"A": ("numpy", 5, {}), "C": ("torch", 5, {})})
    monkeypatch.setitem(sys.modules, "mappings.engines.torch.engine", None)
    (row,) = bench.one_by_one("A", pairs=1)
    assert (row.what, row.unit) == ("A, 64-32-10, one sample at a time", "µs a sample")
    assert 1 < row.ours < 1e6
    assert bench.one_by_one("C", pairs=1) == []


def test_every_engine_of_the_small_rows_is_known():
    assert {name for name, _, _ in bench.SMALL.values()} <= set(NAMES)


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """The benchmark, of three measures that take no time and tell how often they were taken."""
    taken: list[str] = []
    commit, path = ["abc"], tmp_path / "bench.json"

    def measure(name, met, details):
        taken.append(name)
        details += [Measured(name, "compiled", {}, 1.0, 2.0, 1.0, 1.0, 0.5)] if name == "LeNet" else []
        return [bench.Row(name, 2.0, "samples/s", "numpy engine", 3.0, ">= 1 x", met)]

    names = ("LeNet", "VGG", "MLP")
    monkeypatch.setattr(bench, "measures", lambda quick: {n: partial(measure, n, n != "MLP") for n in names})
    monkeypatch.setattr(bench, "versions", lambda: {"machine": "a machine", "commit": commit[0]})
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)

    def run(*words, at="abc"):
        commit[0] = at
        taken.clear()
        monkeypatch.setattr(sys, "argv", ["bench", "--output", str(path), *words])
        code = bench.main()
        return (
            code,
            list(taken),
            capsys.readouterr().out,
            json.loads(path.read_text()) if path.exists() else {},
        )

    return run


def test_each_row_is_told_and_recorded_as_it_is_measured(command, monkeypatch, tmp_path):
    real, written = bench.write_json, list[list[str]]()

    def write(path, record):
        written.append([row["what"] for row in record["rows"]])
        real(path, record)

    monkeypatch.setattr(bench, "write_json", write)
    code, taken, out, record = command()
    assert (code, taken) == (1, ["LeNet", "VGG", "MLP"])
    assert written == [["LeNet"], ["LeNet", "VGG"], ["LeNet", "VGG", "MLP"]]
    assert "LeNet | 2.00 samples/s | numpy engine | 3.00 x | >= 1 x | yes (busy besides: " in out
    assert "MLP | 2.00 samples/s | numpy engine | 3.00 x | >= 1 x | NO (busy besides: " in out
    assert [row["commit"] for row in record["rows"]] == ["abc"] * 3
    assert all(0 <= row["others"] < 100 for row in record["rows"])
    assert [line["of"] for line in record["kernels"]] == ["LeNet"]


def test_goes_on_with_what_this_code_has_not_measured(command):
    assert command("--only", "lenet", "--only", "vg")[:2] == (0, ["LeNet", "VGG"])
    code, taken, out, record = command()
    assert (code, taken) == (1, ["MLP"])
    assert "LeNet: measured already, by this code" in out
    assert [row["what"] for row in record["rows"]] == ["LeNet", "VGG", "MLP"]
    assert command("--anew", "--only", "vgg")[1] == ["VGG"]
    _, taken, _, record = command("--only", "vgg", at="def")
    assert taken == ["VGG"]
    assert [row["commit"] for row in record["rows"]] == ["abc", "def", "abc"]
    assert [line["commit"] for line in record["kernels"]] == ["abc"]
    assert (
        command("--only", "vgg", at="def-dirty")[1] == command("--only", "vgg", at="def-dirty")[1] == ["VGG"]
    )


def test_a_first_impression_is_not_recorded(command):
    code, taken, _, record = command("--quick")
    assert (code, len(taken), record) == (1, 3, {})


def test_names_can_be_listed_and_a_wrong_one_is_refused(command, capsys):
    assert command("--list")[2].split() == ["LeNet", "VGG", "MLP"]
    with pytest.raises(SystemExit) as ended:
        command("--only", "alexnet")
    assert ended.value.code == 2
    assert "--only alexnet: want a part of a name (--list shows them)" in capsys.readouterr().err


def test_a_forced_blas_kernel_is_left_behind(monkeypatch):
    """OpenBLAS has read it already: the benchmark starts anew without it."""
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setattr(sys, "argv", ["bench", "--quick"])
    monkeypatch.setattr(bench.os, "execv", lambda *words: (_ for _ in ()).throw(InterruptedError(*words)))
    with pytest.raises(InterruptedError) as started:
        bench.main()
    assert started.value.args[1][-2:] == ["experiments.benchmarks.bench", "--quick"]
    assert "OPENBLAS_CORETYPE" not in os.environ


def test_what_others_do_meanwhile_is_told():
    (row,), _ = bench.measured(lambda _: [bench.Row("a", 1.0, "b", "c", None, "", True)])
    assert row.others is not None
    assert row.others >= 0
    whole, own = bench.busy_seconds()
    assert whole > own > 0


def test_two_threads_need_two_processors(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    said: list[str] = []
    assert threads_measured(THREADED, 2, 1, 0.1, said.append) == []
    assert said == [f"{THREADED.title}: 2 threads left out, there are fewer processors here"]


def test_a_small_case_on_two_threads_and_on_one():
    case = Case("small", "8FC", (4, 4, 1), 4, 1.7, None)
    two, one = threads_measured(case, 2, 1, 0.01, pytest.fail)
    assert (two.about["threads"], one.about["threads"]) == ("2", "1")
    assert two.wall_ratio == 1
    assert one.wall_ratio > 0
