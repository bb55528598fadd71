"""ExponentTracker: the peak-hold exponent of Shift, from neurons."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.variable import Var

from processes.part import Part
from wage_neuro import neurocore
from wage_neuro.layers import Layer


class ExponentTracker(Part):
    """A bank of threshold neurons and a hold counter: up at once, down by one after `hold` samples below.

    Ports
    -----
    x_in : magnitudes to track, any shape
    m_out : (1,) the exponent held before this sample, -1 before the first value; sent before x_in is read

    Vars
    ----
    threshold : the bank: neuron m spikes when a magnitude is above 2**(m - 1/2)
    hold : samples below the exponent before it steps down
    held : (exponent or -1, samples below it: the counter neuron)
    """

    def __init__(
        self, part: str, layer: Layer, shape: tuple[int, ...], held: np.ndarray, worst: int, **common: Any
    ) -> None:
        super().__init__(part, layer, **common)
        bank = neurocore.thresholds(worst)
        self.x_in = InPort(shape=shape)
        self.m_out = OutPort(shape=(1,))
        self.threshold = Var(shape=bank.shape, init=bank)
        self.hold = Var(shape=(1,), init=common["rules"].hold)
        self.held = Var(shape=(2,), init=held)
