"""Model of ImageSource."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType

from processes.marks import model_of
from processes.quick import PyQuickModel
from processes.source.process import ImageSource
from wage_neuro.schedule import Schedule


@model_of(ImageSource)
class PyImageSourceModel(PyQuickModel):
    """Sends micro-step t of the ring's next batch at step t."""

    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int16, precision=16)
    y_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=16)
    learning: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.schedule: Schedule = proc_params["schedule"]
        self.images: np.ndarray = proc_params["images"]
        self.labels: np.ndarray = proc_params["labels"]
        self.input_codes = proc_params["input_codes"].astype(np.int16)
        self.lanes: int = proc_params["lanes"]
        self.t = 0
        self.batch = 0

    def run_spk(self) -> None:
        """Send `lanes` samples while the batch has any."""
        if self.schedule.forward(0, self.t) is not None:
            part = slice(self.t * self.lanes, (self.t + 1) * self.lanes)
            slot = self.batch % len(self.images)
            self.a_out.send(self.input_codes[self.images[slot, part]])
            self.y_out.send(self.labels[slot, part])
        self.t = (self.t + 1) % self.schedule.steps(bool(self.learning[0]))
        self.batch += self.t == 0
