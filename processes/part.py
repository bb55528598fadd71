"""What the parts of a structural layer have in common: the layer's clock and its declared widths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from processes.quick import PyQuickModel
from processes.widths import Limit
from wage_neuro.activity import FIELDS
from wage_neuro.layers import Layer
from wage_neuro.rules import Rules
from wage_neuro.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class InLayer:
    """What each part of a structural layer is told.

    limits : declared width of each Var and port of the part
    """

    layer: Layer
    rules: Rules
    schedule: Schedule
    seed: int
    signed_in: bool
    kernels: str
    limits: dict[str, Limit]


class Part(AbstractProcess):
    """A part of a structural layer; one sample a time step.

    Vars
    ----
    learning : 1 learns, 0 answers only

    Parameters
    ----------
    part : name of the part, for messages to people
    """

    def __init__(self, part: str, told: InLayer) -> None:
        super().__init__(name=f"layer {told.layer.index} {told.layer} {part}", **vars(told))
        self.learning = Var(shape=(1,), init=1)


class PyPartModelFixed(PyQuickModel):
    """Runs the layer's clock: sends what waits, then meets the activation and the error of this step."""

    learning: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.layer: Layer = proc_params["layer"]
        self.rules: Rules = proc_params["rules"]
        self.schedule: Schedule = proc_params["schedule"]
        self.seed: int = proc_params["seed"]
        self.limits: dict[str, Limit] = proc_params["limits"]
        self.t = 0  # step within the batch

    def run_spk(self) -> None:
        """One time step."""
        self._send()
        if self.schedule.forward(self.layer.index, self.t) is not None:
            self._forward()
        if self.learning[0] and self.schedule.error(self.layer.index, self.t) is not None:
            self._backward()
        self.t = (self.t + 1) % self.schedule.steps(bool(self.learning[0]))

    def _fit(self, var: str, x: np.ndarray) -> np.ndarray:
        return self.limits[var].fit(x)

    def _send(self) -> None:
        """Send what the step before computed."""

    def _forward(self) -> None:
        """Meet the activation that arrives in this step."""

    def _backward(self) -> None:
        """Meet the error that arrives in this step."""


class LearningPart(Part):
    """A part that knows the update steps and counts what it does.

    Vars
    ----
    log2_eta : step size
    frozen : 1 keeps the weights as they are, while errors pass
    update_step : samples learned; names the random bits
    watch : count the activity of every so many update steps, and of all answers; 0 counts nothing
    counts : this part's share of `wage_neuro.activity.FIELDS`
    """

    def __init__(self, part: str, told: InLayer, step: int) -> None:
        super().__init__(part, told)
        self.log2_eta = Var(shape=(1,), init=0)
        self.frozen = Var(shape=(1,), init=0)
        self.update_step = Var(shape=(1,), init=step)
        self.watch = Var(shape=(1,), init=0)
        self.counts = Var(shape=(len(FIELDS),), init=0)


class PyLearningPartModelFixed(PyPartModelFixed):
    """Keeps the number of the sample that each message belongs to."""

    log2_eta: np.ndarray = LavaPyType(np.ndarray, np.int32)
    frozen: np.ndarray = LavaPyType(np.ndarray, np.int32)
    update_step: np.ndarray = LavaPyType(np.ndarray, np.int64)
    watch: np.ndarray = LavaPyType(np.ndarray, np.int32)
    counts: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.first_step = 0  # update step of the batch's first sample

    def run_spk(self) -> None:
        """One time step."""
        if self.t == 0:
            self.first_step = int(self.update_step[0])
        super().run_spk()

    def _counts_forward(self) -> bool:
        """Whether the activation of this step is counted."""
        return self._counts(self.first_step + (self.schedule.forward(self.layer.index, self.t) or 0))

    def _counts_error(self) -> bool:
        """Whether the error of this step is counted."""
        return self._counts(int(self.update_step[0]))

    def _counts(self, step: int) -> bool:
        every = int(self.watch[0])
        return bool(every) and (step % every == 0 or not self.learning[0])


def set_everywhere(process: AbstractProcess, name: str, value: int) -> None:
    """Set a one-element Var of a running Process, or of every part of it that has one of that name."""
    for part in list(process.procs) or [process]:
        if hasattr(part, name):
            getattr(part, name).set(np.array([value]))


def take_counts(process: AbstractProcess) -> np.ndarray:
    """Return what a running Process, or all its parts together, counted, and let it count from 0 again."""
    total = np.zeros(len(FIELDS), np.int64)
    for part in list(process.procs) or [process]:
        if hasattr(part, "counts"):
            total += part.counts.get().astype(np.int64)
            part.counts.set(np.zeros(len(FIELDS), np.int64))
    return total
