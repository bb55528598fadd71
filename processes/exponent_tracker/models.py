"""Model of ExponentTracker."""

from __future__ import annotations

import numpy as np
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType

from processes.exponent_tracker.process import ExponentTracker
from processes.marks import model_of
from processes.part import PyPartModelFixed
from processes.ports import DirectIn
from wage_neuro import neurocore


@model_of(ExponentTracker)
class PyExponentTrackerModelFixed(PyPartModelFixed):
    """Same exponents as `wage_neuro.train.Held`, by comparisons and a counter alone."""

    x_in: PyInPort = LavaPyType(DirectIn, np.int32)
    m_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    threshold: np.ndarray = LavaPyType(np.ndarray, np.int64)
    hold: np.ndarray = LavaPyType(np.ndarray, np.int32)
    held: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def _backward(self) -> None:
        exponent, below = (int(v) for v in self.held)
        self.m_out.send(np.array([exponent]))
        reached = neurocore.exponent_reached(self.threshold, self._fit("x_in", self.x_in.recv()))
        reached = self.limits["exponent"].fit_whole(reached)
        counter = self.limits["below"].fit_whole
        self.held[:] = neurocore.tracker_step(exponent, below, reached, int(self.hold[0]), counter)
