"""TransposedSynapses: a layer's own copy of its weights, for the error's way back."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort

from processes.part import InLayer
from processes.synapses import Synapses
from processes.widths import TRANSPOSED


class TransposedSynapses(Synapses):
    """Error spikes in, error sums for the layer below out, one time step later.

    It learns what the forward synapses learn, from the same factors and the same counter-based random bits,
    so the two copies stay equal without ever being compared. Ports and Vars as Synapses; S is
    (..., n_out, n_in), and

    e_pos_in, e_neg_in : (1, *z_shape) magnitudes of the errors above and below zero: a payload has no sign
    e_out : (1, *in_shape) sums V^T (e+ - e-)
    """

    def __init__(self, told: InLayer, S: np.ndarray, step: int) -> None:
        super().__init__(TRANSPOSED, told, np.swapaxes(S, -1, -2).copy(), step)
        layer = told.layer
        self.e_pos_in = InPort(shape=(1, *layer.z_shape))
        self.e_neg_in = InPort(shape=(1, *layer.z_shape))
        self.e_out = OutPort(shape=(1, *layer.in_shape))
