"""The benchmark's own parts, without timing anything."""

from __future__ import annotations

import json
import sys

from experiments.benchmarks import bench
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
    row = {"what": "a", "ours": 2.0, "unit": "b", "against": "c", "ratio": None, "bar": "", "met": True}
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
