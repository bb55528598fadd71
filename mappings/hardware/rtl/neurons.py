"""Neurons: what `processes.neurons` computes, one a cycle: activations going up, errors going down."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from mappings.hardware.rtl.shape import EXPONENT_BITS, LayerShape


def index_bits(n: int) -> int:
    """Bits of a number below n, at least one."""
    return max(1, (n - 1).bit_length())


class Activation(Component):
    """ReLU and Q_A: a = saturate(RNE(z, z_shift)), 0 where z <= 0; one cycle later.

    Ports
    -----
    z_valid, z_last, z : sums of the synapses in the order of the neurons
    a_valid, a_last, a, index : activation codes, zeros too
    active, saturated : masks of the same neuron for the way down
    """

    def __init__(self, shape: LayerShape) -> None:
        self.shape = shape
        super().__init__(
            {
                "z_valid": In(1),
                "z_last": In(1),
                "z": In(signed(shape.z_bits)),
                "a_valid": Out(1),
                "a_last": Out(1),
                "a": Out(shape.a_bits - 1),
                "index": Out(index_bits(shape.outputs)),
                "active": Out(1),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m, z, shift = Module(), self.z, self.shape.layer.z_shift
        top = self.shape.layer.bits.activation_max
        place = Signal(index_bits(self.shape.outputs))
        with m.If(self.z_valid):
            m.d.sync += place.eq(Mux(self.z_last, 0, place + 1))
        rounded = Signal(range(self.shape.layer.z_bound + 1))
        tie_or_more, above_tie = z[shift - 1], z[: shift - 1].any() | z[shift]
        m.d.comb += rounded.eq(z[shift:] + (tie_or_more & above_tie))
        m.d.sync += [
            self.a_valid.eq(self.z_valid),
            self.a_last.eq(self.z_valid & self.z_last),
            self.index.eq(place),
            self.active.eq(z > 0),
            self.saturated.eq(z > (top << shift)),
            self.a.eq(Mux(z <= 0, 0, Mux(rounded > top, top, rounded))),
        ]
        return m


class ErrorCode(Component):
    """Q_E: e = saturate(RNE(d * 2**(k_E-1), exponent)), 0 while the exponent is unknown; three cycles later.

    Ports
    -----
    d : error sum; exponent : held by the tracker, steady
    magnitude : abs(d), one cycle later
    e : code
    """

    CYCLES = 3

    def __init__(self, shape: LayerShape) -> None:
        self.shape = shape
        super().__init__(
            {
                "d": In(signed(shape.d_bits)),
                "exponent": In(signed(EXPONENT_BITS)),
                "magnitude": Out(shape.d_bits - 1),
                "e": Out(signed(shape.e_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        k, top = self.shape.e_bits, self.shape.layer.bits.error_max
        width = self.shape.d_bits - 1 + k - 1
        known, m_, negative = Signal(), Signal(EXPONENT_BITS - 1), Signal(3)
        m.d.comb += [known.eq(self.exponent >= 0), m_.eq(self.exponent)]
        m.d.sync += [self.magnitude.eq(abs(self.d)), negative.eq(Cat(self.d < 0, negative))]
        # one bit more below, for what decides the rounding
        wide, below = Signal(width + 1), Signal(width + 1)
        m.d.comb += [wide.eq(self.magnitude << k), below.eq((1 << m_) - 1)]
        shifted, sticky = Signal(width + 1), Signal()
        m.d.sync += [shifted.eq(wide >> m_), sticky.eq((wide & below).any())]
        rounded = Signal(width + 1)
        m.d.comb += rounded.eq(shifted[1:] + (shifted[0] & (sticky | shifted[1])))
        code = Signal(k - 1)
        m.d.comb += code.eq(Mux(rounded > top, top, rounded))
        m.d.sync += self.e.eq(Mux(known, Mux(negative[1], -code, code), 0))
        return m


class ErrorNeurons(Component):
    """Masks, Q_E and the largest magnitudes of a sample; keeps the codes as the synapses read them.

    Ports
    -----
    active, saturated, mask_index, mask_write : masks from the way up; not of the last layer
    masked, leave : pipelined, a sample's masks are all there; its error has been used
    clear : forget the peaks of the sample before
    d_valid, d : error sums in the order of the neurons
    exponent : held by the tracker
    done : all codes are kept; d_peak, e_peak : of what was left after the masks
    e_valid, e : the codes in the order of the neurons
    word, codes : reads a word of codes, one cycle later
    any_word, any : whether a word has a code other than 0, in the same cycle
    """

    def __init__(self, shape: LayerShape) -> None:
        self.shape = shape
        super().__init__(
            {
                "mask_write": In(1),
                "mask_index": In(index_bits(shape.outputs)),
                "active": In(1),
                "saturated": In(1),
                "masked": In(1),
                "leave": In(1),
                "clear": In(1),
                "d_valid": In(1),
                "d": In(signed(shape.d_bits)),
                "exponent": In(signed(EXPONENT_BITS)),
                "done": Out(1),
                "d_peak": Out(shape.d_bits - 1),
                "e_peak": Out(shape.e_bits - 1),
                "e_valid": Out(1),
                "e": Out(signed(shape.e_bits)),
                "word": In(index_bits(shape.error_words)),
                "codes": Out(shape.lanes * shape.e_bits),
                "any_word": In(index_bits(shape.error_words)),
                "any": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m, shape = Module(), self.shape
        place = Signal(index_bits(shape.outputs))
        following = Signal.like(place)
        m.d.comb += following.eq(Mux(self.d_valid, Mux(place == shape.outputs - 1, 0, place + 1), place))
        m.d.sync += place.eq(following)
        active, saturated = self._masks(m, following)
        m.submodules.code = code = ErrorCode(shape)
        m.d.comb += [code.d.eq(Mux(saturated, 0, self.d)), code.exponent.eq(self.exponent)]
        # what goes with a value through the stages of ErrorCode
        valid, last, live = (Signal(ErrorCode.CYCLES, name=name) for name in ("valid", "last", "live"))
        m.d.sync += [
            valid.eq(Cat(self.d_valid, valid)),
            last.eq(Cat(self.d_valid & (place == shape.outputs - 1), last)),
            live.eq(Cat(active, live)),
        ]
        e = self.e
        m.d.comb += [e.eq(Mux(live[-1], code.e, 0)), self.e_valid.eq(valid[-1])]
        with m.If(self.clear):
            m.d.sync += [self.d_peak.eq(0), self.e_peak.eq(0)]
        with m.Else():
            with m.If(valid[0] & (code.magnitude > self.d_peak)):
                m.d.sync += self.d_peak.eq(code.magnitude)
            with m.If(valid[-1] & (abs(e) > self.e_peak)):
                m.d.sync += self.e_peak.eq(abs(e))
        m.d.sync += self.done.eq(valid[-1] & last[-1])
        self._keep(m, valid[-1], e)
        return m

    def _masks(self, m: Module, following: Signal) -> tuple[Value, Value]:
        """Masks of the neuron whose error is next; the last layer has none."""
        if self.shape.layer.is_last:
            return Signal(init=1, name="always"), Signal(name="never")
        came, used = Signal(self.shape.slot_bits), Signal(self.shape.slot_bits)
        m.d.sync += [came.eq(came + self.masked), used.eq(used + self.leave)]
        depth = 1 << len(following) + self.shape.slot_bits if self.shape.slot_bits else self.shape.outputs
        m.submodules.masks = masks = Memory(shape=2, depth=depth, init=[])
        write, read = masks.write_port(), masks.read_port()
        m.d.comb += [
            write.en.eq(self.mask_write),
            write.addr.eq(Cat(self.mask_index, came)),
            write.data.eq(Cat(self.active, self.saturated)),
            read.addr.eq(Cat(following, used)),
        ]
        return read.data[0], read.data[1]

    def _keep(self, m: Module, valid: Value, e: Signal) -> None:
        """Gather `lanes` codes to a word."""
        shape = self.shape
        lanes, k = shape.lanes, shape.e_bits
        m.submodules.kept = kept = Memory(shape=lanes * k, depth=shape.error_words, init=[])
        m.submodules.anything = anything = Memory(shape=1, depth=shape.error_words, init=[])
        write, read = kept.write_port(), kept.read_port()
        any_write, any_read = anything.write_port(), anything.read_port(domain="comb")
        lane, word = Signal(range(lanes)), Signal(index_bits(shape.error_words))
        before, gathered = Signal(lanes * k), Signal(lanes * k)
        m.d.comb += gathered.eq(Cat(before[k:], e))
        full = Signal()
        m.d.comb += full.eq(valid & (lane == lanes - 1))
        with m.If(valid):
            m.d.sync += [before.eq(gathered), lane.eq(Mux(full, 0, lane + 1))]
        with m.If(full):
            m.d.sync += word.eq(Mux(word == shape.error_words - 1, 0, word + 1))
        m.d.comb += [
            write.en.eq(full),
            write.addr.eq(word),
            write.data.eq(gathered),
            any_write.en.eq(full),
            any_write.addr.eq(word),
            any_write.data.eq(gathered.any()),
            read.addr.eq(self.word),
            self.codes.eq(read.data),
            any_read.addr.eq(self.any_word),
            self.any.eq(any_read.data),
        ]
