"""Model of Memory."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from processes.memory.process import Memory
from wage_neuro.memory import Replay, Reservoir
from wage_neuro.schedule import Schedule


@implements(proc=Memory, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyMemoryModel(PyLoihiProcessModel):
    """Behavioural model; what is kept and recalled is `wage_neuro.memory.Reservoir.fill`."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int16, precision=16)
    y_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=16)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int16, precision=16)
    y_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=16)
    images: np.ndarray = LavaPyType(np.ndarray, np.int16, precision=8)
    labels: np.ndarray = LavaPyType(np.ndarray, np.int16, precision=16)
    seen: np.ndarray = LavaPyType(np.ndarray, np.int64)
    learning: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self.schedule: Schedule = proc_params["schedule"]
        self.replay: Replay = proc_params["replay"]
        self.input_codes = proc_params["input_codes"].astype(np.int16)
        self.t = 0
        self.learned: int | None = None  # samples that have passed on to be learned

    def run_spk(self) -> None:
        """Let this time step's samples pass, or fill its gaps."""
        if self.schedule.forward(0, self.t) is not None:
            images, labels = self.a_in.recv(), self.y_in.recv()
            if self.learning[0]:
                images = self._fill(images, labels)
            self.a_out.send(self.input_codes[images])
            self.y_out.send(labels)
        self.t = (self.t + 1) % self.schedule.steps(bool(self.learning[0]))

    def _fill(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        memory = Reservoir(self.images, self.labels, self.replay.memory.seed, seen=int(self.seen[0]))
        if self.learned is None:
            self.learned = 2 * memory.seen
        memory.fill(images, labels, self.replay.step, self.learned)
        images = self.replay.augment(images.astype(np.uint8), self.learned)
        self.seen = np.array([memory.seen])
        self.learned += len(labels)
        return images
