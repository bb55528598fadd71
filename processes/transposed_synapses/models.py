"""Model of TransposedSynapses."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType

from processes.marks import model_of
from processes.ports import DirectIn
from processes.synapses import PySynapsesModelFixed
from processes.transposed_synapses.process import TransposedSynapses
from wage_neuro import activity, neurocore
from wage_neuro.layers import Kept


@model_of(TransposedSynapses)
class PyTransposedSynapsesModelFixed(PySynapsesModelFixed):
    """The one delay of the error's path through a layer."""

    e_pos_in: PyInPort = LavaPyType(DirectIn, np.int32)
    e_neg_in: PyInPort = LavaPyType(DirectIn, np.int32)
    e_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.message: np.ndarray | None = None

    def _stored(self) -> np.ndarray:
        return np.swapaxes(self.S, -1, -2)

    def _store(self, S: np.ndarray) -> None:
        self.S = np.swapaxes(S, -1, -2).copy()

    def _send(self) -> None:
        if self.message is not None:
            self.e_out.send(self.message)
            self.message = None

    def _forward(self) -> None:
        self._receive()

    def _backward(self) -> None:
        # two axons of opposite weight an error neuron; their sums add up in one dendrite
        E = self.e_pos_in.recv() - self.e_neg_in.recv()
        if self._counts_error():
            activity.count_feedback(self.counts, self.at_z, self._visible(), Kept(E), E)
        _, post = self._meet()
        if self.native and np.array_equal(E, post):  # both messages came through their widths whole
            self.message = self.back
        else:
            self.message = self._fit("e_out", neurocore.error_sums(self.layer, self._visible(), E))
