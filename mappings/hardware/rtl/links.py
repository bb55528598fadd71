"""Links: what cores that are neighbours tell each other, a message a cycle at most, when both are ready."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.data import StructLayout
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.stream import Signature
from amaranth.lib.wiring import PureInterface

from mappings.hardware.rtl.registers import WORD

MESSAGE = StructLayout({"word": WORD, "ends": 1})
"""Up: spikes as the host's `SPIKE` has them, then with `ends` the word of `SAMPLE` that starts the sample.
Down: an error value a neuron, in their order; or, in place of all of them, `ends` alone: no error is left."""
LINK = Signature(MESSAGE)
"""Of one direction: valid, ready and a message, as the core has it that sends."""


class Outbox:
    """Messages of a core that wait for their link: neurons cannot wait, so there is room for a whole sample.

    Attributes
    ----------
    valid, word, ends : a message comes in: a value, or the end
    waits : one has not left yet
    """

    def __init__(self, m: Module, name: str, link: PureInterface, room: int) -> None:
        self.valid, self.ends, self.word = Signal(), Signal(), Signal(WORD)
        queue = SyncFIFOBuffered(width=MESSAGE.size, depth=room)
        m.submodules[f"{name}_queue"] = queue
        self.waits = queue.r_rdy
        m.d.comb += [
            queue.w_en.eq(self.valid | self.ends),
            queue.w_data.eq(Cat(self.word, self.ends)),
            link.valid.eq(queue.r_rdy),
            link.payload.eq(queue.r_data),
            queue.r_en.eq(link.ready),
        ]
