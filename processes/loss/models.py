"""Behavioural model of Loss."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType

from processes.alone import fitted
from processes.layer_process import chosen
from processes.loss.process import Loss
from processes.marks import model_of
from processes.ports import DirectIn
from processes.quick import PyQuickModel
from wage_neuro import layers
from wage_neuro.errors import DataError
from wage_neuro.layers import Layer
from wage_neuro.rules import LOSSES, Rules

NONE = -1  # no target


@model_of(Loss)
class PyLossModelFixed(PyQuickModel):
    """The error is `wage_neuro.layers.output_error`."""

    z_in: PyInPort = LavaPyType(DirectIn, np.int32, precision=32)
    y_in: PyInPort = LavaPyType(DirectIn, np.int32, precision=16)
    e_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=32)
    answer_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=16)
    loss: np.ndarray = LavaPyType(np.ndarray, np.int32)
    margin: np.ndarray = LavaPyType(np.ndarray, np.int32)
    seen: np.ndarray = LavaPyType(np.ndarray, np.int64)
    right: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.layer: Layer = proc_params["layer"]
        self.rules: Rules = proc_params["rules"]
        self.waiting = deque([NONE] * proc_params["delay"])
        self.error, self.answer = np.zeros(self.layer.out_shape, np.int32), np.array([NONE])

    def on_var_update(self) -> None:
        """Go on by the rules that have been set."""
        loss = chosen(LOSSES, self.loss, "loss")
        self.rules = replace(self.rules, loss=loss, margin=int(self.margin[0]))

    def run_spk(self) -> None:
        """Send the error of the step before; let the target wait for its prediction."""
        self.e_out.send(self.error)
        self.answer_out.send(self.answer)
        name, bound = self.proc_params["name"], self.layer.z_bound
        self.waiting.append(self._label(self.y_in.recv()))
        Z, label = fitted(self.z_in.recv(), -bound, bound, f"{name}: z_in"), self.waiting.popleft()
        self.error, self.answer = np.zeros(Z.shape, np.int32), np.array([NONE])
        if label != NONE:
            D = layers.output_error(self.layer, Z[None], np.array([label]), self.rules)
            self.error, self.answer = D[0].astype(np.int32), np.array([Z.argmax()])
            self.seen = self.seen + 1
            self.right = self.right + (self.answer == label)

    def _label(self, target: np.ndarray) -> int:
        name, classes = self.proc_params["name"], self.layer.out_shape[0]
        if self.proc_params["targets"] == "labels":
            return int(fitted(target, NONE, classes - 1, f"{name}: y_in")[0])
        target = fitted(target, 0, 1, f"{name}: y_in")
        if target.sum() > 1:
            raise DataError(f"{name}: y_in has {target.sum()} ones: want one at the right class, or none")
        return int(target.argmax()) if target.any() else NONE
