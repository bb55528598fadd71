"""Doctests of every floor, whatever brian2 does to pytest; one width of the terminal in every process."""

import os

from _pytest import doctest

_DOCTEST_MODULE = doctest.DoctestModule

for name in ("COLUMNS", "LINES"):  # pytest-xdist sets them in its workers, and rich keeps what it finds
    os.environ.pop(name, None)


def pytest_collect_file() -> None:
    """Undo brian2's: imported, it puts a class of its own there, which fails on packages."""
    doctest.DoctestModule = _DOCTEST_MODULE
