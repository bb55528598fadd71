"""Memory: a reservoir of the stream's samples in front of the network, which recalls them in turn."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from wage_neuro.memory import Balance, Replay
from wage_neuro.schedule import Schedule


class Memory(AbstractProcess):
    """Keeps some of the new samples that pass, and fills the gaps between them with samples it recalls.

    What arrives leaves within the same time step. Random bits decide what is kept and what is recalled, so
    the order of learning is that of `wage_neuro.memory.Reservoir.interleave`.

    Ports
    -----
    a_in : (lanes, *in_shape) grey levels, 0 in a gap
    y_in : (lanes,) labels, 0 in a gap
    a_out : (lanes, *in_shape) input codes, k_A bits
    y_out : (lanes,) labels
    f_out : (lanes, classes) logits that a recalled sample had when it was new, 32 bits, the least number
        where none are known, the next one of an output that a new sample leaves alone; of a memory that keeps
        logits, or whose new samples do so
    z_in : (lanes, classes) logits of the samples that have passed, from the read-out; where they are kept

    Vars
    ----
    images : (size, *in_shape) grey levels kept, 0 .. 255, or (size, bytes) of several pixels each
    labels : (size,) their labels
    logits : (size, classes) logits kept beside them; (1, classes) of no meaning where none are
    seen : samples offered so far; names the random bits
    came : (classes,) number of each class's last new sample; of no meaning where none leaves outputs alone
    offered, full : (classes,) what a class-balanced memory knows of each class; of no meaning in others
    learning : 1 keeps and recalls, 0 lets everything pass

    Parameters
    ----------
    replay : its memory says what is held at the start
    input_codes : (256,) the code of each grey level
    """

    def __init__(
        self, schedule: Schedule, lanes: int, replay: Replay, input_codes: np.ndarray, classes: int
    ) -> None:
        super().__init__(
            schedule=schedule, lanes=lanes, replay=replay, input_codes=input_codes, name="memory"
        )
        memory = replay.memory
        shape = (lanes, *memory.image_shape)
        self.a_in, self.y_in = InPort(shape=shape), InPort(shape=(lanes,))
        self.a_out, self.y_out = OutPort(shape=shape), OutPort(shape=(lanes,))
        self.images = Var(shape=memory.images.shape, init=memory.images)
        self.labels = Var(shape=memory.labels.shape, init=memory.labels)
        logits = np.zeros((1, classes), np.int32) if memory.logits is None else memory.logits
        self.f_out, self.z_in = OutPort(shape=(lanes, classes)), InPort(shape=(lanes, classes))
        self.logits = Var(shape=logits.shape, init=logits)
        self.seen = Var(shape=(1,), init=memory.seen)
        came = np.zeros(classes, np.int64) if memory.came is None else memory.came
        self.came = Var(shape=(classes,), init=came)
        balance = memory.balance or Balance(np.zeros(classes, np.int64), np.zeros(classes, np.uint8))
        self.offered = Var(shape=(classes,), init=balance.offered)
        self.full = Var(shape=(classes,), init=balance.full)
        self.learning = Var(shape=(1,), init=1)
