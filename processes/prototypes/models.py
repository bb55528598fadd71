"""Model of PrototypeReadOut."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
from lava.magma.core.model.py.ports import PyInPort
from lava.magma.core.model.py.type import LavaPyType

from processes.marks import model_of
from processes.ports import DirectIn
from processes.prototypes.process import PrototypeReadOut
from processes.quick import PyQuickModel
from wage_neuro.prototypes import Prototypes, answer_and_learn
from wage_neuro.schedule import Schedule


@model_of(PrototypeReadOut)
class PyPrototypeReadOutModelFixed(PyQuickModel):
    """Behavioural model; what is answered and learned is `wage_neuro.prototypes.answer_and_learn`."""

    a_in: PyInPort = LavaPyType(DirectIn, np.int16, precision=16)
    y_in: PyInPort = LavaPyType(DirectIn, np.int32, precision=16)
    codes: np.ndarray = LavaPyType(np.ndarray, np.int16, precision=16)
    labels: np.ndarray = LavaPyType(np.ndarray, np.int16, precision=16)
    wins: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=32)
    born: np.ndarray = LavaPyType(np.ndarray, np.int64)
    seen: np.ndarray = LavaPyType(np.ndarray, np.int64)
    read: np.ndarray = LavaPyType(np.ndarray, np.int32)
    watch: np.ndarray = LavaPyType(np.ndarray, np.int32)
    counts: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.schedule: Schedule = proc_params["schedule"]
        self.prototypes: Prototypes = proc_params["prototypes"]
        self.logits: np.ndarray = proc_params["logits"]
        self.windows: list[np.ndarray] = proc_params["windows"]
        self.t = 0
        self.batch = 0
        self.waiting: deque[np.ndarray] = deque()

    def run_spk(self) -> None:
        """Take labels in; answer and learn the features that arrive."""
        if self.schedule.forward(0, self.t) is not None:
            self.waiting.append(self.y_in.recv())
        if self.schedule.forward(self.schedule.layers, self.t) is not None:
            self._meet(self.a_in.recv(), self.waiting.popleft())
        self.t = (self.t + 1) % self.schedule.steps(learning=False)
        self.batch += self.t == 0

    def _meet(self, x: np.ndarray, labels: np.ndarray) -> None:
        held = replace(self.prototypes, **self._arrays(), seen=int(self.seen[0]))
        counts = self.counts if self.watch[0] else None
        slot = self.logits[self.batch % len(self.logits)]
        slot[...] = answer_and_learn(held, x, labels, slot.shape[-1], counts)
        self.seen = np.array([held.seen])

    def _arrays(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.prototypes.arrays}

    def post_guard(self) -> bool:
        """Copy the prototypes when the host has asked for them."""
        return bool(self.read[0])

    def run_post_mgmt(self) -> None:
        """Copy them to the memory that the host sees."""
        for window, array in zip(self.windows, self._arrays().values(), strict=True):
            window[...] = array
        self.read = np.zeros(1, np.int32)
