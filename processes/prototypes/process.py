"""PrototypeReadOut: keeps features of the layers below as prototypes and answers with the nearest one."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from wage_neuro.activity import FIELDS
from wage_neuro.prototypes import Prototypes
from wage_neuro.schedule import Schedule


class PrototypeReadOut(AbstractProcess):
    """Answers each sample that arrives and, where it has a label, learns it; nothing is sent back.

    Ports
    -----
    a_in : (lanes, features) activation codes, k_A bits
    y_in : (lanes,) labels, -1 of a sample that is only asked; they wait here for the features

    Vars
    ----
    codes, labels, wins, born, seen : as `wage_neuro.prototypes.Prototypes`
    read : set to 1, these Vars are copied to `windows` after the next time step
    watch : 1 counts the activity
    counts : what was counted, see `wage_neuro.activity.FIELDS`

    Parameters
    ----------
    prototypes : what is held at the start
    logits : (ring batches, lanes, classes) int64 in memory shared with the host
    windows : an array for each of `Prototypes.arrays`, likewise
    """

    def __init__(
        self,
        schedule: Schedule,
        lanes: int,
        prototypes: Prototypes,
        logits: np.ndarray,
        windows: list[np.ndarray],
    ) -> None:
        super().__init__(
            schedule=schedule, prototypes=prototypes, logits=logits, windows=windows, name="prototypes"
        )
        self.a_in = InPort(shape=(lanes, prototypes.codes.shape[1]))
        self.y_in = InPort(shape=(lanes,))
        for name, array in prototypes.arrays.items():
            setattr(self, name, Var(shape=array.shape, init=array))
        self.seen = Var(shape=(1,), init=prototypes.seen)
        self.read = Var(shape=(1,), init=0)
        self.watch = Var(shape=(1,), init=0)
        self.counts = Var(shape=(len(FIELDS),), init=0)
