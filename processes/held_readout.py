"""A read-out that holds what it has learned itself: what PrototypeReadOut and DiscriminantReadOut share."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from lava.magma.core.model.py.ports import PyInPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from processes.ports import DirectIn
from processes.quick import PyQuickModel
from wage_neuro.activity import FIELDS
from wage_neuro.schedule import Schedule


class HeldReadOut(AbstractProcess):
    """Answers each sample that arrives and, where it has a label, learns it; nothing is sent back.

    Ports
    -----
    a_in : (lanes, features) activation codes, k_A bits
    y_in : (lanes,) labels, or -1: only asked, -2: nothing; they wait here for the features

    Vars
    ----
    an array of what is held each, by the names in `vars_of`; and
    seen : samples learned
    read : set to 1, these Vars are copied to `windows` after the next time step
    watch : 1 counts the activity
    counts : what was counted, see `wage_neuro.activity.FIELDS`

    Parameters
    ----------
    held : what is held at the start
    logits : (ring batches, lanes, classes) int64 in memory shared with the host
    windows : an array for each of `held.arrays`, likewise
    """

    vars_of: ClassVar[dict[str, str]]
    """Var of each array of what is held, by the array's name."""

    def __init__(
        self,
        schedule: Schedule,
        lanes: int,
        features: int,
        held: Any,
        shared: tuple[np.ndarray, list[np.ndarray]],
    ) -> None:
        logits, windows = shared
        super().__init__(schedule=schedule, held=held, logits=logits, windows=windows, vars_of=self.vars_of)
        self.a_in = InPort(shape=(lanes, features))
        self.y_in = InPort(shape=(lanes,))
        for name, array in held.arrays.items():
            setattr(self, self.vars_of[name], Var(shape=array.shape, init=array))
        self.seen = Var(shape=(1,), init=held.seen)
        self.read = Var(shape=(1,), init=0)
        self.watch = Var(shape=(1,), init=0)
        self.counts = Var(shape=(len(FIELDS),), init=0)


class PyHeldReadOutModelFixed(PyQuickModel):
    """Behavioural model; what is answered and learned is the matter of `meet`."""

    a_in: PyInPort = LavaPyType(DirectIn, np.int16, precision=16)
    y_in: PyInPort = LavaPyType(DirectIn, np.int32, precision=16)
    seen: np.ndarray = LavaPyType(np.ndarray, np.int64)
    read: np.ndarray = LavaPyType(np.ndarray, np.int32)
    watch: np.ndarray = LavaPyType(np.ndarray, np.int32)
    counts: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.schedule: Schedule = proc_params["schedule"]
        self.begun: Any = proc_params["held"]
        self.logits: np.ndarray = proc_params["logits"]
        self.windows: list[np.ndarray] = proc_params["windows"]
        self.vars_of: dict[str, str] = proc_params["vars_of"]
        self.t = 0
        self.batch = 0
        self.waiting: deque[np.ndarray] = deque()

    @abstractmethod
    def meet(self, x: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
        """Answer and learn; (lanes, classes) int64 logits."""

    def on_var_update(self) -> None:
        """Hold what the Vars say; it learns in their arrays."""
        self.held = replace(self.begun, **self._arrays(), seen=int(self.seen[0]))

    def run_spk(self) -> None:
        """Take labels in; answer and learn the features that arrive."""
        if self.schedule.forward(0, self.t) is not None:
            self.waiting.append(self.y_in.recv())
        if self.schedule.forward(self.schedule.layers, self.t) is not None:
            slot = self.logits[self.batch % len(self.logits)]
            slot[...] = self.meet(self.a_in.recv(), self.waiting.popleft(), slot.shape[-1])
            self.seen = np.array([self.held.seen])
        self.t = (self.t + 1) % self.schedule.steps(learning=False)
        self.batch += self.t == 0

    def _arrays(self) -> dict[str, Any]:
        return {name: getattr(self, var) for name, var in self.vars_of.items()}

    def post_guard(self) -> bool:
        """Copy what is held when the host has asked for it."""
        return bool(self.read[0])

    def run_post_mgmt(self) -> None:
        """Copy it to the memory that the host sees."""
        for window, array in zip(self.windows, self._arrays().values(), strict=True):
            window[...] = array
        self.read = np.zeros(1, np.int32)
