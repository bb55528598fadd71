"""Model of Neurons."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType

from processes.marks import model_of
from processes.neurons.process import Neurons
from processes.part import PyLearningPartModelFixed
from processes.ports import DirectIn
from wage_neuro import activity, layers, neurocore
from wage_neuro.fixed_point import carrier
from wage_neuro.layers import Draw, Kept


@model_of(Neurons)
class PyNeuronsModelFixed(PyLearningPartModelFixed):
    """The one delay of the activation's path through a layer; the masks wait here for the error."""

    z_in: PyInPort = LavaPyType(DirectIn, np.int32)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int16)
    z_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    e_in: PyInPort = LavaPyType(DirectIn, np.int32)
    m_in: PyInPort = LavaPyType(DirectIn, np.int32)
    x_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    e_pos_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    e_neg_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    y_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.in_flight: deque[Kept] = deque()
        self.message: np.ndarray | None = None

    def _send(self) -> None:
        if self.message is not None:
            (self.z_out if self.layer.is_last else self.a_out).send(self.message)
            self.message = None

    def _forward(self) -> None:
        Z = self._fit("z_in", self.z_in.recv())
        if self.layer.is_last:
            self.message, kept = Z, Kept(Z)
        else:
            A, kept = neurocore.activate(self.layer, Z)
            self.message = self._fit("a_out", A)
        if self.learning[0]:
            self.in_flight.append(kept)
        if self._counts_forward():
            activity.count_spikes(self.counts, self.message)

    def _backward(self) -> None:
        kept, D = self.in_flight.popleft(), self._fit("e_in", self.e_in.recv())
        peak = layers.mask_saturated(kept, D)
        self.x_out.send(D)
        m = int(self.m_in.recv()[0])
        exponent = None if m == neurocore.UNKNOWN else m
        E = layers.error_codes(self.layer, kept, D.astype(carrier(peak)), exponent)
        if self._counts_error():
            activity.count_error(self.counts, self.layer, kept, E, None)
        E_z = neurocore.unpool(self.layer, kept, E)
        if self.layer.index:
            self.e_pos_out.send(self._fit("e_out", np.maximum(E_z, 0)))
            self.e_neg_out.send(self._fit("e_out", np.maximum(-E_z, 0)))
        if self.rules.update == "coincidence":
            eta, step = int(self.log2_eta[0]), int(self.update_step[0])
            spikes = layers.post_spikes(self.layer, E, eta, Draw(self.seed, step, self.rules.generator))
            E_z = neurocore.unpool(self.layer, kept, spikes)
        self.y_out.send(self._fit("y_out", E_z))
        self.update_step = self.update_step + 1
