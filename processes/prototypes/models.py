"""Model of PrototypeReadOut."""

from __future__ import annotations

import numpy as np
from lava.magma.core.model.py.type import LavaPyType

from processes.held_readout import PyHeldReadOutModelFixed
from processes.marks import model_of
from processes.prototypes.process import PrototypeReadOut
from wage_neuro.prototypes import answer_and_learn


@model_of(PrototypeReadOut)
class PyPrototypeReadOutModelFixed(PyHeldReadOutModelFixed):
    """Behavioural model; what is answered and learned is `wage_neuro.prototypes.answer_and_learn`."""

    codes: np.ndarray = LavaPyType(np.ndarray, np.int16, precision=16)
    labels: np.ndarray = LavaPyType(np.ndarray, np.int16, precision=16)
    wins: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=32)
    born: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def meet(self, x: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
        return answer_and_learn(self.held, x, labels, classes, self.counts if self.watch[0] else None)
