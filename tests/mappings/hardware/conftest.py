"""What the hardware's tests share: a simulator for one part, and a core beside the oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from wage_neuro import Network, NumpyEngine, Rules
from wage_neuro.control import Control

STRICT = {"batch": 1, "shift": "held", "update": "ternary", "hold": 4, "loss": "one-sided", "margin": 3}


@pytest.fixture(scope="session")
def strict() -> Callable[..., Rules]:
    """Rules of one sample at a time, with changes."""
    return lambda **changes: Rules(**{**STRICT, **changes})


@pytest.fixture(scope="session")
def cycles() -> Callable[..., dict[str, list[int]]]:
    """Run a part: set the inputs of each cycle, and read the outputs before its end; {output: values}."""
    pytest.importorskip("amaranth", reason="the extra wage-neuro[rtl]")
    from amaranth.hdl import Value
    from amaranth.sim import Simulator

    def run(
        part: Any, inputs: Sequence[Mapping[str, int]], outputs: Sequence[str], after: int = 8
    ) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {name: [] for name in outputs}

        async def testbench(context: Any) -> None:
            before: Mapping[str, int] = {}
            for now in [*inputs, *[{}] * after]:
                for name in before.keys() - now.keys():
                    context.set(Value.cast(getattr(part, name)), 0)
                for name, value in now.items():
                    context.set(Value.cast(getattr(part, name)), int(value))
                for name in outputs:
                    found[name].append(context.get(getattr(part, name)))
                before = now
                await context.tick()

        simulator = Simulator(part)
        simulator.add_clock(1e-6)
        simulator.add_testbench(testbench)
        simulator.run()
        return found

    return run


@pytest.fixture(scope="session")
def contest(assert_same_arrays: Any, assert_same_state: Any) -> Callable[..., NumpyEngine]:
    """Let a driver's core and the oracle learn the same; every logit and the whole state in the end equal."""

    def run(
        driver: Any,
        network: Network,
        rules: Rules,
        controls: Sequence[int | Control],
        samples: int,
        seed: int = 7,
        state: Any = None,
    ) -> NumpyEngine:
        oracle = NumpyEngine(network, rules, seed=seed, state=state)
        driver.write_state(oracle.state)
        assert_same_state(driver.read_state(), oracle.state)
        rng = np.random.default_rng(seed)
        prototypes = rng.integers(0, 256, (network.classes, *network.input_shape))
        for control in controls:
            driver.set_control(control)
            labels = rng.integers(0, network.classes, samples)
            images = prototypes[labels] + rng.integers(-80, 80, (samples, *network.input_shape))
            images = np.where(images < 90, 0, np.clip(images, 0, 255)).astype(np.uint8)
            codes = network.encode(images).reshape(samples, -1)
            for i, label in enumerate(labels.tolist()):
                expected = oracle.train(images[i : i + 1], labels[i : i + 1], control)[0]
                assert_same_arrays(driver.learn(codes[i], label), expected, f"logits of sample {i}")
        before = driver.read_state()
        assert_same_arrays(driver.answer(codes[0]), oracle.predict(images[:1])[0], "answer")
        assert_same_state(driver.read_state(), before)
        assert_same_state(before, oracle.state)
        return oracle

    return run


@pytest.fixture(scope="session")
def simulated() -> Callable[..., Any]:
    """Driver of a core in Amaranth's simulator."""
    pytest.importorskip("amaranth", reason="the extra wage-neuro[rtl]")
    from mappings.hardware.rtl.core import NeuroCore
    from mappings.hardware.rtl.driver import Driver
    from mappings.hardware.rtl.python_simulation import PythonSimulation
    from mappings.hardware.rtl.shape import shapes

    def make(network: Network, rules: Rules, lanes: int = 16, multipliers: int = 1) -> Any:
        made = shapes(network, rules, lanes)
        return Driver(PythonSimulation(NeuroCore(made, multipliers)), made)

    return make
