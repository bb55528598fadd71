"""SerialCore: a core behind a serial line, which is all that a board needs beside a clock.

Bytes come as commands, numbers little-endian:

    1, address (4), count (2), words (4 each)   write the words to one address, one after another
    2, address (4), count (2), words (4 each)   write them to addresses that go up
    3, address (4), count (2)                   read as many words from addresses that go up; answered by them
    4                                           answered by a byte of 4 when no sample is under way

Other bytes between commands are passed over, so that a host gets in step by sending zeros.
"""

from __future__ import annotations

from amaranth.hdl import Cat, ClockDomain, Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from mappings.hardware.rtl.core import BUS, NeuroCore
from mappings.hardware.rtl.linked import LinkedCores
from mappings.hardware.rtl.registers import READ_CYCLES, WORD, Command

BITS = 10  # of a byte on the line: a start, eight, a stop


class Receiver(Component):
    """Bytes from a line; `divisor` clock cycles a bit, at least 4.

    Ports
    -----
    line : 1 while idle
    valid, byte : one byte, for a cycle
    """

    def __init__(self, divisor: int) -> None:
        self.divisor = divisor
        super().__init__({"line": In(1, init=1), "valid": Out(1), "byte": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # two registers against metastability
        first, line = Signal(init=1), Signal(init=1)
        m.d.sync += [first.eq(self.line), line.eq(first), self.valid.eq(0)]
        wait, left, shift = Signal(range(self.divisor * 2)), Signal(range(BITS + 1)), Signal(9)
        with m.If(left == 0):
            with m.If(~line):
                # to the middle of the first bit after the start
                m.d.sync += [left.eq(BITS - 1), wait.eq(self.divisor + self.divisor // 2 - 2)]
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Else():
            m.d.sync += [wait.eq(self.divisor - 1), left.eq(left - 1), shift.eq(Cat(shift[1:], line))]
            with m.If(left == 1):
                m.d.sync += [self.valid.eq(line), self.byte.eq(shift[1:])]
        return m


class Sender(Component):
    """Bytes to a line.

    Ports
    -----
    valid, byte, ready : a byte is taken when it is valid and this is ready
    line : 1 while idle
    """

    def __init__(self, divisor: int) -> None:
        self.divisor = divisor
        super().__init__({"valid": In(1), "byte": In(8), "ready": Out(1), "line": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        wait, left, shift = Signal(range(self.divisor)), Signal(range(BITS + 1)), Signal(BITS)
        m.d.comb += self.ready.eq(left == 0)
        m.d.sync += self.line.eq(Mux(left == 0, 1, shift[0]))
        with m.If(self.ready & self.valid):
            m.d.sync += [shift.eq(Cat(0, self.byte, 1)), left.eq(BITS), wait.eq(self.divisor - 1)]
        with m.Elif(left != 0):
            m.d.sync += wait.eq(wait - 1)
            with m.If(wait == 0):
                m.d.sync += [wait.eq(self.divisor - 1), left.eq(left - 1), shift.eq(shift[1:])]
        return m


class SerialCore(Component):
    """A core, its commands and its line.

    Ports
    -----
    rx, tx : the line
    busy : a sample is under way; for a lamp
    """

    def __init__(self, core: NeuroCore | LinkedCores, divisor: int) -> None:
        self.core, self.divisor = core, divisor
        self.links = {name: port for name, port in core.signature.members.items() if name not in BUS}
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "busy": Out(1), **self.links})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.core = core = self.core
        m.submodules.receiver = receiver = Receiver(self.divisor)
        m.submodules.sender = sender = Sender(self.divisor)
        m.d.comb += [receiver.line.eq(self.rx), self.tx.eq(sender.line), self.busy.eq(core.busy)]
        for name in self.links:
            connect(m, flipped(getattr(self, name)), getattr(core, name))
        command, address, count = Signal(8), Signal(WORD), Signal(16)
        head, place, word = Signal(6 * 8), Signal(3), Signal(WORD)
        m.d.comb += [
            core.write_address.eq(address),
            core.write_data.eq(word),
            core.read_address.eq(address),
        ]
        shifted = Signal(WORD)
        m.d.comb += shifted.eq(Cat(word[8:], receiver.byte))
        with m.FSM():
            with m.State("COMMAND"):
                m.d.sync += [place.eq(0), command.eq(receiver.byte)]
                with m.If(receiver.valid):
                    with m.If(receiver.byte == Command.WAIT):
                        m.next = "WAIT"
                    with m.Elif((receiver.byte >= Command.WRITE) & (receiver.byte <= Command.READ_UP)):
                        m.next = "HEAD"
            with m.State("HEAD"):
                with m.If(receiver.valid):
                    full = Cat(head[8:], receiver.byte)
                    m.d.sync += [head.eq(full), place.eq(place + 1)]
                    with m.If(place == 5):
                        m.d.sync += [address.eq(full[:WORD]), count.eq(full[WORD:]), place.eq(0)]
                        m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += place.eq(0)
                with m.If(count == 0):
                    m.next = "COMMAND"
                with m.Elif(command == Command.READ_UP):
                    m.next = "READ"
                with m.Else():
                    m.next = "WORD"
            with m.State("WORD"):
                with m.If(receiver.valid):
                    m.d.sync += [word.eq(shifted), place.eq(place + 1)]
                    with m.If(place == 3):
                        m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += core.write.eq(1)
                m.d.sync += [count.eq(count - 1), address.eq(address + (command == Command.WRITE_UP))]
                m.next = "NEXT"
            with m.State("READ"):
                m.d.sync += place.eq(place + 1)
                with m.If(place == READ_CYCLES):
                    m.d.sync += [word.eq(core.read_data), place.eq(0)]
                    m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [sender.valid.eq(1), sender.byte.eq(word[:8])]
                with m.If(sender.ready):
                    m.d.sync += [word.eq(word[8:]), place.eq(place + 1)]
                    with m.If(place == 3):
                        m.d.sync += [count.eq(count - 1), address.eq(address + 1)]
                        m.next = "NEXT"
            with m.State("WAIT"):
                m.d.comb += [sender.valid.eq(~core.busy), sender.byte.eq(Command.WAIT)]
                with m.If(sender.valid & sender.ready):
                    m.next = "COMMAND"
        return m


class Board(Component):
    """A core and its line as they go onto a device: with a clock, and no reset, as registers begin set.

    Ports
    -----
    clk : the board's clock; rx, tx, busy : as of SerialCore
    """

    def __init__(self, core: NeuroCore | LinkedCores, divisor: int) -> None:
        self.serial = SerialCore(core, divisor)
        line = {"rx": In(1, init=1), "tx": Out(1, init=1), "busy": Out(1)}
        super().__init__({"clk": In(1), **line, **self.serial.links})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = sync = ClockDomain(reset_less=True)
        m.submodules.serial = serial = self.serial
        m.d.comb += [
            sync.clk.eq(self.clk),
            serial.rx.eq(self.rx),
            self.tx.eq(serial.tx),
            self.busy.eq(serial.busy),
        ]
        for name in serial.links:
            connect(m, flipped(getattr(self, name)), getattr(serial, name))
        return m
