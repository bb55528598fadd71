"""What the generators cost."""

from __future__ import annotations

import numpy as np

from experiments.benchmarks import generators


def test_each_generator_is_timed_in_each_case(monkeypatch):
    monkeypatch.setattr(generators, "CASES", {"small": ("4FC", generators.STRICT, 3)})
    drawn = []
    monkeypatch.setattr(generators, "bits16", lambda *name: drawn.append(name[1:]))
    images = np.full((5, 3, 3, 1), 200, np.uint8)
    found = generators.measure(images, np.arange(5), numbers=130, rounds=3)
    assert set(found) == {"numbers drawn by numpy", "numbers drawn by the compiled kernels", "small"}
    assert all(set(seconds) == {"philox4x64", "philox4x32"} for seconds in found.values())
    assert all(min(seconds.values()) >= 0 for seconds in found.values())
    assert drawn == [(0, 130, "philox4x64"), (0, 130, "philox4x32")] * 3
    assert found["small"]["philox4x32"] > 0


def test_works_take_turns():
    order = []
    took = generators.in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert order == ["a", "b"] * 2
    assert set(took) == {"a", "b"}
