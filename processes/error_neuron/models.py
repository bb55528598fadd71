"""Model of ErrorNeuron."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType

from processes.error_neuron.process import ErrorNeuron
from processes.marks import model_of
from processes.ports import DirectIn
from wage_neuro import layers
from wage_neuro.layers import Kept, Layer


@model_of(ErrorNeuron)
class PyErrorNeuronModelFixed(PyLoihiProcessModel):
    """Behavioural model; the error is quantized by `wage_neuro.layers.error_codes`."""

    a_in: PyInPort = LavaPyType(DirectIn, np.int32, precision=24)
    target_in: PyInPort = LavaPyType(DirectIn, np.int32, precision=24)
    y1_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=8)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.layer: Layer = proc_params["layer"]
        self.exponent: int = proc_params["exponent"]

    def run_spk(self) -> None:
        """Receive, answer in the same step, as a neuron does: synapses send before they receive."""
        Z, target = self.a_in.recv(), self.target_in.recv()
        kept = Kept(np.empty(0))  # the last layer has neither ReLU nor clip, so no mask
        self.y1_out.send(layers.error_codes(self.layer, kept, target - Z, self.exponent).astype(np.int32))
