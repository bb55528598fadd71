"""Structural model of WageDense."""

from __future__ import annotations

from lava.magma.core.decorator import implements, tag

from processes.dense.process import WageDense
from processes.structure import StructuralLayerModel


@implements(proc=WageDense)
@tag("structural")
class SubWageDenseModel(StructuralLayerModel):
    """Bit-identical to `PyWageDenseModelFixed`: tests/agreement/test_structural.py."""
