"""Synapses: the stored weights of a layer in one memory, read forward and transposed, and learning there.

What `processes.forward_synapses` and `processes.transposed_synapses` hold in two copies is held once.
"""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Member, Out

from mappings.hardware.rtl.axons import LANES_A_BLOCK, token_layout
from mappings.hardware.rtl.neurons import index_bits
from mappings.hardware.rtl.shape import ETA_BITS, EXPONENT_BITS, LayerShape

WHOLE = 1 << 16
"""A step that is certain, in units of its probability."""


def trit(bits: Value) -> tuple[Value, Value]:
    """Whether two bits of a fixed weight mean +1, and whether -1."""
    return bits == 1, bits == 3


def host_ports(shape: LayerShape) -> dict[str, Member]:
    """Where the host reads and writes a word of the weight memory; read one cycle later."""
    word = shape.lanes * shape.s_bits
    return {
        "host": In(1),
        "host_address": In(index_bits(shape.words)),
        "host_read": Out(word),
        "host_write": In(1),
        "host_data": In(word),
    }


class Synapses(Component):
    """Stages of a word's visit: 1 address, 2 memory, 3 word, 4 product, 5 quotient, 6 new word.

    Ports
    -----
    token, token_valid, token_take : the walk of the axons
    forward, draw : kind of the walk, steady
    z_valid, z_last, z : forward sums, one neuron a cycle
    word, codes : error codes of a word's neurons, one cycle later
    d_valid, d : sums V^T e of the rows
    log2_eta, exponent : step size, and the exponent of the gradients that was held
    available, grant, take, bits : random bits
    end : the last word of the walk has been done
    host_address, host_read, host_write, host_data : the host's way to the memory while no walk goes on;
        it reads two cycles later
    feedback_write, feedback_address, feedback_data : and to the fixed feedback weights, if there are any
    """

    def __init__(self, shape: LayerShape) -> None:
        self.shape = shape
        super().__init__(
            {
                "token": In(token_layout(shape)),
                "token_valid": In(1),
                "token_take": Out(1),
                "forward": In(1),
                "draw": In(1),
                "z_valid": Out(1),
                "z_last": Out(1),
                "z": Out(signed(shape.z_bits)),
                "word": Out(index_bits(shape.words_a_row)),
                "codes": In(shape.lanes * shape.e_bits),
                "d_valid": Out(1),
                "d": Out(signed(shape.back_bits)),
                "log2_eta": In(signed(ETA_BITS)),
                "exponent": In(signed(EXPONENT_BITS)),
                "available": In(1),
                "grant": Out(1),
                "take": Out(1),
                "bits": In(256),
                "end": Out(1),
                **host_ports(shape),
                "feedback_write": In(1),
                "feedback_address": In(index_bits(shape.words)),
                "feedback_data": In(2 * shape.lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m, shape = Module(), self.shape
        layout = token_layout(shape)
        m.submodules.S = memory = Memory(shape=shape.lanes * shape.s_bits, depth=shape.words, init=[])
        read, write = memory.read_port(), memory.write_port()
        gap = Signal(range(shape.lanes + 1))  # cycles until the sums of the word before have left
        self._grant(m, gap)
        valid = Signal(6)
        at = [Signal(layout, name=f"at{stage}") for stage in range(1, 7)]
        m.d.sync += valid.eq(Cat(self.token_take, valid))
        for stage, before in zip(at, [self.token, *at], strict=False):
            m.d.sync += stage.eq(before)
        m.d.comb += [
            read.addr.eq(Mux(self.host, self.host_address, at[0].address)),
            self.word.eq(at[0].word),
            self.end.eq(valid[5] & at[5].end),
        ]
        S, codes = Signal(shape.lanes * shape.s_bits), Signal(shape.lanes * shape.e_bits)
        m.d.sync += [S.eq(read.data), codes.eq(self.codes)]
        m.d.comb += self.host_read.eq(S)
        lanes_S = [S.word_select(i, shape.s_bits).as_signed() for i in range(shape.lanes)]
        lanes_e = [codes.word_select(i, shape.e_bits).as_signed() for i in range(shape.lanes)]
        V = [(s > shape.half, s < -shape.half) for s in lanes_S]
        self._sums(m, V, valid[2], at[2])
        if shape.sends_error:
            self._error_sums(m, self._fixed(m, at) or V, lanes_e, valid, at)
        new = self._update(m, S, lanes_e, valid, at)
        m.d.comb += [
            write.en.eq(self.host_write | (valid[5] & at[5].draws & ~self.draw)),
            write.addr.eq(Mux(self.host, self.host_address, at[5].address)),
            write.data.eq(Mux(self.host, self.host_data, new)),
        ]
        return m

    def _grant(self, m: Module, gap: Signal) -> None:
        """A token goes on when its random bits are there, and its sums have a place."""
        blocked = (self.token.fresh & ~self.available) | (self.forward & self.token.last & (gap != 0))
        m.d.comb += [
            self.token_take.eq(self.token_valid & ~blocked),
            self.grant.eq(self.token_take & self.token.fresh),
        ]
        with m.If(self.token_take & self.forward & self.token.last):
            m.d.sync += gap.eq(self.shape.lanes - 1)
        with m.Elif(gap != 0):
            m.d.sync += gap.eq(gap - 1)

    def _sums(self, m: Module, V: list[tuple[Value, Value]], valid: Value, token: Signal) -> None:
        """Forward: a sum a lane; those of a word leave one after another while the next ones grow."""
        shape = self.shape
        sums = [Signal(signed(shape.z_bits), name=f"sum{i}") for i in range(shape.lanes)]
        leaving = [Signal(signed(shape.z_bits), name=f"leaving{i}") for i in range(shape.lanes)]
        full, final = Signal(), Signal()
        with m.If(valid & self.forward):
            for total, (plus, minus) in zip(sums, V, strict=True):
                term = Mux(plus, token.a, Mux(minus, -token.a, 0))
                m.d.sync += total.eq(Mux(token.first, 0, total) + term)
        m.d.sync += [full.eq(valid & self.forward & token.last), final.eq(token.end)]
        left, is_final = Signal(range(shape.lanes + 1)), Signal()
        with m.If(full):
            m.d.sync += [*(x.eq(y) for x, y in zip(leaving, sums, strict=True)), left.eq(shape.lanes)]
            m.d.sync += is_final.eq(final)
        with m.Elif(left != 0):
            m.d.sync += [*(x.eq(y) for x, y in pairwise(leaving)), left.eq(left - 1)]
        m.d.comb += [
            self.z_valid.eq(left != 0),
            self.z_last.eq(is_final & (left == 1)),
            self.z.eq(leaving[0]),
        ]

    def _fixed(self, m: Module, at: list[Signal]) -> list[tuple[Value, Value]]:
        """Fixed feedback weights of the word in stage 3; none where the error takes the visible ones."""
        if not self.shape.feedback_words:
            return []
        lanes = self.shape.lanes
        m.submodules.B = memory = Memory(shape=2 * lanes, depth=self.shape.words, init=[])
        read, write = memory.read_port(), memory.write_port()
        B = Signal(2 * lanes)
        m.d.sync += B.eq(read.data)
        m.d.comb += [
            read.addr.eq(at[0].address),
            write.en.eq(self.feedback_write),
            write.addr.eq(self.feedback_address),
            write.data.eq(self.feedback_data),
        ]
        return [trit(B.word_select(i, 2)) for i in range(lanes)]

    def _error_sums(
        self, m: Module, V: list[tuple[Value, Value]], e: list[Value], valid: Signal, at: list[Signal]
    ) -> None:
        """Transposed: the lanes of a word add up, and the words of a row."""
        shape = self.shape
        part, total = Signal(signed(shape.back_bits)), Signal(signed(shape.back_bits))
        m.d.sync += part.eq(
            sum(Mux(plus, x, Mux(minus, -x, 0)) for (plus, minus), x in zip(V, e, strict=True))
        )
        now = Signal(signed(shape.back_bits))
        m.d.comb += now.eq(Mux(at[3].first, 0, total) + part)
        learning = valid[3] & ~self.forward & ~self.draw
        with m.If(learning):
            m.d.sync += total.eq(now)
        m.d.sync += [self.d_valid.eq(learning & at[3].last), self.d.eq(now)]

    def _update(self, m: Module, S: Signal, e: list[Value], valid: Signal, at: list[Signal]) -> Signal:
        """S of a word in stage 6, from that of stage 3."""
        shape = self.shape
        m.d.comb += self.take.eq(valid[3] & at[3].fresh)
        r = Array(self.bits.word_select(i, 16 * shape.lanes) for i in range(LANES_A_BLOCK // shape.lanes))[
            at[4].lane >> (shape.lanes.bit_length() - 1)
        ]
        lanes_r = [r.word_select(i, 16) for i in range(shape.lanes)]
        hits = (self._meetings if shape.coincidence else self._rounded)(m, e, lanes_r, valid, at)
        S4, S5, new = (Signal.like(S, name=name) for name in ("S4", "S5", "new"))
        m.d.sync += [S4.eq(S), S5.eq(S4)]
        for i, (hit, up) in enumerate(hits):
            moved = Signal(signed(shape.s_bits + 1), name=f"moved{i}")
            m.d.comb += moved.eq(S5.word_select(i, shape.s_bits).as_signed() + Mux(hit, Mux(up, 1, -1), 0))
            high, low = moved > shape.bound, moved < -shape.bound
            m.d.sync += new.word_select(i, shape.s_bits).eq(
                Mux(high, shape.bound, Mux(low, -shape.bound, moved))
            )
        return new

    def _rounded(
        self, m: Module, e: list[Value], r: list[Value], valid: Signal, at: list[Signal]
    ) -> list[tuple[Value, Value]]:
        """Whether each synapse of the word in stage 5 steps, and whether up: it does where
        floor(abs(a e) 2**(16 + log2_eta - exponent)) + r reaches 2**16."""
        shape = self.shape
        a_top, e_top = shape.layer.bits.activation_max, shape.layer.bits.error_max
        left, right = shifts(m, 16 + self.log2_eta - self.exponent)
        # more than certain is certain, and saves multiplier width
        magnitude, scaled, factor = Signal(range(a_top + 1)), Signal(range((a_top << 16) + 1)), Signal(17)
        m.d.sync += [magnitude.eq(abs(at[0].a)), factor.eq(Mux(scaled > WHOLE, WHOLE, scaled))]
        m.d.comb += scaled.eq(magnitude << left)
        hits = []
        for i, code in enumerate(e):
            size = Signal(range(e_top + 1), name=f"size{i}")  # of what `code` will be
            product = Signal(range(e_top * WHOLE + 1), name=f"product{i}")
            quotient, up = Signal(range(WHOLE + 1), name=f"quotient{i}"), Signal(2, name=f"up{i}")
            small = product[: (a_top * e_top).bit_length()]  # all there is, where it is shifted right
            shifted = Mux(right != 0, small >> right, product)
            m.d.sync += [
                size.eq(abs(self.codes.word_select(i, shape.e_bits).as_signed())),
                product.eq(size * factor),
                quotient.eq(Mux(shifted > WHOLE, WHOLE, shifted)),
                up.eq(Cat((code < 0) ^ (at[2].a < 0), up)),
            ]
            hits.append((at[4].draws & (quotient + r[i] >= WHOLE), up[1]))
        return hits

    def _meetings(
        self, m: Module, e: list[Value], r: list[Value], valid: Signal, at: list[Signal]
    ) -> list[tuple[Value, Value]]:
        """Coincidence: neurons draw their spikes in a walk of their own, axons in the walk of learning."""
        shape, bits = self.shape, self.shape.layer.bits
        m.submodules.post = post = Memory(shape=2 * shape.lanes, depth=shape.words_a_row, init=[])
        read, write = post.read_port(), post.write_port()
        left, right = shifts(m, 17 + self.log2_eta - bits.k_E)
        drawn = Signal(2 * shape.lanes)
        for i, code in enumerate(e):
            size, negative = (
                Signal(range(bits.error_max + 1), name=f"size{i}"),
                Signal(2, name=f"negative{i}"),
            )
            threshold = Signal(range(WHOLE + 1), name=f"threshold{i}")
            raised = (size + ((1 << right) - 1)[:16]) >> right
            scaled = size << left
            m.d.sync += [
                size.eq(abs(code)),
                negative.eq(Cat(code < 0, negative)),
                threshold.eq(Mux(right != 0, raised, Mux(scaled > WHOLE, WHOLE, scaled))),
                drawn.word_select(i, 2).eq(Cat(at[4].draws & (r[i] < threshold), negative[1])),
            ]
        m.d.comb += [
            write.en.eq(valid[5] & self.draw),
            write.addr.eq(at[5].word),
            write.data.eq(drawn),
            read.addr.eq(at[0].word),
        ]
        spikes = [Signal(2 * shape.lanes, name=f"post{stage}") for stage in (3, 4, 5)]
        for stage, before in zip(spikes, [read.data, *spikes], strict=False):
            m.d.sync += stage.eq(before)
        pre = Signal()
        own = self.bits.word_select(at[4].lane, 16)
        m.d.comb += pre.eq(at[4].draws & (own < (abs(at[4].a) << (17 - bits.k_A))))
        pairs = [spikes[-1].word_select(i, 2) for i in range(shape.lanes)]
        return [(pre & pair[0], pair[1] ^ (at[4].a < 0)) for pair in pairs]


def shifts(m: Module, shift: Value) -> tuple[Signal, Signal]:
    """Bits to shift left, no more than make a 1 certain, or else right."""
    left, right = Signal(range(17)), Signal(6)
    m.d.sync += [
        left.eq(Mux(shift < 0, 0, Mux(shift > 16, 16, shift))),
        right.eq(Mux(shift < 0, -shift, 0)),
    ]
    return left, right
