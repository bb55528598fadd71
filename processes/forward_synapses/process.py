"""ForwardSynapses: the weights of a layer, from its input axons to its neurons."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.ports.ports import OutPort

from processes.part import InLayer
from processes.synapses import Synapses
from processes.widths import FORWARD


class ForwardSynapses(Synapses):
    """Dense or shared (convolution) weights: graded spikes in, weighted sums out in the same time step.

    Ports and Vars as Synapses; S has the layer's weight_shape, and

    z_out : (1, *z_shape) sums V A
    g_out : (1,) largest gradient of the sample, for the tracker. Of a dense layer it is the product of the
        largest a and the largest y; of shared weights the largest of their accumulators.
    """

    def __init__(self, told: InLayer, S: np.ndarray, step: int) -> None:
        super().__init__(FORWARD, told, S, step)
        layer = told.layer
        self.z_out = OutPort(shape=(1, *layer.z_shape))
        self.g_out = OutPort(shape=(1,))
