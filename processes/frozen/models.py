"""Behavioural models of the frozen layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType

from processes.alone import ONLINE, fitted
from processes.frozen.process import FrozenConv, FrozenDense
from processes.marks import model_of
from processes.ports import DirectIn
from processes.quick import PyQuickModel
from wage_neuro.kernels.layerwise import layer_at_work
from wage_neuro.layers import Layer
from wage_neuro.learner import Site
from wage_neuro.state import LayerState


class PyFrozenLayerModelFixed(PyQuickModel):
    """Receive, call `wage_neuro`, send in the next step."""

    a_in: PyInPort = LavaPyType(DirectIn, np.int32, precision=16)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=16)
    z_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=32)
    V: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=16)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.layer: Layer = proc_params["layer"]
        signed = proc_params["signed_in"]
        self.low = -self.layer.bits.activation_max if signed else 0
        self.work = layer_at_work(Site(self.layer, 0, ONLINE, 0), 1, in_flight=1, signed_in=signed)
        self.message = np.zeros(self.layer.out_shape, np.int32)

    def on_var_update(self) -> None:
        """Go on from what has been set."""
        bits = self.layer.bits
        S = self.V * 2 ** max(0, bits.k_G - bits.k_W)
        self.work.put(LayerState(S=S.astype(np.int16)))

    def run_spk(self) -> None:
        """One time step."""
        (self.z_out if self.layer.is_last else self.a_out).send(self.message)
        where = f"{self.proc_params['name']}: a_in"
        a = fitted(self.a_in.recv(), self.low, self.layer.bits.activation_max, where)
        self.message = self.work.forward(a[None], False)[0]


@model_of(FrozenDense)
class PyFrozenDenseModelFixed(PyFrozenLayerModelFixed):
    """The answers of `wage_neuro.train.predict`."""


@model_of(FrozenConv)
class PyFrozenConvModelFixed(PyFrozenLayerModelFixed):
    """The answers of `wage_neuro.train.predict`."""
