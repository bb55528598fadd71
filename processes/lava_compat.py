"""lava-nc 0.10.0, the last release, on Pythons and numpys that came after it.

Some of its modules are mended as they are imported. No file of Lava's is changed or copied, and nothing is
touched where Python and numpy still take it as it is, but for a name in an error and the start method:

- `lava.magma.compiler.var_model`: a `ByteEncoder` is the default of dataclass fields, and Python 3.11 wants
  defaults that have a hash. It has one while the module is executed.
- `lava.magma.core.process.ports.ports`: `ReshapePort` calls `np.reshape(newshape=...)`, which numpy 2.1
  renamed and later dropped. It calls `np.reshape(shape=...)`. And ports whose shapes differ are told by name.
- `lava.proc.clp.nsm.models`: `PyAllocatorModel` puts an array of one number into an element of another, of
  which numpy 1.25 warned and which it later refused. The Var is that number while `run_spk` runs.
- `lava.magma.runtime.message_infrastructure.multiprocessing`: chooses the start method of the whole program,
  and fails where another one is chosen already, as in each process that was spawned. The program keeps its
  own; our graphs fork, whatever it is.

Whoever imports Lava's Processes before anything of this house begins with `import processes`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

import numpy as np

Execute = Callable[[ModuleType], None]


def _var_model(execute: Execute, module: ModuleType) -> None:
    """Hash a `ByteEncoder` by its identity until the defaults are taken; on Python 3.10 they just are."""
    from unittest import mock  # brings asyncio along, and commands that need no Lava come by here

    dataclass = dataclasses.dataclass

    def hashable(cls: Any = None, /, **options: Any) -> Any:
        made = dataclass(cls, **options)
        if getattr(made, "__qualname__", None) == "ByteEncoder":
            made.__hash__ = object.__hash__
        return made

    with mock.patch.object(dataclasses, "dataclass", hashable):
        execute(module)
    module.ByteEncoder.__hash__ = None


def _ports(execute: Execute, module: ModuleType) -> None:
    execute(module)
    validate = module.AbstractPort._validate_ports

    @functools.wraps(validate)
    def by_name(self: Any, ports: Sequence[Any], *rest: Any, **named: Any) -> None:
        try:
            validate(self, ports, *rest, **named)
        except AssertionError as error:
            where = " and ".join(f"{_name(port.process)} {port.name}" for port in (self, *ports))
            raise AssertionError(f"{where}: {error}") from None

    module.AbstractPort._validate_ports = by_name
    if "shape" not in inspect.signature(np.reshape).parameters:
        return
    module.ReshapePort.get_transform_func_fwd = lambda self: functools.partial(np.reshape, shape=self.shape)
    module.ReshapePort.get_transform_func_bwd = lambda self: functools.partial(
        np.reshape, shape=self.old_shape
    )


def _name(process: Any) -> str:
    return getattr(process, "name", "a port between")


def _allocator(execute: Execute, module: ModuleType) -> None:
    execute(module)
    run_spk = module.PyAllocatorModel.run_spk

    @functools.wraps(run_spk)
    def with_a_number(self: Any) -> None:
        self.next_alloc_id = int(self.next_alloc_id[0])
        try:
            run_spk(self)
        finally:
            self.next_alloc_id = np.array([self.next_alloc_id], np.int32)

    module.PyAllocatorModel.run_spk = with_a_number


def _start_method(execute: Execute, module: ModuleType) -> None:
    """Let Lava choose, and put back what the program had chosen, if anything."""
    chosen = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(None, force=True)
    try:
        execute(module)
    finally:
        multiprocessing.set_start_method(chosen, force=True)


def _mends() -> dict[str, Callable[[Execute, ModuleType], None]]:
    """Return what this Python and this numpy need, by the module's name."""
    needs = {
        "lava.magma.compiler.var_model": (_var_model, sys.version_info >= (3, 11)),
        "lava.magma.core.process.ports.ports": (_ports, True),
        "lava.magma.runtime.message_infrastructure.multiprocessing": (_start_method, True),
        "lava.proc.clp.nsm.models": (_allocator, np.lib.NumpyVersion(np.__version__) >= "1.25.0"),
    }
    return {name: mend for name, (mend, needed) in needs.items() if needed}


MENDS = _mends()


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        MENDS[module.__name__](super().exec_module, module)


class _LavaFinder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = PathFinder.find_spec(name, path, target) if name in MENDS else None
        if found and isinstance(found.loader, SourceFileLoader):
            found.loader = _Loader(found.loader.name, found.loader.path)
        return found


def mend() -> None:
    """Mend each of the modules when it is imported, or now where it was imported before. Once is enough."""
    # by name, as this file may have been executed twice: Lava and pytest do so
    if any(type(finder).__name__ == _LavaFinder.__name__ for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _LavaFinder())
    for name in MENDS.keys() & sys.modules.keys():
        MENDS[name](lambda module: None, sys.modules[name])
