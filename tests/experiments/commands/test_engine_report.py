"""What `wage-neuro engines` says."""

from __future__ import annotations

import pytest

from experiments.commands import engine_report
from experiments.engines import NAMES
from wage_neuro.errors import EngineError
from wage_neuro.kernels import build, native


def test_every_engine_has_a_row_with_its_speed_or_what_it_needs():
    table = engine_report.speeds(seconds=0.01)
    rows = dict(zip(NAMES, zip(*(column.cells for column in table.columns), strict=True), strict=True))
    for name, (said, stands_on, found, _) in rows.items():
        assert said == name
        assert found.endswith(" samples/s") == (stands_on not in ("not here", "not built")), found
    assert rows["numpy"][1].startswith("numpy ")


def test_what_is_in_use_is_named(need_kernels, monkeypatch):
    need_kernels()
    monkeypatch.setenv(native.VARIABLE, "generic")
    lines = engine_report.installation()
    assert lines[0].startswith("compiled kernels  generic in use, of ")
    assert "kernel " in lines[1] or "unknown" in lines[1]
    assert lines[2].startswith("threads ")


def test_a_forced_blas_kernel_is_told(monkeypatch):
    pytest.importorskip("threadpoolctl")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert engine_report.blas_kernel().endswith("forced by OPENBLAS_CORETYPE=Haswell")


def test_without_a_library_the_reason_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "LIBRARY", tmp_path / "none.so")
    native._sets.cache_clear()
    try:
        assert engine_report.compiled_kernels().startswith("compiled kernels: none.so is not there; ")
        assert engine_report.version_of("compiled") == "not built"
        with pytest.raises(EngineError, match=r"^compiled kernels: none\.so is not there; .*$"):
            engine_report.speed("compiled", 0.01)
    finally:
        native._sets.cache_clear()


def test_a_wrong_instruction_set_is_told(need_kernels, monkeypatch):
    need_kernels()
    monkeypatch.setenv(native.VARIABLE, "mmx")
    assert engine_report.compiled_kernels().startswith("WAGE_NEURO_ISA=mmx: want ")
