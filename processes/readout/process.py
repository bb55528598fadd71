"""ReadOut: takes the logits, sends the output error back, and is the host's window on the weights."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from wage_neuro.layers import Layer
from wage_neuro.rules import Rules
from wage_neuro.schedule import Schedule

MAX_LAYERS = 32
"""Lava wants ports as class attributes, so there are as many as the deepest network may need."""


class ReadOut(AbstractProcess):
    """Compares logits with labels and starts the error on its way back.

    Ports
    -----
    z_in : (lanes, classes) logits of the last layer, 32 bits
    y_in : (lanes,) labels; they wait here until their logits arrive
    e_out : (lanes, classes) output error of the loss, 32 bits
    s0 .. s31 : RefPorts to the stored weights of the layers
    i0 .. i31 : RefPorts to the importance of their synapses, where there is one

    Vars
    ----
    learning : 1 sends errors, 0 answers only
    read : set to 1, weights and importance are copied to `weights` and `importance` after the next time step

    Parameters
    ----------
    logits : (ring batches, batch, classes) int64 in memory shared with the host
    weights, importance : one array a layer, likewise; no importance where there is none
    """

    def __init__(
        self,
        layer: Layer,
        rules: Rules,
        schedule: Schedule,
        lanes: int,
        logits: np.ndarray,
        weights: list[np.ndarray],
        importance: list[np.ndarray],
    ) -> None:
        super().__init__(
            layer=layer,
            rules=rules,
            schedule=schedule,
            lanes=lanes,
            logits=logits,
            weights=weights,
            importance=importance,
            name="read-out",
        )
        self.z_in = InPort(shape=(lanes, *layer.out_shape))
        self.y_in = InPort(shape=(lanes,))
        self.e_out = OutPort(shape=(lanes, *layer.out_shape))
        self.learning = Var(shape=(1,), init=1)
        self.read = Var(shape=(1,), init=0)
        for i in range(MAX_LAYERS):
            for letter, arrays in (("s", weights), ("i", importance)):
                setattr(self, f"{letter}{i}", RefPort(shape=arrays[i].shape if i < len(arrays) else (1,)))
