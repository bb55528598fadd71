"""LinkedCores: a row of cores with links between neighbours, and the host's bus to all of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from amaranth.hdl import Const, Module
from amaranth.lib.wiring import Component, connect

from mappings.hardware.rtl.core import BUS, NeuroCore
from mappings.hardware.rtl.shape import LayerShape


def cores_of(parts: Sequence[tuple[LayerShape, ...]], multipliers: int = 1) -> NeuroCore | LinkedCores:
    """Return the core of all layers, or the row of them."""
    return NeuroCore(parts[0], multipliers) if len(parts) == 1 else LinkedCores(parts, multipliers)


class LinkedCores(Component):
    """The layers of a network on several cores: to its host one core, as no layer's address is there twice.

    What is written goes to all, as each has its own random bits; a sample enters the first, and starts the
    next ones over the links.

    Parameters
    ----------
    parts : layers of each core, see `chain`

    Ports
    -----
    As of NeuroCore.
    """

    def __init__(self, parts: Sequence[tuple[LayerShape, ...]], multipliers: int = 1) -> None:
        self.cores = [NeuroCore(part, multipliers) for part in parts]
        super().__init__(BUS)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        answer, busy = Const(0), Const(0)
        for i, core in enumerate(self.cores):
            m.submodules[f"core{i}"] = core
            m.d.comb += [
                getattr(core, name).eq(getattr(self, name))
                for name in ("write", "write_address", "write_data", "read_address")
            ]
            answer, busy = answer | core.answer, busy | core.busy
        m.d.comb += self.busy.eq(busy)
        m.d.sync += self.read_data.eq(answer)
        for below, above in pairwise(self.cores):
            connect(m, below.to_above, above.from_below)
            connect(m, above.to_below, below.from_above)
        return m
