"""Model of ReadOut."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
from lava.magma.core.model.py.ports import PyInPort, PyOutPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType

from processes.layer_process import chosen
from processes.marks import model_of
from processes.ports import DirectIn
from processes.quick import PyQuickModel
from processes.readout.process import MAX_WINDOWS, ReadOut
from wage_neuro import layers
from wage_neuro.layers import Layer
from wage_neuro.memory import known
from wage_neuro.rules import LOSSES, Rules
from wage_neuro.schedule import Schedule


@model_of(ReadOut)
class PyReadOutModelFixed(PyQuickModel):
    """Behavioural model; the error of the loss is `wage_neuro.layers.output_error`."""

    z_in: PyInPort = LavaPyType(DirectIn, np.int32, precision=32)
    y_in: PyInPort = LavaPyType(DirectIn, np.int32, precision=16)
    e_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=32)
    f_in: PyInPort = LavaPyType(DirectIn, np.int32, precision=32)
    z_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=32)
    learning: np.ndarray = LavaPyType(np.ndarray, np.int32)
    loss: np.ndarray = LavaPyType(np.ndarray, np.int32)
    margin: np.ndarray = LavaPyType(np.ndarray, np.int32)
    read: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.layer: Layer = proc_params["layer"]
        self.rules: Rules = proc_params["rules"]
        self.schedule: Schedule = proc_params["schedule"]
        self.logits: np.ndarray = proc_params["logits"]
        self.windows: list[np.ndarray] = proc_params["windows"]
        self.importance: list[np.ndarray] = proc_params["importance"]
        self.lanes: int = proc_params["lanes"]
        self.t = 0
        self.batch = 0
        self.learned: int = proc_params["learned"]
        self.former: bool = proc_params["former"]
        self.waiting: deque[tuple[np.ndarray, np.ndarray | None]] = deque()
        self.error_message: np.ndarray | None = None

    def run_spk(self) -> None:
        """Send the error of the step before; take labels in; answer the logits that arrive."""
        if self.error_message is not None:
            self.e_out.send(self.error_message)
            self.error_message = None
        if self.schedule.forward(0, self.t) is not None:
            self.waiting.append((self.y_in.recv(), known(self.f_in.recv()) if self.former else None))
        micro = self.schedule.forward(self.schedule.layers, self.t)
        if micro is not None:
            self._answer(micro, self.z_in.recv(), *self.waiting.popleft())
        self.t = (self.t + 1) % self.schedule.steps(bool(self.learning[0]))
        if self.t == 0:
            self.batch += 1
            self.learned += self.rules.batch if self.learning[0] else 0

    def _answer(self, micro: int, Z: np.ndarray, labels: np.ndarray, former: np.ndarray | None) -> None:
        if self.former:
            self.z_out.send(Z)
        self.logits[self.batch % len(self.logits), micro * self.lanes : (micro + 1) * self.lanes] = Z
        if self.learning[0]:
            first, Z = self.learned + micro * self.lanes, Z.astype(np.int64)  # what is made of Z may be wider
            D = layers.output_error(self.layer, Z, labels, self.rules, former)
            self.error_message = layers.quiet_new(D, first, self.rules).astype(np.int32)

    def on_var_update(self) -> None:
        """Go on by the rules that have been set."""
        loss = chosen(LOSSES, self.loss, "loss")
        self.rules = replace(self.rules, loss=loss, margin=int(self.margin[0]))

    def post_guard(self) -> bool:
        """Copy what the others hold when the host has asked for it."""
        return bool(self.read[0])

    def run_post_mgmt(self) -> None:
        """Read every Var through its RefPort."""
        for letter, arrays in (("s", self.windows), ("i", self.importance)):
            for i, out in enumerate(arrays):
                out[...] = getattr(self, f"{letter}{i}").read()
        self.read = np.zeros(1, np.int32)


for _i in range(MAX_WINDOWS):
    setattr(PyReadOutModelFixed, f"s{_i}", LavaPyType(PyRefPort.VEC_DENSE, np.int16, precision=16))
    setattr(PyReadOutModelFixed, f"i{_i}", LavaPyType(PyRefPort.VEC_DENSE, np.int32, precision=16))
