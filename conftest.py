"""Doctests of every floor, whatever brian2 does to pytest."""

from _pytest import doctest

_DOCTEST_MODULE = doctest.DoctestModule


def pytest_collect_file() -> None:
    """Undo brian2's: imported, it puts a class of its own there, which fails on packages."""
    doctest.DoctestModule = _DOCTEST_MODULE
