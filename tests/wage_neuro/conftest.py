"""What the tests of the bottom floor share: the plain reference, repeatable hypothesis, threads."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

from wage_neuro import kernels

settings.register_profile("wage", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("wage")


@pytest.fixture(scope="session")
def plain() -> ModuleType:
    """WAGE in Python ints."""
    path = Path(__file__).resolve().parent / "plain_reference.py"
    spec = importlib.util.spec_from_file_location("plain_reference", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """Set the number of threads for one test."""
    yield kernels.set_threads
    kernels.set_threads(os.cpu_count() or 1)
