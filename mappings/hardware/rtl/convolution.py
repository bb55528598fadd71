"""Convolution: a layer whose kernel is shared, one memory of it, walked for every place.

Forward, window after window, each place of it over its patch. Back, input after input, over the kernel. To
learn, weight after weight over all places: a gradient is whole before the next one begins, so a register a
lane adds it up, and no memory holds gradients.
"""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.data import StructLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from mappings.hardware.rtl.axons import LANES_A_BLOCK, times
from mappings.hardware.rtl.layer import LayerCore
from mappings.hardware.rtl.neurons import ErrorNeurons, index_bits
from mappings.hardware.rtl.shape import ETA_BITS, EXPONENT_BITS, LayerShape
from mappings.hardware.rtl.synapses import WHOLE, host_ports, shifts
from mappings.hardware.rtl.tracker import UNKNOWN
from wage_neuro.random_bits import UPDATE


class Windows(Component):
    """Activations, kernel and winners of one layer, and the walks over them, a word of the kernel a cycle.

    Stages of a visit: 1 place, 2 addresses, 3 memories, 4 words, 5 products, 6 sums.

    Ports
    -----
    spike_valid, spike_index, spike : an input code other than 0; clear : forget all; clearing : not done yet
    start_forward, start_back, start_update : begin a walk; updates : whether the kernel changes in it
    end : the walk is over, of those down
    z_valid, z_last, z : maxima of the windows, one neuron a cycle
    word, codes : error codes of a word's neurons, one cycle later
    d_valid, d : error for the layer below, one input a cycle
    g_peak : largest gradient of the last walk of learning
    log2_eta, exponent, request, block, ready, available, grant, take, bits, host_* : as of Axons and Synapses
    """

    def __init__(self, shape: LayerShape) -> None:
        self.shape = shape
        super().__init__(
            {
                "spike_valid": In(1),
                "spike_index": In(index_bits(shape.inputs)),
                "spike": In(signed(shape.a_bits)),
                "clear": In(1),
                "clearing": Out(1),
                "start_forward": In(1),
                "start_back": In(1),
                "start_update": In(1),
                "updates": In(1),
                "end": Out(1),
                "z_valid": Out(1),
                "z_last": Out(1),
                "z": Out(signed(shape.z_bits)),
                "word": Out(index_bits(shape.error_words)),
                "codes": In(shape.lanes * shape.e_bits),
                "d_valid": Out(1),
                "d": Out(signed(shape.back_bits)),
                "g_peak": Out(shape.g_bits - 1),
                "log2_eta": In(signed(ETA_BITS)),
                "exponent": In(signed(EXPONENT_BITS)),
                "request": Out(1),
                "block": Out(32),
                "ready": In(1),
                "available": In(1),
                "grant": Out(1),
                "take": Out(1),
                "bits": In(256),
                **host_ports(shape),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m, shape = Module(), self.shape
        self.step, self.gap = Signal(), Signal(range(2 * shape.lanes + 16))
        self.forward, self.back, self.learning = (Signal(name=n) for n in ("forward", "back", "learning"))
        now, place = self._walk(m)
        at, valid, a, S, e = self._memories(m, now, place)
        V = [(s > shape.half, s < -shape.half) for s in (w.as_signed() for w in S)]
        self._sums(m, V, a, valid, at)
        down = self._error_sums(m, V, e, valid, at) if shape.sends_error else Const(0)
        learned = self._learn(m, a, S, e, valid, at)
        m.d.comb += self.end.eq(down | learned)
        return m

    # --- where a walk is ---

    def _walk(self, m: Module) -> tuple[dict[str, Value], dict[str, Value]]:
        """What the visit is to its sums; and where in the kernel and in Z it is."""
        shape, steps = self.shape, (self.forward, self.back, self.learning)
        height, width, channels = shape.layer.in_shape
        (rows, columns, _), p = shape.out_shape, shape.log2_pool
        kernel = {"ky": shape.kernel, "kx": shape.kernel, "ci": channels}
        word, window = {"word": shape.words_a_row}, {"qy": 1 << p, "qx": 1 << p}
        up = _Loops(
            m, "up", self.step & self.forward, {"py": rows, "px": columns, **word, **window, **kernel}
        )
        inputs = {"y": height, "x": width, "ci": channels, "ky": shape.kernel, "kx": shape.kernel}
        down = _Loops(m, "down", self.step & self.back, {**inputs, **word})
        places = dict(zip(("oy", "ox"), shape.layer.z_shape, strict=False))
        learn = _Loops(m, "learn", self.step & self.learning, {**kernel, **word, **places})
        last, end = Signal(), Signal()
        top, _, left, _ = shape.layer.padding
        z_place = {
            "oy": [(up["py"] << p) + up["qy"], down["y"] + top - down["ky"], learn["oy"]],
            "ox": [(up["px"] << p) + up["qx"], down["x"] + left - down["kx"], learn["ox"]],
        }
        same = {name: [loops[name] for loops in (up, down, learn)] for name in (*kernel, *word)}
        place = {name: _chosen(steps, values) for name, values in {**same, **z_place}.items()}
        now = {
            "first": _chosen(steps, [up.first("ky"), down.first("ky"), learn.first("oy")]),
            "last": last,
            "end": end,
            "forward": self.forward,
            "back": self.back,
            "learning": self.learning,
            "patch": up.last("ky"),
            "winner": Cat(up["qx"][:p], up["qy"][:p]),
        }
        m.d.comb += [
            last.eq(_chosen(steps, [up.last("qy"), down.last("ky"), learn.last("oy")])),
            end.eq(_chosen(steps, [up.last("py"), down.last("y"), learn.last("ky")])),
        ]
        goes_on = self._draw(m, last)
        stalls = (last & (self.gap != 0)) | (self.learning & ~goes_on)
        m.d.comb += self.step.eq((self.forward | self.back | self.learning) & ~stalls)
        with m.If(self.step & last & ~self.back):
            # one after another the lanes leave; of a gradient until their word is written
            m.d.sync += self.gap.eq(Mux(self.forward, shape.lanes - 1, shape.lanes + 8))
        with m.Elif(self.gap != 0):
            m.d.sync += self.gap.eq(self.gap - 1)
        for running, start in zip(
            steps, (self.start_forward, self.start_back, self.start_update), strict=True
        ):
            with m.If(start):
                m.d.sync += running.eq(1)
            with m.Elif(self.step & end):
                m.d.sync += running.eq(0)
        return now, place

    def _draw(self, m: Module, last: Value) -> Value:
        """Ask for a block of random bits at its first word; returns whether the walk may go on."""
        shape = self.shape
        words_a_block = LANES_A_BLOCK // shape.lanes
        number, waits, here = Signal(index_bits(shape.words)), Signal(), Signal()
        fresh = self.updates & (number[: words_a_block.bit_length() - 1] == 0)
        m.d.comb += [
            self.block.eq(number >> (words_a_block.bit_length() - 1)),
            self.request.eq(self.learning & fresh & ~waits & ~here & self.ready),
            self.grant.eq(waits & self.available),
        ]
        with m.If(self.request):
            m.d.sync += waits.eq(1)
        with m.If(self.grant):
            m.d.sync += [waits.eq(0), here.eq(1)]
        with m.If(self.start_update):
            m.d.sync += [number.eq(0), here.eq(0)]
        with m.Elif(self.learning & self.step & last):
            m.d.sync += [number.eq(number + 1), here.eq(0)]
        return ~fresh | here | (waits & ~last)

    # --- what it finds there ---

    def _memories(
        self, m: Module, now: dict[str, Value], place: dict[str, Value]
    ) -> tuple[list[Signal], Value, Value, list[Value], list[Value]]:
        """Flags of a visit in stages 1 to 6, and in stage 4 its activation, stored weights and errors."""
        shape, p = self.shape, self.shape.log2_pool
        height, width, channels = shape.layer.in_shape
        rows, columns, _ = shape.out_shape
        top, _, left, _ = shape.layer.padding
        layout = StructLayout({name: len(value) for name, value in now.items()})
        at = [Signal(layout, name=f"at{stage}") for stage in range(1, 7)]
        valid = Signal(6)
        m.d.sync += valid.eq(Cat(self.step, valid))
        m.d.sync += [at[0][name].eq(value) for name, value in now.items()]
        m.d.sync += [stage.eq(before) for before, stage in pairwise(at)]
        # stage 1
        here = {}
        for name, value in place.items():
            here[name] = Signal(value.shape(), name=f"here_{name}")
            m.d.sync += here[name].eq(value)
        iy, ix = here["oy"] + here["ky"] - top, here["ox"] + here["kx"] - left
        py, px = here["oy"] >> p, here["ox"] >> p
        row = times(here["ky"], shape.kernel * channels) + times(here["kx"], channels) + here["ci"]
        # stage 2
        S_at, a_at, e_at = (
            Signal(index_bits(n), name=name)
            for n, name in ((shape.words, "S_at"), (shape.inputs, "a_at"), (shape.error_words, "e_at"))
        )
        inside, heard, winner = Signal(2), Signal(2), Signal(2 * p)
        m.d.sync += [
            S_at.eq(times(row, shape.words_a_row) + here["word"]),
            a_at.eq(
                times(iy[: index_bits(height)], width * channels)
                + times(ix[: index_bits(width)], channels)
                + here["ci"]
            ),
            e_at.eq(
                times(times(py[: index_bits(rows)], columns) + px[: index_bits(columns)], shape.words_a_row)
                + here["word"]
            ),
            inside.eq(Cat((iy >= 0) & (iy < height) & (ix >= 0) & (ix < width), inside)),
            heard.eq(Cat((py >= 0) & (py < rows) & (px >= 0) & (px < columns), heard)),
            winner.eq(Cat(here["ox"][:p], here["oy"][:p])),
        ]
        # stages 3 and 4
        codes, a, S = self._kept(m, a_at, S_at, inside[1])
        won = self._winners(m, e_at, at, valid)
        wanted, e = Signal(2 * p), Signal(shape.lanes * shape.e_bits)
        m.d.comb += self.word.eq(e_at)
        m.d.sync += wanted.eq(winner)
        for i in range(shape.lanes):
            mine = heard[1] & (won.word_select(i, 2 * p) == wanted) if p else heard[1]
            m.d.sync += e.word_select(i, shape.e_bits).eq(Mux(mine, codes.word_select(i, shape.e_bits), 0))
        lanes_S = [S.word_select(i, shape.s_bits) for i in range(shape.lanes)]
        return at, valid, a, lanes_S, [e.word_select(i, shape.e_bits).as_signed() for i in range(shape.lanes)]

    def _kept(self, m: Module, a_at: Value, S_at: Value, inside: Value) -> tuple[Value, Value, Signal]:
        """Memories of the activations, and of the kernel; beside its padding there is nothing."""
        shape = self.shape
        m.submodules.a = spikes = Memory(shape=signed(shape.a_bits), depth=shape.inputs, init=[])
        write, read = spikes.write_port(), spikes.read_port()
        sweep = Signal(index_bits(shape.inputs))
        with m.If(self.clear):
            m.d.sync += [sweep.eq(0), self.clearing.eq(1)]
        with m.Elif(self.clearing):
            m.d.sync += [sweep.eq(sweep + 1), self.clearing.eq(sweep != shape.inputs - 1)]
        a = Signal(signed(shape.a_bits))
        m.d.comb += [
            write.en.eq(self.spike_valid | self.clearing),
            write.addr.eq(Mux(self.clearing, sweep, self.spike_index)),
            write.data.eq(Mux(self.clearing, 0, self.spike)),
            read.addr.eq(a_at),
        ]
        m.d.sync += a.eq(Mux(inside, read.data, 0))
        m.submodules.S = kernel = Memory(shape=shape.lanes * shape.s_bits, depth=shape.words, init=[])
        self.kernel_write, kernel_read = kernel.write_port(), kernel.read_port()
        S = Signal(shape.lanes * shape.s_bits)
        m.d.comb += [kernel_read.addr.eq(Mux(self.host, self.host_address, S_at)), self.host_read.eq(S)]
        m.d.sync += S.eq(kernel_read.data)
        return self.codes, a, S

    def _winners(self, m: Module, e_at: Value, at: list[Signal], valid: Value) -> Value:
        """Places that won their windows, a word of neurons each."""
        shape, bits = self.shape, 2 * self.shape.log2_pool
        self.won = [Signal(bits, name=f"won{i}") for i in range(shape.lanes)]
        if not bits:
            return Const(0, 1)
        m.submodules.winners = winners = Memory(shape=shape.lanes * bits, depth=shape.error_words, init=[])
        write, read, count = winners.write_port(), winners.read_port(), Signal(index_bits(shape.error_words))
        full = valid[5] & at[5].forward & at[5].last
        with m.If(full):
            m.d.sync += count.eq(Mux(at[5].end, 0, count + 1))
        m.d.comb += [
            write.en.eq(full),
            write.addr.eq(count),
            write.data.eq(Cat(*self.won)),
            read.addr.eq(e_at),
        ]
        return read.data

    # --- what becomes of it ---

    def _sums(
        self, m: Module, V: list[tuple[Value, Value]], a: Value, valid: Value, at: list[Signal]
    ) -> None:
        """Forward: a sum a lane, of which the first maximum of a window is kept; they leave one by one."""
        shape = self.shape
        sums, best, leaving = (
            [Signal(signed(shape.z_bits), name=f"{name}{i}") for i in range(shape.lanes)]
            for name in ("sum", "best", "leaving")
        )
        with m.If(valid[3] & at[3].forward):
            for total, (plus, minus) in zip(sums, V, strict=True):
                m.d.sync += total.eq(Mux(at[3].first, 0, total) + Mux(plus, a, Mux(minus, -a, 0)))
        with m.If(valid[4] & at[4].forward & at[4].patch):
            for total, most, won in zip(sums, best, self.won, strict=True):
                with m.If((at[4].winner == 0) | (total > most)):
                    m.d.sync += [most.eq(total), won.eq(at[4].winner)]
        left, final = Signal(range(shape.lanes + 1)), Signal()
        with m.If(valid[5] & at[5].forward & at[5].last):
            m.d.sync += [*(x.eq(y) for x, y in zip(leaving, best, strict=True)), left.eq(shape.lanes)]
            m.d.sync += final.eq(at[5].end)
        with m.Elif(left != 0):
            m.d.sync += [*(x.eq(y) for x, y in pairwise(leaving)), left.eq(left - 1)]
        m.d.comb += [
            self.z_valid.eq(left != 0),
            self.z_last.eq(final & (left == 1)),
            self.z.eq(leaving[0]),
        ]

    def _error_sums(
        self, m: Module, V: list[tuple[Value, Value]], e: list[Value], valid: Value, at: list[Signal]
    ) -> Value:
        """Transposed: the lanes of a word add up, and the words of all places that an input meets."""
        shape = self.shape
        part, total, now = (Signal(signed(shape.back_bits), name=name) for name in ("part", "total", "now"))
        terms = (Mux(plus, x, Mux(minus, -x, 0)) for (plus, minus), x in zip(V, e, strict=True))
        m.d.sync += part.eq(sum(terms))
        m.d.comb += now.eq(Mux(at[4].first, 0, total) + part)
        with m.If(valid[4]):
            m.d.sync += total.eq(now)
        m.d.sync += [self.d_valid.eq(valid[4] & at[4].back & at[4].last), self.d.eq(now)]
        return valid[5] & at[5].back & at[5].end

    def _learn(
        self, m: Module, a: Value, S: list[Value], e: list[Value], valid: Value, at: list[Signal]
    ) -> Value:
        """Gradients of a word's lanes; when they are whole, lane after lane takes its step."""
        shape = self.shape
        gradients = []
        for i, code in enumerate(e):
            product = Signal(signed(shape.a_bits + shape.e_bits), name=f"product{i}")
            G = Signal(signed(shape.g_bits), name=f"G{i}")
            m.d.sync += product.eq(a * code)
            with m.If(valid[4]):
                m.d.sync += G.eq(Mux(at[4].first, 0, G) + product)
            gradients.append(G)
        number, left, final = Signal(index_bits(shape.words)), Signal(range(shape.lanes + 1)), Signal()
        words_a_block = LANES_A_BLOCK // shape.lanes
        sub = number[: words_a_block.bit_length() - 1]
        full = valid[5] & at[5].learning & at[5].last
        m.d.comb += self.take.eq(full & self.updates & (sub == 0))
        S4 = Cat(S)
        S5, S6, old = (Signal(len(S4), name=name) for name in ("S5", "S6", "old"))
        m.d.sync += [S5.eq(S4), S6.eq(S5)]
        leaving = [Signal(signed(shape.g_bits), name=f"leaving_G{i}") for i in range(shape.lanes)]
        with m.If(full):
            m.d.sync += [*(x.eq(y) for x, y in zip(leaving, gradients, strict=True)), left.eq(shape.lanes)]
            m.d.sync += [final.eq(at[5].end), old.eq(S6)]
        with m.Elif(left != 0):
            m.d.sync += [*(x.eq(y) for x, y in pairwise(leaving)), left.eq(left - 1)]
            m.d.sync += old.eq(old[shape.s_bits :])
        # the lane of the block, counted down as the lanes leave
        lane = Cat((shape.lanes - left)[: shape.lanes.bit_length() - 1], sub)
        r = Array(self.bits.word_select(i, 16) for i in range(LANES_A_BLOCK))[lane]
        stepped, new = self._steps(m, leaving[0], old[: shape.s_bits].as_signed(), r, left)
        m.d.comb += [
            self.kernel_write.en.eq(self.host_write | (stepped & self.updates)),
            self.kernel_write.addr.eq(Mux(self.host, self.host_address, number)),
            self.kernel_write.data.eq(Mux(self.host, self.host_data, new)),
        ]
        with m.If(self.start_update):
            m.d.sync += number.eq(0)
        with m.Elif(stepped):
            m.d.sync += number.eq(number + 1)
        return stepped & final

    def _steps(self, m: Module, G: Value, old: Value, r: Value, left: Value) -> tuple[Value, Signal]:
        """New stored weights of a word, gathered lane by lane, as the dense layers' synapses step; and when
        they are whole."""
        shape = self.shape
        to_left, to_right = shifts(m, 16 + self.log2_eta - self.exponent)
        valid, last = Signal(3), Signal(4)
        m.d.sync += [valid.eq(Cat(left != 0, valid)), last.eq(Cat(left == 1, last))]
        size, up, bits = Signal(shape.g_bits - 1), Signal(2), [Signal(16, name=f"r{i}") for i in (1, 2)]
        S = [Signal(signed(shape.s_bits), name=f"own{i}") for i in (1, 2)]
        quotient, new = Signal(range(WHOLE + 1)), Signal(shape.lanes * shape.s_bits)
        m.d.sync += [size.eq(abs(G)), up.eq(Cat(G < 0, up))]
        m.d.sync += [a.eq(b) for a, b in zip((*bits, *S), (r, bits[0], old, S[0]), strict=True)]
        shifted = Mux(to_right != 0, size >> to_right, size << to_left)
        m.d.sync += quotient.eq(Mux(shifted > WHOLE, WHOLE, shifted))
        with m.If(self.start_update):
            m.d.sync += self.g_peak.eq(0)
        with m.Elif(valid[0] & (size > self.g_peak)):
            m.d.sync += self.g_peak.eq(size)
        moved = Signal(signed(shape.s_bits + 1))
        m.d.comb += moved.eq(S[1] + Mux(quotient + bits[1] >= WHOLE, Mux(up[1], 1, -1), 0))
        high, low = moved > shape.bound, moved < -shape.bound
        own = Signal(shape.s_bits)
        m.d.comb += own.eq(Mux(high, shape.bound, Mux(low, -shape.bound, moved)))
        with m.If(valid[1]):
            m.d.sync += new.eq(Cat(new[shape.s_bits :], own))
        return last[2], new


class ConvCore(LayerCore):
    """A layer with a shared kernel; its ports are those of any layer.

    Down, all of its error is sent before a weight changes: the layer below waits for its turn to learn.
    """

    def elaborate(self, platform: object) -> Module:
        m, shape = Module(), self.shape
        m.submodules.windows = windows = Windows(shape)
        m.submodules.errors = errors = ErrorNeurons(shape)
        m.submodules.error_tracker = self.error_tracker
        m.submodules.gradient_tracker = tracker = self.gradient_tracker
        assert tracker is not None
        self._activate(m, windows, errors)
        host = ("host", "host_address", "host_write", "host_data")
        spikes = ("spike_valid", "spike_index", "spike", "clear")
        taken = (*spikes, "log2_eta", "ready", "available", "bits", *host)
        given = ("clearing", "request", "block", "grant", "take", "host_read")
        m.d.comb += [
            *(getattr(windows, name).eq(getattr(self, name)) for name in taken),
            *(getattr(self, name).eq(getattr(windows, name)) for name in given),
            self.purpose.eq(UPDATE),
            windows.codes.eq(errors.codes),
            windows.exponent.eq(tracker.exponent),
            errors.word.eq(windows.word),
            errors.d_valid.eq(self.d_valid),
            errors.d.eq(self.d),
            errors.exponent.eq(self.error_tracker.exponent),
            errors.clear.eq(self.start),
            self.error_tracker.hold.eq(self.hold),
            self.error_tracker.peak.eq(errors.d_peak),
            tracker.hold.eq(self.hold),
            tracker.peak.eq(windows.g_peak),
            self.back_valid.eq(windows.d_valid),
            self.back.eq(windows.d),
        ]
        heard = self._heard(m, errors)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += windows.updates.eq(tracker.exponent != UNKNOWN)
                with m.If(self.start):
                    m.d.comb += windows.start_forward.eq(1)
                    m.next = "FORWARD"
                with m.Elif(heard):
                    m.next = "HEARD"
            with m.State("FORWARD"):
                with m.If(self.answered):
                    m.next = "IDLE"
            with m.State("HEARD"):
                m.d.comb += self.error_tracker.step.eq(1)
                m.next = "BACK" if shape.sends_error else "UPDATE"
                with m.If(errors.e_peak == 0):
                    m.d.comb += self.quiet.eq(1)
                    m.next = "IDLE"
            if shape.sends_error:
                with m.State("BACK"):
                    m.d.comb += windows.start_back.eq(1)
                    m.next = "SENDING"
                with m.State("SENDING"):
                    with m.If(windows.end):
                        m.next = "UPDATE"
            with m.State("UPDATE"):
                m.d.comb += windows.start_update.eq(~self.frozen)
                m.next = "LEARNING"
                with m.If(self.frozen):
                    m.next = "FINISH"
            with m.State("LEARNING"):
                with m.If(windows.end):
                    m.next = "FINISH"
            with m.State("FINISH"):
                m.d.comb += [self.learned.eq(1), tracker.step.eq(~self.frozen)]
                m.next = "IDLE"
        return m


def _chosen(steps: tuple[Value, ...], values: list[Value]) -> Value:
    """The value of the walk that goes on."""
    up, down, learn = values
    return Mux(steps[0], up, Mux(steps[1], down, learn))


class _Loops:
    """Counters within each other, the last the fastest; they begin anew by themselves."""

    def __init__(self, m: Module, name: str, step: Value, sizes: dict[str, int]) -> None:
        self.at = {key: Signal(index_bits(n), name=f"{name}_{key}") for key, n in sizes.items()}
        self._first, self._last = {}, {}
        first, last = Const(1), Const(1)
        for key, n in reversed(sizes.items()):
            at = self.at[key]
            with m.If(step & last):
                m.d.sync += at.eq(Mux(at == n - 1, 0, at + 1))
            first, last = first & (at == 0), last & (at == n - 1)
            self._first[key], self._last[key] = first, last

    def __getitem__(self, key: str) -> Signal:
        return self.at[key]

    def first(self, key: str) -> Value:
        """This counter and those within it are at their beginning."""
        return self._first[key]

    def last(self, key: str) -> Value:
        return self._last[key]
