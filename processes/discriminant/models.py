"""Model of DiscriminantReadOut."""

from __future__ import annotations

import numpy as np
from lava.magma.core.model.py.type import LavaPyType

from processes.discriminant.process import DiscriminantReadOut
from processes.held_readout import PyHeldReadOutModelFixed
from processes.marks import model_of
from wage_neuro.discriminant import answer_or_learn


@model_of(DiscriminantReadOut)
class PyDiscriminantReadOutModelFixed(PyHeldReadOutModelFixed):
    """Behavioural model; what is answered and learned is `wage_neuro.discriminant.answer_or_learn`.

    It is solved where a sample is asked, in one time step: for the host's processor, not for a neurocore.
    """

    products: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=32)
    sums: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=32)
    class_counts: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=32)

    def meet(self, x: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
        return answer_or_learn(self.held, x, labels, self.counts if self.watch[0] else None)
