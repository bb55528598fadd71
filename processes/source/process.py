"""ImageSource: sends images as input codes, and their labels, into the network."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from wage_neuro.schedule import Schedule


class ImageSource(AbstractProcess):
    """Plays batches from a ring in shared memory, `lanes` samples a time step.

    Ports
    -----
    a_out : (lanes, *in_shape) input codes, k_A bits
    y_out : (lanes,) labels

    Parameters
    ----------
    images : (ring batches, batch, *in_shape) uint8 grey levels, in memory shared with the host
    labels : (ring batches, batch) int64, likewise
    input_codes : (256,) the code of each grey level
    """

    def __init__(
        self, schedule: Schedule, lanes: int, images: np.ndarray, labels: np.ndarray, input_codes: np.ndarray
    ) -> None:
        super().__init__(
            schedule=schedule,
            images=images,
            labels=labels,
            input_codes=input_codes,
            lanes=lanes,
            name="source",
        )
        self.a_out = OutPort(shape=(lanes, *images.shape[2:]))
        self.y_out = OutPort(shape=(lanes,))
        self.learning = Var(shape=(1,), init=1)
