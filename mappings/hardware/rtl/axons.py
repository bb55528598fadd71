"""Axons: keeps the spikes that arrive at a layer, and walks over its synapses for them, a word a cycle.

A walk is a stream of tokens, one a word of the weight memory. Forward goes over the spikes once for each word
of a row, so that a word's lanes are the sums of as many neurons. Learning goes over the rows: all of them
where the error is sent on through them, else those with a spike.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.data import StructLayout
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from mappings.hardware.rtl.neurons import index_bits
from mappings.hardware.rtl.shape import LayerShape

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

    Parameters
    ----------
    tokens : that may wait for random bits while the walk goes on

    Ports
    -----
    spike_valid, spike_index, spike : an input code other than 0; clear : forget all
    advance, leave : pipelined, the sample that arrived goes up in this time step; the oldest one is done with
    a_peak : largest magnitude of the spikes of the sample that is learned
    start_forward, start_learning : begin a walk; updates : whether synapses learn in it
    start_draw, of coincidence : a walk over the words of one row, whose neurons draw their spikes
    any_word, any : whether a word's neurons have an error
    token, token_valid, token_take : the stream
    request, block, ready : of the random bits
    empty : the walk that was just started has no token
    """

    def __init__(self, shape: LayerShape, tokens: int = 16) -> None:
        self.shape, self.tokens = shape, tokens
        super().__init__(
            {
                "spike_valid": In(1),
                "spike_index": In(index_bits(shape.n_in)),
                "spike": In(signed(shape.a_bits)),
                "clear": In(1),
                "advance": In(1),
                "leave": In(1),
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
        self.place, self.following = (Signal(range(shape.n_in + 1), name=n) for n in ("place", "following"))
        self.slot = Signal(shape.slot_bits)
        count, index, a = self._spikes(m)
        m.d.sync += self.place.eq(self.following)
        m.d.comb += self.following.eq(self.place)
        walk = _Walk(shape)
        m.d.comb += [walk.at.eq(index), walk.met.eq(1)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [walk.row.eq(0), walk.word.eq(0)]
                m.d.comb += self.following.eq(0)
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
                self._forward(m, walk, count)
            if shape.coincidence:
                with m.State("DRAW"):
                    m.d.comb += [walk.draw.eq(1), walk.at.eq(0), walk.end.eq(walk.is_last_word)]
                    self._goes_on(m, walk)
            with m.State("ROWS" if shape.sends_error else "SPIKES"):
                self._learn(m, walk, count, index)
        self._send(m, walk, a)
        return m

    def _forward(self, m: Module, walk: _Walk, count: Value) -> None:
        """Word after word of a row, each over all spikes; without any, one token of 0 makes sums of 0."""
        last = self.place + 1 >= count
        m.d.comb += [
            walk.forward.eq(1),
            walk.met.eq(count != 0),
            walk.first.eq(self.place == 0),
            walk.last.eq(last),
            walk.end.eq(last & walk.is_last_word),
        ]
        with m.If(walk.step):
            m.d.comb += self.following.eq(Mux(last, 0, self.place + 1))
        self._goes_on(m, walk, last)

    def _learn(self, m: Module, walk: _Walk, count: Value, index: Value) -> None:
        """Row after row: all of them, and the spikes lie in their order; or those that have a spike."""
        every = self.shape.sends_error
        final = walk.row == self.shape.n_in - 1 if every else self.place + 1 == count
        m.d.comb += [
            walk.first.eq(walk.word == 0),
            walk.last.eq(walk.is_last_word),
            walk.end.eq(walk.is_last_word & final),
        ]
        if every:
            m.d.comb += [walk.at.eq(walk.row), walk.met.eq((self.place < count) & (index == walk.row))]
        with m.If(walk.step & walk.is_last_word):
            m.d.comb += self.following.eq(self.place + walk.met)
            m.d.sync += walk.row.eq(walk.row + 1)
        self._goes_on(m, walk)

    def _goes_on(self, m: Module, walk: _Walk, to_next_word: Value | int = 1) -> None:
        m.d.comb += walk.valid.eq(1)
        with m.If(walk.step):
            with m.If(to_next_word):
                m.d.sync += walk.word.eq(Mux(walk.is_last_word, 0, walk.word + 1))
            with m.If(walk.end):
                m.next = "IDLE"

    def _spikes(self, m: Module) -> tuple[Value, Value, Value]:
        """Spike memory; returns the spikes of the walk, and index and code of the one whose turn it is."""
        shape, bits = self.shape, index_bits(self.shape.n_in)
        slots = 1 << shape.slot_bits
        counts = [Signal(range(shape.n_in + 1), name=f"count{i}") for i in range(slots)]
        peaks = [Signal(shape.a_bits - 1, name=f"peak{i}") for i in range(slots)]
        arriving, going, leaving = (Signal(shape.slot_bits, name=n) for n in ("arriving", "going", "leaving"))
        forward = Signal()  # from the start of a walk on, until another one starts
        with m.If(self.start_forward | self.start_learning | self.start_draw):
            m.d.sync += forward.eq(self.start_forward)
        up = self.start_forward | (forward & ~self.start_learning & ~self.start_draw)
        m.d.comb += self.slot.eq(Mux(up, going, leaving))
        depth = 1 << bits + shape.slot_bits if shape.slot_bits else shape.n_in
        m.submodules.spikes = spikes = Memory(shape=bits + shape.a_bits, depth=depth, init=[])
        write, read = spikes.write_port(), spikes.read_port()
        count, peak = pick(counts, arriving), pick(peaks, arriving)
        m.d.comb += [
            write.en.eq(self.spike_valid),
            write.addr.eq(Cat(count[:bits], arriving)),
            write.data.eq(Cat(self.spike_index, self.spike)),
            read.addr.eq(Cat(self.following[:bits], self.slot)),
            self.a_peak.eq(pick(peaks, leaving)),
        ]
        magnitude = abs(self.spike)
        following = arriving + 1
        with m.If(self.clear):
            m.d.sync += [count.eq(0), peak.eq(0)]
        with m.Elif(self.advance):
            m.d.sync += [going.eq(arriving), arriving.eq(following)]
            if slots > 1:
                fresh = following[: shape.slot_bits]
                m.d.sync += [pick(counts, fresh).eq(0), pick(peaks, fresh).eq(0)]
        with m.Elif(self.spike_valid):
            m.d.sync += count.eq(count + 1)
            with m.If(magnitude > peak):
                m.d.sync += peak.eq(magnitude)
        m.d.sync += leaving.eq(leaving + self.leave)
        return pick(counts, self.slot), read.data[:bits], read.data[bits:].as_signed()

    def _send(self, m: Module, walk: _Walk, a: Value) -> None:
        """Two stages: keep what the walk is at; make its address, ask for random bits, queue the token."""
        shape = self.shape
        layout = token_layout(shape)
        m.submodules.queue = queue = SyncFIFO(width=layout.size, depth=self.tokens)
        kept, token = Signal(layout), Signal(layout)
        kept_at = Signal.like(walk.at)
        flags = [walk.valid, walk.met, walk.forward, walk.draw]
        valid, met, forward, draw = kept_flags = [Signal(name=f"kept_{flag.name}") for flag in flags]
        m.d.comb += walk.step.eq(queue.w_rdy & self.ready)
        with m.If(walk.step):
            m.d.sync += [
                *(x.eq(y) for x, y in zip(kept_flags, flags, strict=True)),
                kept_at.eq(walk.at),
                kept.word.eq(walk.word),
                kept.a.eq(Mux(walk.met, a, 0)),
                kept.first.eq(walk.first),
                kept.last.eq(walk.last),
                kept.end.eq(walk.end),
            ]
        m.d.comb += [
            token.eq(kept),
            token.address.eq(times(kept_at, shape.words_a_row) + kept.word),
            self.any_word.eq(kept.word),
        ]
        if shape.coincidence:
            number = Mux(draw, kept.word * shape.lanes, kept_at)  # of the neuron or the axon that draws
        else:
            number = Cat(Const(0, shape.lanes.bit_length() - 1), token.address)  # of the first synapse
        block, drawn, has_drawn = Signal(32), Signal(32), Signal()
        m.d.comb += [
            block.eq(number >> 4),
            token.lane.eq(number),
            token.draws.eq(met & self.updates & self.any & ~forward),
            token.fresh.eq(token.draws & ~(has_drawn & (drawn == block))),
            self.block.eq(block),
            self.request.eq(walk.step & valid & token.fresh),
            queue.w_en.eq(walk.step & valid),
            queue.w_data.eq(token),
            self.token.eq(queue.r_data),
            self.token_valid.eq(queue.r_rdy),
            queue.r_en.eq(self.token_take),
        ]
        with m.If(self.start_learning | self.start_draw):
            m.d.sync += has_drawn.eq(0)
        with m.Elif(self.request):
            m.d.sync += [has_drawn.eq(1), drawn.eq(block)]


class _Walk:
    """Where a walk is: number of the spike or row, word within the row; and what they are to their sums."""

    def __init__(self, shape: LayerShape) -> None:
        self.row, self.at = (Signal(index_bits(shape.n_in), name=name) for name in ("row", "at"))
        self.word = Signal(index_bits(shape.words_a_row))
        self.is_last_word = self.word == shape.words_a_row - 1
        self.step = Signal()  # it goes on
        self.valid, self.met, self.forward, self.draw = (
            Signal(name=name) for name in ("valid", "met", "forward", "draw")
        )
        self.first, self.last, self.end = (Signal(name=name) for name in ("first", "last", "end"))


def pick(signals: list[Signal], number: Value) -> Value:
    """One of some signals by its number."""
    return Array(signals)[number] if len(signals) > 1 else signals[0]


def times(x: Value, factor: int) -> Value:
    """x * factor from shifts, as multipliers are few."""
    return sum((x << i for i in range(factor.bit_length()) if factor >> i & 1), start=Const(0, 1))
