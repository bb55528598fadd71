"""The simulator's benchmark: equal bits on both sides, a record, and a bar that can be missed."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("lava", reason="lava-nc is not installed")

from experiments.benchmarks import bench_lava
from experiments.benchmarks.bench_lava import SEMAPHORE, Case
from experiments.records.readme import RESULTS, lava_table


def test_a_record_and_a_bar(monkeypatch, tmp_path, capsys):
    cases = (
        Case("small", "Lava's", "8", 50, 0.01, fast=SEMAPHORE),
        Case("outside", "kernels", "8", 50, 1e6, slow={"engine": "compiled"}, fast=SEMAPHORE),
        Case("other", "nothing", "9", 50, 0.0),
    )
    monkeypatch.setattr(bench_lava, "CASES", cases)
    path = tmp_path / "bench-lava.json"
    monkeypatch.setattr("sys.argv", ["bench", "--rounds", "1", "--only", "s", "--output", str(path)])
    assert bench_lava.main() == 1
    small, outside = json.loads(path.read_text())["cases"]
    assert small["ratio"] > 0.01
    assert 0 < outside["ratio"] < 1
    assert 0 < small["fast_us"] < 1e6
    assert "us of processor time a sample" in capsys.readouterr().out
    shutil.copy(RESULTS / "structural.json", tmp_path)
    shutil.copytree(RESULTS / "validation", tmp_path / "validation")
    table = lava_table(tmp_path)
    assert "406,528 stored weights and all exponents equal to those of the behavioural run." in table
    assert "| small | Lava's | " in table
    assert table.count("| yes |") == table.count("| **no** |") == 1


def test_different_bits_are_seen(monkeypatch):
    def other(case, settings):
        engine = engine_of(case, settings)
        if "channels" not in settings:
            engine.train(*[part[:50] for part in work], 3)
        return engine

    engine_of, work = bench_lava.engine_of, bench_lava.samples(50)
    monkeypatch.setattr(bench_lava, "engine_of", other)
    with pytest.raises(AssertionError):
        bench_lava.measure(Case("x", "y", "8", 50, 0.0, slow={"engine": "compiled"}, fast=SEMAPHORE), 1)
