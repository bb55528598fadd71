"""ErrorNeuron: compares what the synapses sum with a target, and sends the difference as third factor."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from wage_neuro.layers import Layer


class ErrorNeuron(AbstractProcess):
    """Output neurons of a network that learns by a three-factor rule. They answer in the step they are asked.

    Ports
    -----
    a_in : (n_out,) sums of the synapses in units of Z, 24 bits
    target_in : (n_out,) targets in units of Z, 24 bits; zeros in steps without a sample
    y1_out : (n_out,) third factor: target - sum in k_E bits, to `s_in_y1` of the synapses

    Parameters
    ----------
    layer : Layer
        The last layer of a network.
    exponent : int
        An error of 2**exponent, in units of Z, is sent as 2**(k_E-1). It is fixed: a neuron alone knows no
        maximum of its layer.
    """

    def __init__(self, layer: Layer, exponent: int) -> None:
        super().__init__(layer=layer, exponent=exponent, name="error_neuron")
        self.a_in = InPort(shape=layer.out_shape)
        self.target_in = InPort(shape=layer.out_shape)
        self.y1_out = OutPort(shape=layer.out_shape)
