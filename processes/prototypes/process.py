"""PrototypeReadOut: keeps features of the layers below as prototypes and answers with the nearest one."""

from __future__ import annotations

from typing import ClassVar

from processes.held_readout import HeldReadOut


class PrototypeReadOut(HeldReadOut):
    """Holds `wage_neuro.prototypes.Prototypes`."""

    vars_of: ClassVar = {name: name for name in ("codes", "labels", "wins", "born")}
