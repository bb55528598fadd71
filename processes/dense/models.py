"""Behavioural model of WageDense."""

from __future__ import annotations

from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from processes.dense.process import WageDense
from processes.layer_process import PyWageLayerModelFixed


@implements(proc=WageDense, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyWageDenseModelFixed(PyWageLayerModelFixed):
    """Bit-identical to `wage_neuro.train.train_step`."""
