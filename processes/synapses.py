"""What forward and transposed synapses have in common: the weights and the local learning."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
from lava.magma.core.model.py.ports import PyInPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.variable import Var

from processes.part import LearningPart, PyLearningPartModelFixed
from wage_neuro import layers, neurocore
from wage_neuro.layers import Layer


class Synapses(LearningPart):
    """Ternary visible weights V, with the stored weight S in the tag; they learn by themselves.

    Ports
    -----
    a_in : (1, *in_shape) activation codes; kept until the post factor of their sample arrives
    y_in : (1, *z_shape) post factor: signed error codes, or signed error spikes (coincidence)
    m_in : (1,) exponent of the gradients held by its tracker; not used by coincidence

    Vars
    ----
    S : stored weights
    """

    def __init__(self, part: str, layer: Layer, S: np.ndarray, step: int, **common: Any) -> None:
        super().__init__(part, layer, step, **common)
        self.a_in = InPort(shape=(1, *layer.in_shape))
        self.y_in = InPort(shape=(1, *layer.z_shape))
        self.m_in = InPort(shape=(1,))
        self.S = Var(shape=S.shape, init=S)


class PySynapsesModelFixed(PyLearningPartModelFixed):
    """Pre factor meets post factor in the spiking phase; the weights change in the learning phase."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int16)
    y_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    m_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    S: np.ndarray = LavaPyType(np.ndarray, np.int16)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        # the layer without its pooling: errors are counted at the places they are sent to
        self.at_z = replace(self.layer, pool=None, out_shape=self.layer.z_shape)
        self.in_flight: deque[np.ndarray] = deque()
        self.V: np.ndarray | None = None
        self.G: np.ndarray | None = None
        self.exponent: int | None = None
        self.met = False

    def _stored(self) -> np.ndarray:
        """S in the layout of the layer's weights."""
        return self.S

    def _store(self, S: np.ndarray) -> None:
        self.S = S

    def _visible(self) -> np.ndarray:
        if self.V is None:
            self.V = self._fit("V", layers.visible_weights(self.layer, self._stored()))
        return self.V

    def _receive(self) -> np.ndarray:
        a = self._fit("a_in", self.a_in.recv())
        if self.learning[0]:
            self.in_flight.append(a)
        return a

    def _meet(self) -> tuple[np.ndarray, np.ndarray]:
        """Let the kept pre factor meet the post factor; return both."""
        pre, post = self.in_flight.popleft(), self.y_in.recv()
        if self.rules.update == "coincidence":
            pre = neurocore.pre_spikes(self.layer, pre, self.seed, int(self.update_step[0]))
        else:
            m = int(self.m_in.recv()[0])
            self.exponent = None if m == neurocore.UNKNOWN else m
        self.met = True
        if not self.frozen[0]:
            self.G = self._fit("G", neurocore.gradient(self.layer, pre, post))
        return pre, post

    def lrn_guard(self) -> bool:
        """Learn when a sample's factors have met."""
        return self.met

    def run_lrn(self) -> None:
        """Update the weights from their own gradients, unless they are frozen."""
        if self.G is not None:
            self._learn(self.G)
        self.update_step = self.update_step + 1
        self.G, self.met = None, False

    def _learn(self, G: np.ndarray) -> None:
        before, step = self._stored(), int(self.update_step[0])
        eta, rules = int(self.log2_eta[0]), self.rules
        S = layers.update(self.layer, before, G, self.exponent, eta, rules, self.seed, step)
        if S is not before:
            self._learned(before, S)
            self._store(self._fit("S", S))
            self.V = None

    def _learned(self, before: np.ndarray, after: np.ndarray) -> None:
        """See what an update changes."""
