"""ReadOut: takes the logits, sends the output error back, and is the host's window on the others' Vars."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from processes.host import Host
from wage_neuro.layers import Layer
from wage_neuro.rules import LOSSES, Rules
from wage_neuro.schedule import Schedule

MAX_WINDOWS = 32
"""Lava wants ports as class attributes, so there are as many as the deepest network may need."""


class ReadOut(AbstractProcess):
    """Compares logits with labels and starts the error on its way back.

    Ports
    -----
    z_in : (lanes, classes) logits of the last layer, 32 bits
    y_in : (lanes,) labels; they wait here until their logits arrive
    e_out : (lanes, classes) output error of the loss, 32 bits
    f_in : (lanes, classes) logits that samples once had, or outputs that they spare, from a memory that tells
    z_out : (lanes, classes) the logits that arrive, for a memory that keeps them; in the same time step
    s0 .. s31 : RefPorts to Vars of the others: the stored weights of the layers, what a memory holds
    i0 .. i31 : RefPorts to the importance of the layers' synapses, where there is one

    Vars
    ----
    learning : 1 sends errors, 0 answers only
    loss : place in `rules.LOSSES`
    margin : eighths of the target, see `wage_neuro.rules.Rules`
    read : set to 1, these Vars are copied to `windows` and `importance` after the next time step
    """

    def __init__(self, layer: Layer, rules: Rules, schedule: Schedule, lanes: int, host: Host) -> None:
        super().__init__(
            layer=layer, rules=rules, schedule=schedule, lanes=lanes, name="read-out", **vars(host)
        )
        self.z_in = InPort(shape=(lanes, *layer.out_shape))
        self.y_in = InPort(shape=(lanes,))
        self.e_out = OutPort(shape=(lanes, *layer.out_shape))
        self.f_in = InPort(shape=(lanes, *layer.out_shape))
        self.z_out = OutPort(shape=(lanes, *layer.out_shape))
        self.learning = Var(shape=(1,), init=1)
        self.loss = Var(shape=(1,), init=LOSSES.index(rules.loss))
        self.margin = Var(shape=(1,), init=rules.margin)
        self.read = Var(shape=(1,), init=0)
        for i in range(MAX_WINDOWS):
            for letter, arrays in (("s", host.windows), ("i", host.importance)):
                setattr(self, f"{letter}{i}", RefPort(shape=arrays[i].shape if i < len(arrays) else (1,)))
