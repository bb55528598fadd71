"""Behavioural model of Steady."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType

from processes.marks import model_of
from processes.ports import DirectIn
from processes.steady.process import Steady


@model_of(Steady)
class PySteadyModelFixed(PyLoihiProcessModel):
    """Looks after the spiking phase, when whatever this step sends has been sent."""

    a_in: PyInPort = LavaPyType(DirectIn, np.int32, precision=32)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=32)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.message = np.zeros(proc_params["shape"], np.int32)

    def run_spk(self) -> None:
        """Send what came in the step before."""
        self.a_out.send(self.message)
        self.message = np.zeros_like(self.message)

    def post_guard(self) -> bool:
        """After every time step."""
        return True

    def run_post_mgmt(self) -> None:
        """Take what has come, if anything."""
        if self.a_in.probe():
            self.message = self.a_in.recv()
