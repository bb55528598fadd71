"""Behavioural model of WageConv."""

from __future__ import annotations

from processes.conv.process import WageConv
from processes.layer_process import PyWageLayerModelFixed
from processes.marks import model_of


@model_of(WageConv)
class PyWageConvModelFixed(PyWageLayerModelFixed):
    """Bit-identical to `wage_neuro.train.train_step`."""
