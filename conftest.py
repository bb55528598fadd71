"""Doctests of every floor, whatever brian2 does to pytest; one width of the terminal in every process."""

import ast
import gc
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from _pytest import doctest

_DOCTEST_MODULE = doctest.DoctestModule

for name in ("COLUMNS", "LINES"):  # pytest-xdist sets them in its workers, and rich keeps what it finds
    os.environ.pop(name, None)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Generator[None, list[Any], list[Any]]:
    """Undo brian2's: imported, it puts a class of its own there, which fails on packages.

    Test files have no doctests: one that cannot be imported would be skipped, and its tests with it.
    """
    doctest.DoctestModule = _DOCTEST_MODULE
    found = yield
    return [
        each for each in found if not (isinstance(each, _DOCTEST_MODULE) and file_path.match("test_*.py"))
    ]


def pytest_collection_finish() -> None:
    """Forget modules that are half imported: the collector leaves those whose library is not installed."""
    floors = [Path(__file__).parent / floor for floor in ("mappings", "experiments")]
    for name, module in list(sys.modules.items()):
        path = Path(getattr(module, "__file__", None) or "/")
        if path.suffix == ".py" and any(path.is_relative_to(floor) for floor in floors):
            body = ast.parse(path.read_text()).body
            defined = (part.name for part in body if isinstance(part, ast.FunctionDef | ast.ClassDef))
            if not all(hasattr(module, part) for part in defined):
                del sys.modules[name]
    gc.collect()
    gc.freeze()  # or each collection of garbage goes over half a million objects of tests
