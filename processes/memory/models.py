"""Model of Memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType

from processes.marks import model_of
from processes.memory.process import Memory
from processes.ports import DirectIn
from processes.quick import PyQuickModel
from wage_neuro.memory import LOGIT, Replay, Reservoir
from wage_neuro.schedule import Schedule


@model_of(Memory)
class PyMemoryModel(PyQuickModel):
    """Behavioural model; what is kept and recalled is `wage_neuro.memory.Reservoir.fill`."""

    a_in: PyInPort = LavaPyType(DirectIn, np.int16, precision=16)
    y_in: PyInPort = LavaPyType(DirectIn, np.int32, precision=16)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int16, precision=16)
    y_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=16)
    f_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=32)
    z_in: PyInPort = LavaPyType(DirectIn, np.int32, precision=32)
    images: np.ndarray = LavaPyType(np.ndarray, np.int16, precision=8)
    labels: np.ndarray = LavaPyType(np.ndarray, np.int16, precision=16)
    logits: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=32)
    seen: np.ndarray = LavaPyType(np.ndarray, np.int64)
    came: np.ndarray = LavaPyType(np.ndarray, np.int64)
    offered: np.ndarray = LavaPyType(np.ndarray, np.int64)
    full: np.ndarray = LavaPyType(np.ndarray, np.int32)
    learning: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.schedule: Schedule = proc_params["schedule"]
        self.replay: Replay = proc_params["replay"]
        self.input_codes = proc_params["input_codes"].astype(np.int16)
        self.keeps_logits = self.replay.memory.logits is not None
        self.t = 0
        self.learned: int | None = None  # samples that have passed on to be learned
        self.slots: list[np.ndarray] = []  # of this turn's new samples, -1 for all others
        self.answers: list[np.ndarray] = []  # to this turn's samples

    def run_spk(self) -> None:
        """Let this time step's samples pass, or fill its gaps; take in the answers to earlier ones."""
        learning = bool(self.learning[0])
        if self.schedule.forward(0, self.t) is not None:
            self._pass_on(learning)
        if self.keeps_logits and self.schedule.forward(self.schedule.layers, self.t) is not None:
            self.answers.append(self.z_in.recv())
        self.t = (self.t + 1) % self.schedule.steps(learning)
        if self.t == 0 and self.keeps_logits:
            self._keep_answers(learning)

    def _pass_on(self, learning: bool) -> None:
        images, labels = self.a_in.recv(), self.y_in.recv()
        former = np.full(self.f_out.shape, LOGIT.min, np.int32)
        if learning:
            images = self._fill(images, labels, former)
        self.a_out.send(self.input_codes[images])
        self.y_out.send(labels)
        if self.replay.memory.tells:
            self.f_out.send(former)

    def _fill(self, images: np.ndarray, labels: np.ndarray, former: np.ndarray) -> np.ndarray:
        memory, replay = self._memory(), self.replay
        if self.learned is None:
            self.learned = (1 + replay.recalled) * memory.seen
        is_new = (self.learned + np.arange(len(labels))) % replay.period < replay.step
        if memory.came is not None:
            former[is_new] = np.where(memory.spare(labels[is_new]), LOGIT.min + 1, LOGIT.min)
        slots = memory.fill(images, labels, replay.step, self.learned, replay.recalled)
        if memory.logits is not None:
            former[~is_new] = memory.logits[slots[~is_new]]
            self.slots.append(np.where(is_new, slots, -1))
        images = self.replay.augment(images.astype(np.uint8), self.learned)
        self.seen = np.array([memory.seen])
        self.learned += len(labels)
        return images

    def _keep_answers(self, learning: bool) -> None:
        """Keep the logits of new samples, once the samples recalled behind them are learned."""
        if not learning:
            self.answers = []
        elif self.learned is not None and self.learned % self.replay.period == 0:
            self._memory().keep_logits(np.concatenate(self.slots), np.concatenate(self.answers))
            self.slots, self.answers = [], []

    def _memory(self) -> Reservoir:
        held = {name: getattr(self, name) for name in self.replay.memory.arrays}
        return self.replay.memory.holding(held, int(self.seen[0]))
