"""WageBitSerial: a WAGE layer that hears and sends binary spikes, one bit-plane a time step."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from wage_neuro.layers import Layer


class WageBitSerial(AbstractProcess):
    """One layer of a trained network; `lanes` samples side by side. Answers only, learns nothing.

    It listens from step `starts[i]` to the one before `starts[i + 1]`, the most significant plane first, and
    doubles its sum every step; then it sends its own code, a plane a step. Again every `starts[-1]` steps.

    Ports (binary spikes; one time step a hop)
    ------------------------------------------
    s_in : (lanes, *in_shape) spikes, 1 bit
    s_out : (lanes, *out_shape) spikes, 1 bit; none of the last layer

    Vars
    ----
    S : stored weights, k_G bits, weight_shape
    Z : (lanes, *z_shape) the sum of the spikes heard in this window, 32 bits

    Parameters
    ----------
    signed : bool
        The first plane heard counts as negative: two's complement.
    starts : first steps in which the input and each hidden layer send, and the step after the last
    sent : (starts[-1], lanes, *out_shape) bool in memory shared with the host: the spikes of each step
    """

    def __init__(
        self,
        layer: Layer,
        S: np.ndarray,
        signed: bool,
        starts: tuple[int, ...],
        sent: np.ndarray,
    ) -> None:
        lanes = sent.shape[1]
        super().__init__(
            layer=layer,
            lanes=lanes,
            signed=signed,
            starts=starts,
            sent=sent,
            name=f"bit-serial layer {layer.index}",
        )
        self.s_in = InPort(shape=(lanes, *layer.in_shape))
        self.s_out = OutPort(shape=(lanes, *layer.out_shape))
        self.S = Var(shape=layer.weight_shape, init=S)
        self.Z = Var(shape=(lanes, *layer.z_shape), init=0)
