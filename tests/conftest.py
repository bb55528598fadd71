"""Helpers that many tests share. (lava-nc installs a top-level `tests`, so nothing is imported from here.)"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from wage_neuro.kernels.build import LIBRARY

HERE = Path(__file__).resolve().parent


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def need_kernels() -> Callable[[], None]:
    """Skip where the compiled kernels are not built."""

    def need() -> None:
        if not LIBRARY.exists():
            pytest.skip("no compiled kernels here: python -m wage_neuro.kernels.build")

    return need


@pytest.fixture(scope="session")
def float_wage() -> ModuleType:
    """The independent float witness."""
    return _load(HERE / "witness" / "float_wage.py")


def _assert_same_arrays(one: np.ndarray, other: np.ndarray, what: str) -> None:
    assert one.shape == other.shape, f"{what}: shapes {one.shape} and {other.shape}"
    if not np.array_equal(one, other):
        place = tuple(int(i) for i in np.argwhere(one != other)[0])
        raise AssertionError(
            f"{what}: {int((one != other).sum())} of {one.size} differ,"
            f" first at {place}: {one[place]} and {other[place]}"
        )


@pytest.fixture(scope="session")
def assert_same_arrays() -> Callable[[np.ndarray, np.ndarray, str], None]:
    """Comparator: equal to the last bit, or the first difference by name."""
    return _assert_same_arrays


@pytest.fixture(scope="session")
def assert_same_state() -> Callable[[object, object], None]:
    """Comparator of two States: weights, held exponents, step. `where` names what is compared, and when."""

    def compare(one, other, where: str = "states") -> None:
        assert len(one.S) == len(other.S)
        for i, (a, b) in enumerate(zip(one.S, other.S, strict=True)):
            _assert_same_arrays(a, b, f"{where}: stored weights of layer {i}")
        for kept in ("importance", "momentum"):
            parts = getattr(one, kept), getattr(other, kept)
            assert (parts[0] is None) == (parts[1] is None), f"{where}: {kept} in one of them"
            for i, (a, b) in enumerate(zip(parts[0] or (), parts[1] or (), strict=True)):
                _assert_same_arrays(a, b, f"{where}: {kept} in layer {i}")
        for i, (a, b) in enumerate(zip(one.norm, other.norm, strict=True)):
            assert (a is None) == (b is None), f"{where}: layer {i} is normalised in one of them"
            if a is not None:
                _assert_same_arrays(a, b, f"{where}: statistics of layer {i}")
        for name in ("error_held", "gradient_held", "step", "seed"):
            assert getattr(one, name) == getattr(other, name), (
                f"{where}: {name} {getattr(one, name)} and {getattr(other, name)}"
            )

    return compare


@pytest.fixture(scope="session")
def sparse_images() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Images as sparse as digits are, with labels: (n, *shape) uint8 and (n,)."""

    def make(n: int, shape: tuple[int, ...], classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 256, (n, *shape)) * (rng.random((n, *shape)) < 0.3)
        return images.astype(np.uint8), rng.integers(0, classes, n)

    return make


@pytest.fixture
def one_device() -> AbstractContextManager[object]:
    """Raises where tensors of several devices meet, but to copy; single numbers may lie anywhere."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class OneDevice(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and x.dim()]
            copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
            assert copies or len({x.device for x in tensors}) < 2, f"{func}: {[x.device for x in tensors]}"
            return func(*args, **(kwargs or {}))

    return OneDevice()
