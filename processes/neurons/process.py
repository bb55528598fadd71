"""Neurons: the neurons of a layer, with the error neuron of each."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort

from processes.part import InLayer, LearningPart
from processes.widths import NEURONS


class Neurons(LearningPart):
    """Sums in, activations out one time step later; error sums in, error spikes out in the same step.

    Ports
    -----
    z_in : (1, *z_shape) sums of the forward synapses
    a_out : (1, *out_shape) activation codes of a hidden layer, after pooling and ReLU
    z_out : (1, *out_shape) products of the last layer
    e_in : (1, *out_shape) error sums of the layer above
    m_in : (1,) exponent held by the tracker of the errors
    x_out : (1, *out_shape) error sums for that tracker, 0 where the activation saturated
    e_pos_out, e_neg_out : (1, *z_shape) error spikes for the transposed synapses
    y_out : (1, *z_shape) post factor of learning: the error codes, or signed spikes (coincidence)
    """

    def __init__(self, told: InLayer, step: int) -> None:
        super().__init__(NEURONS, told, step)
        layer = told.layer
        self.z_in = InPort(shape=(1, *layer.z_shape))
        self.a_out = OutPort(shape=(1, *layer.out_shape))
        self.z_out = OutPort(shape=(1, *layer.out_shape))
        self.e_in = InPort(shape=(1, *layer.out_shape))
        self.m_in = InPort(shape=(1,))
        self.x_out = OutPort(shape=(1, *layer.out_shape))
        self.e_pos_out = OutPort(shape=(1, *layer.z_shape))
        self.e_neg_out = OutPort(shape=(1, *layer.z_shape))
        self.y_out = OutPort(shape=(1, *layer.z_shape))
