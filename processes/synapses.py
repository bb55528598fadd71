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

from processes.part import InLayer, LearningPart, PyLearningPartModelFixed
from processes.ports import DirectIn
from wage_neuro import layers, neurocore
from wage_neuro.kernels.layerwise import NativeSynapses
from wage_neuro.layers import Draw


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

    def __init__(self, part: str, told: InLayer, S: np.ndarray, step: int) -> None:
        super().__init__(part, told, step)
        layer = told.layer
        self.a_in = InPort(shape=(1, *layer.in_shape))
        self.y_in = InPort(shape=(1, *layer.z_shape))
        self.m_in = InPort(shape=(1,))
        self.S = Var(shape=S.shape, init=S)


class PySynapsesModelFixed(PyLearningPartModelFixed):
    """Pre factor meets post factor in the spiking phase; the weights change in the learning phase."""

    a_in: PyInPort = LavaPyType(DirectIn, np.int16)
    y_in: PyInPort = LavaPyType(DirectIn, np.int32)
    m_in: PyInPort = LavaPyType(DirectIn, np.int32)
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
        self.native: NativeSynapses | None = None
        proven = all(limit.proven for limit in self.limits.values())
        if proven and proc_params["kernels"] != "numpy" and NativeSynapses.can(self.layer, self.rules):
            self.native = NativeSynapses(self.layer, self.rules, self.seed, proc_params["signed_in"])

    def _stored(self) -> np.ndarray:
        """S in the layout of the layer's weights."""
        return self.S

    def _store(self, S: np.ndarray) -> None:
        self.S = S

    def fetch(self) -> None:
        """Bring the stored weights up to date."""
        if self.native:
            self._store(self.native.get())

    def on_var_update(self) -> None:
        """Go on from what has been set."""
        self.V = None
        if self.native:
            self.native.put(self._stored())

    def _visible(self) -> np.ndarray:
        self._fetch_if_stale()
        if self.V is None:
            self.V = self._fit("V", layers.visible_weights(self.layer, self._stored()))
        return self.V

    def _receive(self) -> np.ndarray:
        a = self._fit("a_in", self.a_in.recv())
        if self.learning[0]:
            self.in_flight.append(a)
        return a

    def _sums(self, a: np.ndarray) -> np.ndarray:
        return self.native.sums(a) if self.native else neurocore.sums(self.layer, self._visible(), a)

    def _meet(self) -> tuple[np.ndarray, np.ndarray]:
        """Let the kept pre factor meet the post factor; return both."""
        pre, post, step = self.in_flight.popleft(), self.y_in.recv(), int(self.update_step[0])
        if self.rules.update == "coincidence":
            pre = layers.pre_spikes(self.layer, pre, Draw(self.seed, step, self.rules.generator))
        else:
            m = int(self.m_in.recv()[0])
            self.exponent = None if m == neurocore.UNKNOWN else m
        self.met = True
        if self.native:
            self.back = self.native.meet(pre, post, None if self.frozen[0] else int(self.log2_eta[0]), step)
        elif not self.frozen[0]:
            self.G = self._fit("G", neurocore.gradient(self.layer, pre, post))
        return pre, post

    def lrn_guard(self) -> bool:
        """Learn when a sample's factors have met."""
        return self.met

    def run_lrn(self) -> None:
        """Update the weights from their own gradients, unless they are frozen."""
        if not self.frozen[0]:
            self._learn_native(self.native) if self.native else self._learn()
        self.update_step = self.update_step + 1
        self.G, self.met = None, False

    def _learn_native(self, synapses: NativeSynapses) -> None:
        before = synapses.get() if self._counts_error() else None
        synapses.update(self.exponent, int(self.update_step[0]))
        self.V, self.stale = None, True
        if before is not None:
            self._learned(before, synapses.get())

    def _learn(self) -> None:
        assert self.G is not None
        before, step = self._stored(), int(self.update_step[0])
        eta, rules = int(self.log2_eta[0]), self.rules
        S = layers.update(self.layer, before, self.G, layers.Move(self.exponent, eta, self.seed, step), rules)
        if S is not before:
            self._learned(before, S)
            self._store(self._fit("S", S))
            self.V = None

    def _learned(self, before: np.ndarray, after: np.ndarray) -> None:
        """See what an update changes."""
