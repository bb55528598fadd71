"""Structural model of WageConv."""

from __future__ import annotations

from lava.magma.core.decorator import implements, tag

from processes.conv.process import WageConv
from processes.structure import StructuralLayerModel


@implements(proc=WageConv)
@tag("structural")
class SubWageConvModel(StructuralLayerModel):
    """Bit-identical to `PyWageConvModelFixed`: tests/agreement/test_structural.py."""
