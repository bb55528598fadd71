"""What of lava-nc is mended, that it needs it here, and that nothing else of it is touched."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from processes import lava_compat

pytest.importorskip("lava", reason="lava-nc is not installed")

ROOT = Path(__file__).resolve().parents[2]
VAR_MODEL = "lava.magma.compiler.var_model"
PORTS = "lava.magma.core.process.ports.ports"
NSM = "lava.proc.clp.nsm.models"
START_METHOD = "lava.magma.runtime.message_infrastructure.multiprocessing"


def stock(name: str) -> ModuleType:
    """Execute a module of Lava's as it is, under another name."""
    origin = importlib.util.find_spec(name).origin
    spec = importlib.util.spec_from_file_location("stock", origin)
    module = importlib.util.module_from_spec(spec)
    sys.modules["stock"] = module  # a dataclass looks itself up there
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["stock"]
    return module


def methods(module: ModuleType) -> dict[str, bytes]:
    """Byte code of every method of the classes that a module defines."""
    return {
        function.__qualname__: function.__code__.co_code
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if cls.__module__ == module.__name__
        for function in vars(cls).values()
        if inspect.isfunction(function)
    }


def reshaped(ports: ModuleType) -> list[np.ndarray]:
    port, flat = ports.ReshapePort(new_shape=(2, 3), old_shape=(6,)), np.arange(6)
    forth = port.get_transform_func_fwd()(flat)
    return [forth, port.get_transform_func_bwd()(forth)]


def allotted(models: ModuleType) -> tuple[list[list[int]], np.ndarray]:
    """Trigger the stock Allocator in every second of five steps: what it sends, and its Var at the end."""
    model = object.__new__(models.PyAllocatorModel)
    triggers, sent = iter([1, 0, 1, 0, 1]), []
    vars(model).update(
        next_alloc_id=np.array([1], np.int32),
        trigger_in=SimpleNamespace(recv=lambda: np.array([next(triggers)])),
        allocate_out=SimpleNamespace(shape=(1,), send=lambda value: sent.append(value.tolist())),
    )
    for _ in range(5):
        model.run_spk()
    return sent, model.next_alloc_id


@pytest.mark.parametrize(("name", "use"), [(VAR_MODEL, stock), (PORTS, reshaped), (NSM, allotted)])
def test_what_is_mended_fails_without_it_and_only_that(name, use):
    """The stock module works exactly where nothing is mended, so no mend outlives its need."""

    def works() -> bool:
        try:
            use(name) if use is stock else use(stock(name))
        except (TypeError, ValueError, DeprecationWarning):
            return False
        return True

    assert works() == (name not in lava_compat.MENDS)


def test_reshaping_works_both_ways():
    forth, back = reshaped(importlib.import_module(PORTS))
    assert forth.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert back.tolist() == [0, 1, 2, 3, 4, 5]


def test_the_allocator_counts_on():
    sent, next_id = allotted(importlib.import_module(NSM))
    assert sent == [[1], [0], [2], [0], [3]]
    assert next_id.tolist() == [4]
    assert (next_id.shape, next_id.dtype) == ((1,), np.int32)


def test_encoders_have_their_defaults_and_are_as_unhashable_as_ever():
    var_model = importlib.import_module(VAR_MODEL)
    zero = var_model.ByteEncoder(0, 0, 0)
    assert vars(var_model.CoreEncoder()) == {"x": zero, "y": zero, "p": zero}
    assert vars(var_model.AxonEncoder()) == {"hi": zero, "lo": zero}
    assert var_model.ByteEncoder.__hash__ is None
    assert dataclasses.dataclass.__module__ == "dataclasses"


@pytest.mark.parametrize(
    ("name", "touched"),
    [
        (
            PORTS,
            {
                "AbstractPort._validate_ports",
                "ReshapePort.get_transform_func_fwd",
                "ReshapePort.get_transform_func_bwd",
            },
        ),
        (NSM, {"PyAllocatorModel.run_spk"}),
    ],
)
def test_no_other_method_is_touched(name, touched):
    ours, theirs = importlib.import_module(name), methods(stock(name))
    now = methods(ours)
    changed = {method for method, code in theirs.items() if now.get(method) != code}
    assert changed == (touched if name in lava_compat.MENDS else set())


def test_nothing_is_mended_where_lava_runs_as_it_is(monkeypatch):
    """But for the start method, which is the program's on any Python, and the names of ports in an error."""
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    monkeypatch.setattr(np, "__version__", "1.24.4")
    monkeypatch.setattr(np, "reshape", lambda a, newshape, order="C": a)
    assert list(lava_compat._mends()) == [PORTS, START_METHOD]
    monkeypatch.setattr(sys, "version_info", (3, 11, 0))
    assert list(lava_compat._mends()) == [VAR_MODEL, PORTS, START_METHOD]


@pytest.mark.parametrize("first", [PORTS, "processes", "mappings"])
def test_whatever_is_imported_first_it_is_mended_without_a_word(first):
    """Also where Lava's ports were imported before this house."""
    code = (
        f"import {first}, mappings, numpy as np, {VAR_MODEL}, {NSM}\n"
        f"from {PORTS} import ReshapePort\n"
        "print(ReshapePort((2, 1), (2,)).get_transform_func_fwd()(np.zeros(2)).shape)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(2, 1)\n", "")


def test_the_house_stands_without_lava():
    code = (
        "import sys; sys.modules['lava'] = None; import processes.widths, mappings.formats.nir; print('yes')"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "yes\n", "")


def test_mending_twice_is_mending_once():
    before = list(sys.meta_path)
    lava_compat.mend()
    assert sys.meta_path == before
    assert sum(type(finder).__name__ == "_LavaFinder" for finder in before) == 1


START = """
import multiprocessing, sys
chosen = sys.argv[1] if sys.argv[1:] else None
if chosen:
    multiprocessing.set_start_method(chosen)
import mappings.engines.lava.engine
import lava.magma.runtime.message_infrastructure.multiprocessing
assert multiprocessing.get_start_method(allow_none=True) == chosen
multiprocessing.set_start_method("spawn", force=bool(chosen))
"""


@pytest.mark.parametrize("chosen", [(), ("spawn",), ("forkserver",), ("fork",)], ids=str)
def test_the_program_keeps_its_start_method(chosen):
    done = subprocess.run(
        [sys.executable, "-c", START, *chosen],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
