"""Behavioural model of WageBitSerial."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType

from processes.bit_serial.process import WageBitSerial
from processes.marks import model_of
from processes.ports import DirectIn
from wage_neuro import layers
from wage_neuro.bits import code_dtype
from wage_neuro.kernels import numpy_kernels as kernels
from wage_neuro.layers import Layer


@model_of(WageBitSerial)
class PyWageBitSerialModelFixed(PyLoihiProcessModel):
    """Receive a plane, double the sum and add its product; at the end quantize, then send bit by bit."""

    s_in: PyInPort = LavaPyType(DirectIn, np.int32, precision=1)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=1)
    S: np.ndarray = LavaPyType(np.ndarray, np.int16, precision=16)
    Z: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=32)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.layer: Layer = proc_params["layer"]
        self.signed: bool = proc_params["signed"]
        self.starts: tuple[int, ...] = proc_params["starts"]
        self.sent: np.ndarray = proc_params["sent"]
        # the product alone, without pooling and quantization
        self.linear = replace(self.layer, pool=None, out_shape=self.layer.z_shape, is_last=True)
        self.t = 0
        self.left = np.zeros((proc_params["lanes"], *self.layer.out_shape), np.int32)
        self.threshold = 0

    def run_spk(self) -> None:
        """Send the next plane of the code, then hear one."""
        i = self.layer.index
        spikes = (self.left >= self.threshold) & (self.threshold > 0)
        self.left = self.left - self.threshold * spikes
        self.threshold //= 2
        self.sent[self.t] = spikes
        self.s_out.send(spikes.astype(np.int32))
        plane = self.s_in.recv()
        if self.starts[i] <= self.t < self.starts[i + 1]:
            V = layers.visible_weights(self.layer, self.S)
            heard = layers.forward(self.linear, V, plane.astype(np.int8))[0].astype(np.int32)
            first = self.t == self.starts[i]
            self.Z = (-heard if self.signed else heard) if first else 2 * self.Z + heard
            if self.t == self.starts[i + 1] - 1 and not self.layer.is_last:
                self._activate()
        self.t = (self.t + 1) % self.starts[-1]

    def _activate(self) -> None:
        layer, Z = self.layer, self.Z.astype(self.layer.z_dtype)
        Z = layers.pooled(layer, Z, layers.no_winner(layer, len(Z)))
        A = np.empty((len(Z), *layer.out_shape), code_dtype(layer.bits.k_A))
        kernels.quantize_into(A, Z, layer.a_shift, 0, layer.bits.activation_max)
        self.left = A.astype(np.int32)
        self.threshold = 1 << (layer.bits.k_A - 2)
