"""OutputError: keeps the logits and makes the error of the loss, as `processes.readout` does."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from mappings.hardware.rtl.neurons import index_bits
from mappings.hardware.rtl.shape import LayerShape
from wage_neuro.rules import MARGIN_UNITS


class OutputError(Component):
    """Sum of squared errors, or one-sided; a sample with its margin has no error at all.

    Ports
    -----
    z_valid, z_last, z : logits in the order of the classes; label : of that sample, steady
    start : send the error; d_valid, d : one class a cycle, in order; sent_label : of that sample
    advance, fills : pipelined, a time step begins, and logits will come in it; the error that is sent is that
        of the logits before
    logit_index, logit : read by the host, one cycle later, while nothing is sent
    """

    def __init__(self, shape: LayerShape) -> None:
        self.shape = shape
        super().__init__(
            {
                "z_valid": In(1),
                "z_last": In(1),
                "z": In(signed(shape.z_bits)),
                "label": In(index_bits(shape.n_out)),
                "start": In(1),
                "sent_label": In(index_bits(shape.n_out)),
                "advance": In(1),
                "fills": In(1),
                "d_valid": Out(1),
                "d": Out(signed(shape.d_bits)),
                "logit_index": In(index_bits(shape.n_out)),
                "logit": Out(signed(shape.z_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m, shape = Module(), self.shape
        layer, last = shape.layer, shape.n_out - 1
        place = Signal(index_bits(shape.n_out))
        slot, former = (Signal(int(shape.rules.pipelined), name=name) for name in ("slot", "former"))
        depth = 2 << len(place) if shape.rules.pipelined else shape.n_out
        m.submodules.logits = logits = Memory(shape=signed(shape.z_bits), depth=depth, init=[])
        write, read = logits.write_port(), logits.read_port()
        m.d.comb += [
            write.en.eq(self.z_valid),
            write.addr.eq(Cat(place, slot)),
            write.data.eq(self.z),
        ]
        with m.If(self.advance):
            m.d.sync += [slot.eq(slot + self.fills), former.eq(slot)]
        with m.If(self.z_valid):
            m.d.sync += place.eq(Mux(self.z_last, 0, place + 1))
        skip = self._has_margin(m, place)
        busy, sent, here = Signal(), Signal.like(place), Signal.like(place)
        m.d.comb += [
            read.addr.eq(Mux(busy, Cat(sent, former), Cat(self.logit_index, slot))),
            self.logit.eq(read.data),
        ]
        arrived = Signal()
        with m.If(self.start):
            m.d.sync += [busy.eq(1), sent.eq(0)]
        with m.Elif(busy):
            m.d.sync += [busy.eq(sent != last), sent.eq(sent + 1)]
        m.d.sync += [arrived.eq(busy), here.eq(sent), self.d_valid.eq(arrived)]
        error, right = Signal(signed(shape.d_bits)), Signal()
        m.d.comb += [right.eq(here == self.sent_label), error.eq(read.data - Mux(right, layer.target, 0))]
        past = right == (error > 0)  # its target
        silent = skip | past if shape.rules.loss == "one-sided" else skip
        m.d.sync += self.d.eq(Mux(silent, 0, error))
        return m

    def _has_margin(self, m: Module, place: Signal) -> Signal:
        """Whether the right output leads all others by the margin; known two cycles after the last logit."""
        shape, skip = self.shape, Signal()
        if not shape.rules.margin:
            return skip
        right, best = Signal(signed(shape.z_bits)), Signal(signed(shape.z_bits))
        seen = Signal()  # another output than the right one
        with m.If(self.z_valid):
            with m.If(place == self.label):
                m.d.sync += right.eq(self.z)
            with m.Elif(~seen | (place == 0) | (self.z > best)):
                m.d.sync += best.eq(self.z)
            m.d.sync += seen.eq(((place != 0) & seen) | (place != self.label))
        lead = right - best if shape.n_out > 1 else right
        leads = Signal()
        m.d.sync += leads.eq(lead * MARGIN_UNITS >= shape.rules.margin * shape.layer.target)
        if shape.rules.pipelined:
            with m.If(self.advance):
                m.d.sync += skip.eq(leads)
        else:
            m.d.comb += skip.eq(leads)
        return skip
