"""Model of ForwardSynapses."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from processes.forward_synapses.process import ForwardSynapses
from processes.synapses import PySynapsesModelFixed
from wage_neuro import neurocore


@implements(proc=ForwardSynapses, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyForwardSynapsesModelFixed(PySynapsesModelFixed):
    """Receives and sends in the same time step."""

    z_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    g_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def _forward(self) -> None:
        Z = neurocore.sums(self.layer, self._visible(), self._receive())
        self.z_out.send(self._fit("z_out", Z))

    def _backward(self) -> None:
        self.g_out.send(np.array([self._meet()]))
