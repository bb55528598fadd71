"""Axons: keeps the spikes that arrive at a layer, and walks over its synapses for them, a word a cycle.

A walk is a stream of tokens, one a word of the weight memory. Forward goes over the spikes once for each word
of a row, so that a word's lanes are the sums of as many neurons. Learning goes over the rows: all of them
where the error is sent on through them, else those with a spike.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.data import StructLayout
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from mappings.hardware.rtl.neurons import index_bits
from mappings.hardware.rtl.shape import LayerShape

TOKENS = 16
"""Tokens that wait for random bits while the walk goes on."""
LANES_A_BLOCK = 16  # random numbers in a block


def token_layout(shape: LayerShape) -> StructLayout:
    """One word's visit.

    address, word : of the weights; of the neurons, within the row
    a : activation code of the row's spike, 0 if there is none
    first, last : of a sum: forward over the spikes, learning over the row; end : of the walk
    draws : its synapses may move, by random bits; fresh : of a new block
    lane : of the block, where the axon itself draws
    """
    return StructLayout(
        {
            "address": index_bits(shape.words),
            "word": index_bits(shape.words_a_row),
            "a": signed(shape.a_bits),
            "first": 1,
            "last": 1,
            "end": 1,
            "draws": 1,
            "fresh": 1,
            "lane": 4,
        }
    )


class Axons(Component):
    """Spike memory of one layer, and its walks.

    Ports
    -----
    spike_valid, spike_index, spike : an input code other than 0; clear : forget all
    a_peak : largest magnitude of the spikes
    start_forward, start_learning : begin a walk; updates : whether synapses learn in it
    start_draw, of coincidence : a walk over the words of one row, whose neurons draw their spikes
    any_word, any : whether a word's neurons have an error
    token, token_valid, token_take : the stream
    request, block, ready : of the random bits
    empty : the walk that was just started has no token
    """

    def __init__(self, shape: LayerShape) -> None:
        self.shape = shape
        super().__init__(
            {
                "spike_valid": In(1),
                "spike_index": In(index_bits(shape.n_in)),
                "spike": In(signed(shape.a_bits)),
                "clear": In(1),
                "a_peak": Out(shape.a_bits - 1),
                "start_forward": In(1),
                "start_learning": In(1),
                "start_draw": In(1),
                "updates": In(1),
                "any_word": Out(index_bits(shape.words_a_row)),
                "any": In(1),
                "token": Out(token_layout(shape)),
                "token_valid": Out(1),
                "token_take": In(1),
                "request": Out(1),
                "block": Out(32),
                "ready": In(1),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m, shape = Module(), self.shape
        count = Signal(range(shape.n_in + 1))
        place, following = Signal(range(shape.n_in + 1)), Signal(range(shape.n_in + 1))
        index, a = self._spikes(m, count, following)
        m.d.sync += place.eq(following)
        m.d.comb += following.eq(place)
        step = Signal()  # the walk goes on
        row, word = Signal(index_bits(shape.n_in)), Signal(index_bits(shape.words_a_row))
        # what this place of the walk is, for the next stage
        valid, first, last, end, met = (Signal(name=n) for n in ("valid", "first", "last", "end", "met"))
        at = Signal(index_bits(shape.n_in))
        last_word = word == shape.words_a_row - 1
        forward, draw = Signal(), Signal()
        m.d.comb += [at.eq(index), met.eq(1)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [row.eq(0), word.eq(0)]
                m.d.comb += following.eq(0)
                with m.If(self.start_forward):
                    m.next = "FORWARD"
                if shape.coincidence:
                    with m.If(self.start_draw):
                        m.next = "DRAW"
                with m.If(self.start_learning):
                    if shape.sends_error:
                        m.next = "ROWS"
                    else:
                        m.d.comb += self.empty.eq(count == 0)
                        with m.If(count != 0):
                            m.next = "SPIKES"
            with m.State("FORWARD"):
                # without a spike, one token of 0 makes the sums 0
                last_place = place + 1 >= count
                m.d.comb += [
                    forward.eq(1),
                    valid.eq(1),
                    met.eq(count != 0),
                    first.eq(place == 0),
                    last.eq(last_place),
                    end.eq(last_place & last_word),
                ]
                with m.If(step):
                    m.d.comb += following.eq(Mux(last_place, 0, place + 1))
                    with m.If(last_place):
                        m.d.sync += word.eq(word + 1)
                    with m.If(end):
                        m.next = "IDLE"
            if shape.coincidence:
                with m.State("DRAW"):
                    m.d.comb += [draw.eq(1), valid.eq(1), at.eq(0), end.eq(last_word)]
                    with m.If(step):
                        m.d.sync += word.eq(word + 1)
                        with m.If(end):
                            m.next = "IDLE"
            self._learning(
                m, count, place, following, index, row, word, at, step, valid, first, last, end, met
            )
        self._send(m, step, valid, at, a, word, first, last, end, met, forward, draw)
        return m

    def _learning(
        self, m, count, place, following, index, row, word, at, step, valid, first, last, end, met
    ) -> None:
        shape = self.shape
        last_word = word == shape.words_a_row - 1
        m_next_word = Mux(last_word, 0, word + 1)
        if shape.sends_error:
            with m.State("ROWS"):
                # the spikes lie in the order of the rows
                m.d.comb += [
                    valid.eq(1),
                    at.eq(row),
                    met.eq((place < count) & (index == row)),
                    first.eq(word == 0),
                    last.eq(last_word),
                    end.eq(last_word & (row == shape.n_in - 1)),
                ]
                with m.If(step):
                    m.d.sync += word.eq(m_next_word)
                    with m.If(last_word):
                        m.d.comb += following.eq(place + met)
                        m.d.sync += row.eq(row + 1)
                    with m.If(end):
                        m.next = "IDLE"
        else:
            with m.State("SPIKES"):
                m.d.comb += [
                    valid.eq(1),
                    first.eq(word == 0),
                    last.eq(last_word),
                    end.eq(last_word & (place + 1 == count)),
                ]
                with m.If(step):
                    m.d.sync += word.eq(m_next_word)
                    with m.If(last_word):
                        m.d.comb += following.eq(place + 1)
                    with m.If(end):
                        m.next = "IDLE"

    def _spikes(self, m: Module, count: Signal, following: Signal) -> tuple[Value, Value]:
        """Spike memory; returns index and code of the spike whose turn it is."""
        shape, bits = self.shape, index_bits(self.shape.n_in)
        m.submodules.spikes = spikes = Memory(shape=bits + shape.a_bits, depth=shape.n_in, init=[])
        write, read = spikes.write_port(), spikes.read_port()
        magnitude = abs(self.spike)
        m.d.comb += [
            write.en.eq(self.spike_valid),
            write.addr.eq(count),
            write.data.eq(Cat(self.spike_index, self.spike)),
            read.addr.eq(following),
        ]
        with m.If(self.clear):
            m.d.sync += [count.eq(0), self.a_peak.eq(0)]
        with m.Elif(self.spike_valid):
            m.d.sync += count.eq(count + 1)
            with m.If(magnitude > self.a_peak):
                m.d.sync += self.a_peak.eq(magnitude)
        return read.data[:bits], read.data[bits:].as_signed()

    def _send(self, m, step, valid, at, a, word, first, last, end, met, forward, draw) -> None:
        """Two stages: keep what the walk is at; make its address, ask for random bits, queue the token."""
        shape = self.shape
        layout = token_layout(shape)
        m.submodules.queue = queue = SyncFIFO(width=layout.size, depth=TOKENS)
        kept_valid, kept_met, kept_forward, kept_draw = (
            Signal(name=n) for n in ("kept_valid", "kept_met", "kept_forward", "kept_draw")
        )
        kept_at, kept, token = Signal.like(at), Signal(layout), Signal(layout)
        m.d.comb += step.eq(queue.w_rdy & self.ready)
        with m.If(step):
            m.d.sync += [
                kept_valid.eq(valid),
                kept_met.eq(met),
                kept_forward.eq(forward),
                kept_draw.eq(draw),
                kept_at.eq(at),
                kept.word.eq(word),
                kept.a.eq(Mux(met, a, 0)),
                kept.first.eq(first),
                kept.last.eq(last),
                kept.end.eq(end),
            ]
        m.d.comb += [
            token.eq(kept),
            token.address.eq(times(kept_at, shape.words_a_row) + kept.word),
            self.any_word.eq(kept.word),
        ]
        block = Signal(32)
        if shape.coincidence:
            neuron = kept.word * shape.lanes
            m.d.comb += [
                block.eq(Mux(kept_draw, neuron, kept_at) >> 4),
                token.lane.eq(Mux(kept_draw, neuron, kept_at)),
            ]
        else:
            first_synapse = Cat(Const(0, shape.lanes.bit_length() - 1), token.address)
            m.d.comb += [
                block.eq(first_synapse >> 4),
                token.lane.eq(first_synapse),
            ]
        drawn, has_drawn = Signal(32), Signal()
        m.d.comb += [
            token.draws.eq(kept_met & self.updates & self.any & ~kept_forward),
            token.fresh.eq(token.draws & ~(has_drawn & (drawn == block))),
            self.block.eq(block),
            self.request.eq(step & kept_valid & token.fresh),
            queue.w_en.eq(step & kept_valid),
            queue.w_data.eq(token),
            self.token.eq(queue.r_data),
            self.token_valid.eq(queue.r_rdy),
            queue.r_en.eq(self.token_take),
        ]
        with m.If(self.start_learning | self.start_draw):
            m.d.sync += has_drawn.eq(0)
        with m.Elif(self.request):
            m.d.sync += [has_drawn.eq(1), drawn.eq(block)]


def times(x: Value, factor: int) -> Value:
    """x * factor from shifts, as multipliers are few."""
    return sum((x << i for i in range(factor.bit_length()) if factor >> i & 1), start=Const(0, 1))
