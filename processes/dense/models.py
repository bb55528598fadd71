"""Behavioural model of WageDense."""

from __future__ import annotations

from processes.dense.process import WageDense
from processes.layer_process import PyWageLayerModelFixed
from processes.marks import model_of


@model_of(WageDense)
class PyWageDenseModelFixed(PyWageLayerModelFixed):
    """Bit-identical to `wage_neuro.train.train_step`."""
