"""Behavioural model of WageConv."""

from __future__ import annotations

from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from processes.conv.process import WageConv
from processes.layer_process import PyWageLayerModelFixed


@implements(proc=WageConv, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyWageConvModelFixed(PyWageLayerModelFixed):
    """Bit-identical to `wage_neuro.train.train_step`."""
