"""Model of ForwardSynapses."""

from __future__ import annotations

import numpy as np
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType

from processes.forward_synapses.process import ForwardSynapses
from processes.marks import model_of
from processes.synapses import PySynapsesModelFixed
from wage_neuro import activity, neurocore
from wage_neuro.layers import Kept

NOTHING = np.zeros((1, 0))


@model_of(ForwardSynapses)
class PyForwardSynapsesModelFixed(PySynapsesModelFixed):
    """Receives and sends in the same time step."""

    z_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    g_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def _forward(self) -> None:
        a = self._receive()
        self.z_out.send(self._fit("z_out", self._sums(a)))
        if self._counts_forward():
            activity.count_inputs(self.counts, self.layer, self._visible(), a)

    def _backward(self) -> None:
        pre, post = self._meet()
        peak = 0
        if not self.frozen[0]:
            peak = self.limits["G"].fit_whole(neurocore.gradient_peak(self.layer, pre, post, self.G))
            if self._counts_error():
                activity.count_error(self.counts, self.at_z, Kept(pre), NOTHING, (pre, post))
        self.g_out.send(np.array([peak]))

    def _learned(self, before: np.ndarray, after: np.ndarray) -> None:
        if self._counts_error():
            activity.count_updates(self.counts, before, after)
