"""ExponentTracker: the peak-hold exponent of Shift, from neurons."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.variable import Var

from processes.part import InLayer, Part
from wage_neuro import neurocore


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

    def __init__(self, part: str, told: InLayer, shape: tuple[int, ...], held: np.ndarray) -> None:
        super().__init__(part, told)
        bank = neurocore.thresholds(told.limits["x_in"].worst)
        self.x_in = InPort(shape=shape)
        self.m_out = OutPort(shape=(1,))
        self.threshold = Var(shape=bank.shape, init=bank)
        self.hold = Var(shape=(1,), init=told.rules.hold)
        self.held = Var(shape=(2,), init=held)
