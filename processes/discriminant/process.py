"""DiscriminantReadOut: sums features of the layers below and solves the sums for a linear read-out."""

from __future__ import annotations

from typing import ClassVar

from processes.held_readout import HeldReadOut


class DiscriminantReadOut(HeldReadOut):
    """Holds `wage_neuro.discriminant.Discriminant`, whose counts are those of classes."""

    vars_of: ClassVar = {"products": "products", "sums": "sums", "counts": "class_counts"}
