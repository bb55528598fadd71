"""NeuroCore: the layers of a network, the random bits they share, and the host's bus."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import Component, In, Out

from mappings.hardware.rtl.convolution import ConvCore
from mappings.hardware.rtl.layer import LayerCore
from mappings.hardware.rtl.links import LINK, Outbox
from mappings.hardware.rtl.loss import OutputError
from mappings.hardware.rtl.neurons import index_bits
from mappings.hardware.rtl.random_bits import RandomBits
from mappings.hardware.rtl.registers import (
    IDENTITY_WORD,
    WORD,
    Core,
    LayerRegister,
    Region,
    pieces,
)
from mappings.hardware.rtl.shape import EXPONENT_BITS, LayerShape

LOSS_CYCLES = 3
"""From the last logit until the margin is known."""


BUS = {
    "write": In(1),
    "write_address": In(WORD),
    "write_data": In(WORD),
    "read_address": In(WORD),
    "read_data": Out(WORD),
    "busy": Out(1),
}
"""Ports of the host."""


class NeuroCore(Component):
    """Learns one sample at a time: strictly, each leaves before the next one enters; or pipelined, where a
    sample that is started is a time step.

    Parameters
    ----------
    shapes : of all layers of a network; or of some that follow each other, with links to the cores of the
        others (strictly)

    Ports
    -----
    write, write_address, write_data : the host writes a word, in any cycle while `busy` is 0
    read_address, read_data : and reads one, READ_CYCLES later
    busy : a sample is under way
    from_below, to_below : links to the core below, of a core that has not the first layer: spikes come, then
        the word that starts a sample; errors go
    to_above, from_above : and to the core above, of one that has not the last layer
    """

    def __init__(self, shapes: tuple[LayerShape, ...], multipliers: int = 1) -> None:
        self.shapes = shapes
        self.random_bits = RandomBits(multipliers, shapes[0].rules.generator)
        self.layers = [
            ConvCore(shape) if shape.kernel else LayerCore(shape, 2 * self.random_bits.depth)
            for shape in shapes
        ]
        self.is_first, self.is_last = shapes[0].index == 0, shapes[-1].layer.is_last
        self.answer = Signal(WORD)  # a cycle before it is read; 0 where it is not this core's
        below = {} if self.is_first else {"from_below": In(LINK), "to_below": Out(LINK)}
        above = {} if self.is_last else {"to_above": Out(LINK), "from_above": In(LINK)}
        super().__init__({**BUS, **below, **above})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for i, layer in enumerate(self.layers):
            m.submodules[f"layer{i}"] = layer
        loss = None
        if self.is_last:
            m.submodules.loss = loss = OutputError(self.shapes[-1])
        m.submodules.random_bits = self.random_bits
        self._stack(m, loss)
        turn = Signal(index_bits(len(self.layers)))
        self._share_random_bits(m, turn)
        bus = _Bus(m, self)
        sequence = self._pipeline if self.shapes[0].rules.pipelined else self._strict
        sequence(m, bus, loss, turn)
        bus.connect(loss)
        return m

    def _stack(self, m: Module, loss: OutputError | None) -> None:
        """Activations go up from layer to layer, errors down."""
        for below, above in pairwise(self.layers):
            m.d.comb += [
                above.spike_valid.eq(below.a_valid),
                above.spike_index.eq(below.a_index),
                above.spike.eq(below.a),
                below.d_valid.eq(above.back_valid),
                below.d.eq(above.back),
            ]
        last = self.layers[-1]
        for layer in self.layers[:-1]:
            m.d.comb += [layer.direct_valid.eq(last.e_valid), layer.direct.eq(last.e)]
        if loss is None:
            return
        m.d.comb += [
            loss.z_valid.eq(last.z_valid),
            loss.z_last.eq(last.z_last),
            loss.z.eq(last.z),
            last.d_valid.eq(loss.d_valid),
            last.d.eq(loss.d),
        ]

    def _share_random_bits(self, m: Module, turn: Signal) -> None:
        """One layer learns at a time."""
        source = self.random_bits
        m.d.comb += source.layer.eq(turn + self.shapes[0].index)
        for i, layer in enumerate(self.layers):
            m.d.comb += [
                layer.ready.eq(source.ready),
                layer.available.eq(source.available),
                layer.bits.eq(source.bits),
            ]
            with m.If(turn == i):
                m.d.comb += [
                    getattr(source, name).eq(getattr(layer, name))
                    for name in ("request", "block", "purpose", "grant", "take")
                ]

    def _strict(self, m: Module, bus: _Bus, loss: OutputError | None, turn: Signal) -> None:
        """A sample goes up and its error down, layer by layer; without a loss it comes over a link."""
        first, last = self.layers[0], self.layers[-1]
        for below, above in pairwise(self.layers):
            m.d.sync += [above.start.eq(below.answered), below.start_direct.eq(above.learned)]
        if loss is not None:
            m.d.comb += [loss.label.eq(bus.label), loss.sent_label.eq(bus.label)]
        wait = Signal(range(LOSS_CYCLES + 1))
        over = Signal()
        quiet = Cat(layer.quiet for layer in self.layers).any()
        m.d.comb += over.eq(first.learned | quiet)
        up, down = self._boxes(m)
        for i, layer in enumerate(self.layers):
            with m.If(layer.learned):
                m.d.sync += turn.eq(max(0, i - 1))
        m.d.comb += [layer.turn.eq(turn == i) for i, layer in enumerate(self.layers)]
        waits = Cat(box.waits for box in (up, down) if box is not None).any()
        m.d.comb += self.busy.eq(1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [bus.idle.eq(~bus.start), self.busy.eq(bus.wanted | bus.start | waits)]
                m.d.sync += turn.eq(len(self.layers) - 1)
                with m.If(bus.start):
                    m.d.comb += first.start.eq(1)
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.sync += wait.eq(LOSS_CYCLES)
                with m.If(last.answered):
                    m.next = "ANSWERED"
            with m.State("ANSWERED"):
                m.next = "END"
                with m.If(bus.learns):
                    m.next = "LOSS"
                if up is not None:
                    m.d.comb += [up.ends.eq(1), up.word.eq(bus.sample)]
            with m.State("LOSS"):
                if loss is None:
                    self._hear(m)
                else:
                    m.d.sync += wait.eq(wait - 1)
                    with m.If(wait == 0):
                        m.d.comb += loss.start.eq(1)
                        m.next = "LEARN"
            with m.State("LEARN"):
                with m.If(over):
                    m.d.comb += bus.count_step.eq(1)
                    m.next = "END"
                if down is not None:
                    m.d.comb += down.ends.eq(quiet)
            with m.State("NO ERROR"):
                m.d.comb += bus.count_step.eq(1)
                if down is not None:
                    m.d.comb += down.ends.eq(1)
                m.next = "END"
            with m.State("END"):
                m.d.comb += [layer.clear.eq(1) for layer in self.layers]
                m.next = "CLEAR"
            with m.State("CLEAR"):
                with m.If(~Cat(layer.clearing for layer in self.layers).any()):
                    m.next = "IDLE"

    def _boxes(self, m: Module) -> tuple[Outbox | None, Outbox | None]:
        """What waits to go to the core above, and to the core below: room for all that a sample sends."""
        first, last = self.layers[0], self.layers[-1]
        up = down = None
        if not self.is_last:
            up = Outbox(m, "up", self.to_above, last.shape.outputs + 1)
            with m.If(last.a_valid):
                spike = Cat(last.a, Const(0, 16 - len(last.a)), last.a_index)
                m.d.comb += [up.valid.eq(1), up.word.eq(spike)]
        if not self.is_first:
            down = Outbox(m, "down", self.to_below, first.shape.inputs + 1)
            with m.If(first.back_valid):
                m.d.comb += [down.valid.eq(1), down.word.eq(first.back)]
        return up, down

    def _hear(self, m: Module) -> None:
        """Wait for the error values of the last layer; or for word that there are none."""
        last, heard = self.layers[-1], Signal(range(self.shapes[-1].outputs))
        link = self.from_above
        m.d.comb += [
            link.ready.eq(1),
            last.d_valid.eq(link.valid & ~link.payload.ends),
            last.d.eq(link.payload.word),
        ]
        with m.If(last.d_valid):
            m.d.sync += heard.eq(heard + 1)
            with m.If(heard == self.shapes[-1].outputs - 1):
                m.d.sync += heard.eq(0)
                m.next = "LEARN"
        with m.Elif(link.valid):
            m.next = "NO ERROR"

    def _pipeline(self, m: Module, bus: _Bus, loss: OutputError | None, turn: Signal) -> None:
        """A time step of `wage_neuro.train`: what has arrived goes up, then down, then the loss speaks.

        Layers go one after another, the lowest first, so that no message is met in the step it is sent in.
        """
        assert loss is not None, "the pipeline is of one core"
        L = len(self.layers)
        # bit k: of the sample that entered k time steps ago
        present, learns = Signal(2 * L + 1), Signal(2 * L + 1)
        labels = [Signal(16, name=f"label{k}") for k in range(L + 1)]
        with m.If(bus.start):
            m.d.sync += [
                present.eq(Cat(bus.enters, present)),
                learns.eq(Cat(bus.enters & bus.learns, learns)),
                *(a.eq(b) for a, b in zip(labels, [bus.label, *labels], strict=False)),
            ]
        m.d.comb += [loss.label.eq(labels[L - 1]), loss.sent_label.eq(labels[L])]
        for i in range(L):  # samples that this layer learns before the lowest one does
            with m.If(turn == i):
                m.d.comb += bus.ahead.eq(sum(learns[k] for k in range(2 * L - i + 1, 2 * L + 1)))
        m.d.comb += self.busy.eq(1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(bus.wanted | bus.start)
                with m.If(bus.start):
                    m.next = "ADVANCE"
            with m.State("ADVANCE"):
                m.d.comb += [layer.advance.eq(present[i]) for i, layer in enumerate(self.layers)]
                m.d.comb += [loss.advance.eq(1), loss.fills.eq(present[L - 1])]
                m.next = "FORWARD0"
            for i, layer in enumerate(self.layers):
                after = f"FORWARD{i + 1}" if i < L - 1 else "DOWN0"
                with m.State(f"FORWARD{i}"):
                    m.d.comb += layer.start.eq(present[i])
                    m.next = f"ANSWER{i}"
                    with m.If(~present[i]):
                        m.next = after
                with m.State(f"ANSWER{i}"):
                    with m.If(layer.answered):
                        m.next = after
            for i, layer in enumerate(self.layers):
                after = f"DOWN{i + 1}" if i < L - 1 else "LOSS"
                with m.State(f"DOWN{i}"):
                    m.d.comb += [
                        layer.learn.eq(learns[2 * L - i]),
                        layer.skip.eq(present[2 * L - i] & ~learns[2 * L - i]),
                    ]
                    m.d.sync += turn.eq(i)
                    m.next = f"LEARN{i}"
                    with m.If(~learns[2 * L - i]):
                        m.next = after
                with m.State(f"LEARN{i}"):
                    with m.If(layer.learned | layer.quiet):
                        m.next = after
            with m.State("LOSS"):
                m.d.comb += loss.start.eq(learns[L])
                m.next = "SPEAK"
                with m.If(~learns[L]):
                    m.next = "END"
            with m.State("SPEAK"):
                with m.If(self.layers[-1].heard):
                    m.next = "END"
            with m.State("END"):
                m.d.comb += bus.count_step.eq(learns[2 * L])
                m.next = "IDLE"


class _Bus:
    """Registers of the host, and its way into the layers."""

    def __init__(self, m: Module, core: NeuroCore) -> None:
        self.m, self.core = m, core
        self.wanted, self.start, self.count_step = Signal(), Signal(), Signal()
        self.learns, self.enters = Signal(), Signal()
        self.idle = Signal()  # no sample is under way
        self.ahead = Signal(8)
        self.sample = Signal(WORD)  # as it was started
        self.label = self.sample[16:]
        self.address, self.data, self.valid = Signal(WORD), Signal(WORD), Signal()
        # an address on its way: memories of weights take it first, of logits second, registers last
        self.ways = [Signal(WORD, name=f"way{i}") for i in range(3)]
        self.reading = self.ways[-1]
        m.d.sync += [
            self.valid.eq(core.write),
            self.address.eq(core.write_address),
            self.data.eq(core.write_data),
            *(
                way.eq(before)
                for way, before in zip(self.ways, [core.read_address, *self.ways], strict=False)
            ),
        ]
        self.answers: list[tuple[Value, Value]] = []  # (whether it is asked for, the word)

    def connect(self, loss: OutputError | None) -> None:
        """Decode what is written, and gather what may be read."""
        self._core_registers()
        for layer in self.core.layers:
            self._layer_registers(layer.shape.index, layer)
            self._weights(layer.shape.index, layer)
        m = self.m
        if loss is not None:
            m.d.comb += loss.logit_index.eq(self.ways[1])
            self.answers.append((self.reading[28:] == Region.LOGITS, loss.logit))
        for asked, word in self.answers:
            with m.If(asked):
                m.d.comb += self.core.answer.eq(word)
        m.d.sync += self.core.read_data.eq(self.core.answer)

    def _wrote(self, region: Region, place: int, layer: int = 0) -> Value:
        """Whether a register is written in this cycle."""
        a = self.address
        return self.valid & (a[28:] == region) & (a[24:28] == layer) & (a[:8] == place)

    def _asks(self, region: Region, place: int, layer: int = 0) -> Value:
        a = self.reading
        return (a[28:] == region) & (a[24:28] == layer) & (a[:8] == place)

    def _core_registers(self) -> None:
        m, first, source = self.m, self.core.layers[0], self.core.random_bits
        word, spike = self.data, self._wrote(Region.CORE, Core.SPIKE)
        sample = self._wrote(Region.CORE, Core.SAMPLE)
        if not self.core.is_first:
            link = self.core.from_below
            m.d.comb += link.ready.eq(self.idle)
            word, taken = link.payload.word, link.valid & self.idle
            spike, sample = taken & ~link.payload.ends, taken & link.payload.ends
        m.d.comb += [
            first.spike_valid.eq(spike),
            first.spike.eq(word[:16]),
            first.spike_index.eq(word[16:]),
            self.wanted.eq(sample),
            Cat(self.learns, self.enters).eq(self.sample),
        ]
        m.d.sync += self.start.eq(self.wanted)
        with m.If(self.wanted):
            m.d.sync += self.sample.eq(word)
        seed, step = Signal(64), Signal(64)
        m.d.comb += source.seed.eq(seed)
        m.d.sync += source.step.eq(step + self.ahead)
        with m.If(self.count_step):
            m.d.sync += step.eq(step + 1)
        halves = {
            Core.SEED_LOW: seed[:32],
            Core.SEED_HIGH: seed[32:],
            Core.STEP_LOW: step[:32],
            Core.STEP_HIGH: step[32:],
        }
        for place, half in halves.items():
            with m.If(self._wrote(Region.CORE, place)):
                m.d.sync += half.eq(self.data)
            self.answers.append((self._asks(Region.CORE, place), half))
        self.answers.append((self._asks(Region.CORE, Core.IDENTITY), Signal(WORD, init=IDENTITY_WORD)))
        self.answers.append((self._asks(Region.CORE, Core.STATUS), self.core.busy))

    def _layer_registers(self, i: int, layer: LayerCore) -> None:
        m = self.m
        for place, port in (
            (LayerRegister.LOG2_ETA, layer.log2_eta),
            (LayerRegister.FROZEN, layer.frozen),
            (LayerRegister.HOLD, layer.hold),
        ):
            kept = Signal.like(port, name=f"layer{i}_{place.name.lower()}")
            m.d.comb += port.eq(kept)
            with m.If(self._wrote(Region.LAYER, place, i)):
                m.d.sync += kept.eq(self.data)
            self.answers.append((self._asks(Region.LAYER, place, i), kept))
        for tracker, exponent, below in (
            (layer.error_tracker, LayerRegister.ERROR_EXPONENT, LayerRegister.ERROR_BELOW),
            (layer.gradient_tracker, LayerRegister.GRADIENT_EXPONENT, LayerRegister.GRADIENT_BELOW),
        ):
            if tracker is None:
                continue
            given = Signal(EXPONENT_BITS, name=f"layer{i}_given_{exponent.name.lower()}")
            with m.If(self._wrote(Region.LAYER, exponent, i)):
                m.d.sync += given.eq(self.data)
            m.d.comb += [
                tracker.given_exponent.eq(given),
                tracker.given_below.eq(self.data),
                tracker.load.eq(self._wrote(Region.LAYER, below, i)),
            ]
            self.answers.append((self._asks(Region.LAYER, exponent, i), tracker.exponent))
            self.answers.append((self._asks(Region.LAYER, below, i), tracker.below))

    def _weights(self, i: int, layer: LayerCore) -> None:
        """A word of weights is written with its last piece; the pieces before wait."""
        m, word = self.m, Signal.like(layer.host_data, name=f"layer{i}_word")
        count = pieces(len(word))
        low = count.bit_length() - 1
        mine = self.valid & (self.address[24:] == (Region.WEIGHTS << 4 | i))
        for piece in range(-(-len(word) // WORD)):
            here = self.address[:low] == piece if low else 1
            with m.If(mine & here):
                m.d.sync += word[WORD * piece : WORD * (piece + 1)].eq(self.data)
        written = Signal(name=f"layer{i}_written")
        where = Signal.like(layer.host_address, name=f"layer{i}_where")
        last = -(-len(word) // WORD) - 1
        m.d.sync += [
            written.eq(mine & (self.address[:low] == last if low else 1)),
            where.eq(self.address[low:24]),
        ]
        m.d.comb += [
            layer.host.eq(~self.core.busy),
            layer.host_write.eq(written),
            layer.host_address.eq(Mux(written, where, self.ways[0][low:24])),
            layer.host_data.eq(word),
        ]
        m.d.comb += [
            layer.feedback_write.eq(self.valid & (self.address[24:] == (Region.FEEDBACK << 4 | i))),
            layer.feedback_address.eq(self.address),
            layer.feedback_data.eq(self.data),
        ]
        asked = self.reading[24:] == (Region.WEIGHTS << 4 | i)
        read = Signal(count * WORD, name=f"layer{i}_read")
        m.d.comb += read.eq(layer.host_read)
        self.answers.append((asked, read.word_select(self.reading[:low], WORD) if low else read))
