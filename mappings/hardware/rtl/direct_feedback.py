"""DirectFeedback: the last layer's error comes to a hidden layer at once, through fixed ternary weights."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from mappings.hardware.rtl.neurons import index_bits
from mappings.hardware.rtl.shape import LayerShape
from mappings.hardware.rtl.synapses import trit


class DirectFeedback(Component):
    """Sums of B^T e for the neurons of a hidden layer: the classes of a word, then its lanes in turn.

    Ports
    -----
    clear : the next error code is the first of a sample
    e_valid, e : error codes of the last layer, in order
    start : begin; d_valid, d : error sums in the order of the neurons
    write, address, data : the host loads the weights, `lanes` of a class a word
    """

    def __init__(self, shape: LayerShape) -> None:
        self.shape = shape
        super().__init__(
            {
                "clear": In(1),
                "e_valid": In(1),
                "e": In(signed(shape.e_bits)),
                "start": In(1),
                "d_valid": Out(1),
                "d": Out(signed(shape.d_bits)),
                "write": In(1),
                "address": In(index_bits(shape.feedback_words)),
                "data": In(2 * shape.lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m, shape = Module(), self.shape
        m.submodules.B = weights = Memory(shape=2 * shape.lanes, depth=shape.feedback_words, init=[])
        m.submodules.errors = errors = Memory(shape=signed(shape.e_bits), depth=shape.classes, init=[])
        b_read, b_write = weights.read_port(), weights.write_port()
        e_read, e_write = errors.read_port(), errors.write_port()
        came = Signal(index_bits(shape.classes))
        with m.If(self.clear):
            m.d.sync += came.eq(0)
        with m.Elif(self.e_valid):
            m.d.sync += came.eq(came + 1)
        place, word, lane = (
            Signal.like(came),
            Signal(index_bits(shape.words_a_row)),
            Signal(range(shape.lanes)),
        )
        at = Signal(index_bits(shape.feedback_words))  # of class `place` and this word
        m.d.comb += [
            b_write.en.eq(self.write),
            b_write.addr.eq(self.address),
            b_write.data.eq(self.data),
            e_write.en.eq(self.e_valid),
            e_write.addr.eq(came),
            e_write.data.eq(self.e),
            b_read.addr.eq(at),
            e_read.addr.eq(place),
        ]
        sums = [Signal(signed(shape.d_bits), name=f"sum{i}") for i in range(shape.lanes)]
        adds, final = Signal(), Signal()
        with m.If(adds):
            for i, total in enumerate(sums):
                plus, minus = trit(b_read.data.word_select(i, 2))
                m.d.sync += total.eq(total + Mux(plus, e_read.data, Mux(minus, -e_read.data, 0)))
        m.d.sync += [adds.eq(0), final.eq(0)]
        m.d.comb += self.d.eq(sums[0])
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += word.eq(0)
                with m.If(self.start):
                    m.next = "WORD"
            with m.State("WORD"):
                m.d.sync += [*(total.eq(0) for total in sums), place.eq(0), at.eq(word), lane.eq(0)]
                m.next = "ADD"
            with m.State("ADD"):
                m.d.sync += [adds.eq(1), place.eq(place + 1), at.eq(at + shape.words_a_row)]
                with m.If(place == shape.classes - 1):
                    m.d.sync += final.eq(1)
                    m.next = "LAST"
            with m.State("LAST"):
                with m.If(final):
                    m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.d_valid.eq(1)
                m.d.sync += [lane.eq(lane + 1), *(a.eq(b) for a, b in pairwise(sums))]
                with m.If(lane == shape.lanes - 1):
                    m.d.sync += word.eq(word + 1)
                    m.next = "WORD"
                    with m.If(word == shape.words_a_row - 1):
                        m.next = "IDLE"
        return m
