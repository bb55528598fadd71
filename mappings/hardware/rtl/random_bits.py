"""RandomBits: Philox4x64-10 as a ring of round units; the same words as `wage_neuro.random_bits`.

Source: Salmon et al., SC 2011; constants as in Random123's `philox.h`.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from mappings.hardware.rtl.shape import pipes

MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
ROUNDS = 10
PRODUCT_CYCLES = 6  # even, so that a shared one is done on a beat


def depth(multipliers: int) -> int:
    """Blocks that may be asked for before one is taken: more than go round at once.

    >>> [depth(multipliers) for multipliers in (1, 2, 4, 5, 10)]
    [8, 8, 16, 32, 64]
    """
    units, shared = pipes(multipliers)
    return 1 << (units * _places(shared)).bit_length()


def _places(shared: bool) -> int:
    """Places of a round unit; a block stays two cycles in one where the products share a multiplier."""
    return PRODUCT_CYCLES // 2 + 1 if shared else PRODUCT_CYCLES + 1


class RandomBits(Component):
    """Blocks of 256 random bits, in the order they were asked for.

    Ports
    -----
    seed, step, layer, purpose : name the stream; steady from the first request to the last answer
    request, block : ask for a block; heard while `ready`
    available : an answer waits that was not granted yet; grant : one will be taken, some cycles later
    take : the next answer goes to `bits` and stays there
    """

    def __init__(self, multipliers: int = 1) -> None:
        self.units, self.shared = pipes(multipliers)
        self.depth = depth(multipliers)
        super().__init__(
            {
                "seed": In(64),
                "step": In(64),
                "layer": In(4),
                "purpose": In(4),
                "request": In(1),
                "block": In(32),
                "ready": Out(1),
                "available": Out(1),
                "grant": In(1),
                "take": In(1),
                "bits": Out(256),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat, second = Signal(), Signal()
        if self.shared:
            m.d.sync += second.eq(~second)
            m.d.comb += beat.eq(second)
        else:
            m.d.comb += beat.eq(1)
        entry = _Block("entry")
        block, units = entry, []
        for i in range(self.units):
            unit = _RoundUnit(m, f"unit{i}", block, beat, second, self.shared)
            units.append(unit)
            block = unit.out
        last = units[-1].out
        done = Signal()
        m.d.comb += done.eq(last.valid & (last.round == ROUNDS))
        self._enter(m, entry, last, done, beat)
        self._answer(m, last, done & beat)
        return m

    def _enter(self, m: Module, entry: _Block, last: _Block, done: Signal, beat: Signal) -> None:
        """A block goes round until it is done; a new one takes a free place."""
        waiting, wanted = Signal(), Signal(32)
        free, outstanding = Signal(), Signal(range(self.depth + 1))
        m.d.comb += [free.eq(~last.valid | done), self.ready.eq(~waiting & (outstanding != self.depth))]
        asked = Signal()
        m.d.comb += asked.eq(self.request & self.ready)
        m.d.sync += outstanding.eq(outstanding + asked - self.take)
        with m.If(asked):
            m.d.sync += [waiting.eq(1), wanted.eq(self.block)]
        with m.Elif(beat & free):
            m.d.sync += waiting.eq(0)
        with m.If(free):
            # numpy counts before it draws
            m.d.comb += [
                entry.valid.eq(waiting),
                entry.c[0].eq(wanted + 1),
                entry.c[1].eq(self.step),
                entry.c[2].eq(self.layer),
                entry.k[0].eq(self.seed),
                entry.k[1].eq(self.purpose),
            ]
        with m.Else():
            m.d.comb += entry.eq(last)

    def _answer(self, m: Module, last: _Block, arrives: object) -> None:
        m.submodules.answers = answers = Memory(shape=256, depth=self.depth, init=[])
        write, read = answers.write_port(), answers.read_port(domain="comb")
        head, tail = Signal(range(self.depth)), Signal(range(self.depth))
        granted = Signal(range(self.depth + 1))  # answers that wait, less those granted
        m.d.comb += [
            write.en.eq(arrives),
            write.addr.eq(tail),
            write.data.eq(Cat(*last.c)),
            read.addr.eq(head),
            self.available.eq(granted != 0),
        ]
        m.d.sync += granted.eq(granted + write.en - self.grant)
        with m.If(write.en):
            m.d.sync += tail.eq(tail + 1)
        with m.If(self.take):
            m.d.sync += [head.eq(head + 1), self.bits.eq(read.data)]


class _Block:
    """Counter, key and round of a block on its way."""

    def __init__(self, name: str) -> None:
        self.c = [Signal(64, name=f"{name}_c{i}") for i in range(4)]
        self.k = [Signal(64, name=f"{name}_k{i}") for i in range(2)]
        self.round, self.valid = Signal(4, name=f"{name}_round"), Signal(name=f"{name}_valid")

    def eq(self, other: _Block) -> list[object]:
        mine, theirs = ((*b.c, *b.k, b.round, b.valid) for b in (self, other))
        return [x.eq(y) for x, y in zip(mine, theirs, strict=True)]


class _RoundUnit:
    """One round: places in a row, as many as a product takes, the last of which has the result."""

    def __init__(
        self, m: Module, name: str, entry: _Block, beat: Signal, second: Signal, shared: bool
    ) -> None:
        places = [_Block(f"{name}_{i}") for i in range(_places(shared))]
        with m.If(beat):
            for place, before in zip(places, [entry, *places], strict=False):
                m.d.sync += place.eq(before)
        first, last = places[0], places[-1]
        if shared:
            x = Mux(second, first.c[2], first.c[0])
            now = _product(m, f"{name}_product", x, *MULTIPLIERS, second)
            products = _later(m, now, f"{name}_before"), now
        else:
            products = tuple(
                _product(m, f"{name}_product{i}", first.c[2 * i], factor, factor, None)
                for i, factor in enumerate(MULTIPLIERS)
            )
        self.out = out = _Block(f"{name}_out")
        m.d.comb += [
            out.c[0].eq(products[1][64:] ^ last.c[1] ^ last.k[0]),
            out.c[1].eq(products[1][:64]),
            out.c[2].eq(products[0][64:] ^ last.c[3] ^ last.k[1]),
            out.c[3].eq(products[0][:64]),
            *(k.eq(old + step) for k, old, step in zip(out.k, last.k, WEYL, strict=True)),
            out.round.eq(last.round + 1),
            out.valid.eq(last.valid),
        ]


def _product(m: Module, name: str, x: Value, factor: int, other: int, second: Value | None) -> Signal:
    """x * factor of 64 bits each, PRODUCT_CYCLES later; while `second`, x * other.

    Source: Karatsuba, twice: 9 products of at most 18 x 18 bits, as devices multiply, in place of 16.
    """
    values = [Signal(width, name=f"{name}_x{i}") for i, width in enumerate(_WIDTHS)]
    m.d.sync += [value.eq(part) for value, part in zip(values, _ninths(x), strict=True)]
    factors = [
        Const(one) if second is None else Mux(second, two, one)
        for one, two in zip(_ninths(factor), _ninths(other), strict=True)
    ]
    if second is not None:  # the factor of a value comes with it
        factors = [_later(m, chosen, f"{name}_y{i}") for i, chosen in enumerate(factors)]
    products = [Signal(2 * width, name=f"{name}_p{i}") for i, width in enumerate(_WIDTHS)]
    m.d.sync += [product.eq(a * b) for product, a, b in zip(products, values, factors, strict=True)]
    thirds = [_joined(m, f"{name}_third{i}", products[3 * i : 3 * i + 3], 16) for i in range(3)]
    return _joined(m, name, thirds, 32)


def _ninths(x: Any) -> list[Any]:
    """Factors of the 9 products: of a number's low half, the halves' sum and the high half, the same again.

    >>> _ninths(0x0004_0003_0002_0001)
    [1, 3, 2, 4, 10, 6, 3, 7, 4]
    """
    halves = x & (1 << 32) - 1, x >> 32
    thirds = halves[0], halves[0] + halves[1], halves[1]
    return [part for y in thirds for part in (y & 0xFFFF, (y & 0xFFFF) + (y >> 16), y >> 16)]


_WIDTHS = (16, 17, 16, 16, 18, 17, 16, 17, 16)
"""Bits of the ninths."""


def _later(m: Module, value: Value, name: str) -> Signal:
    """Its value of the cycle before."""
    kept = Signal.like(value, name=name)
    m.d.sync += kept.eq(value)
    return kept


def _joined(m: Module, name: str, parts: list[Signal], low: int) -> Signal:
    """Product of two numbers from those of their low parts of `low` bits, their sums, their high parts."""
    least, of_sums, most = parts
    outer = _later(m, Cat(least[: 2 * low], most), f"{name}_outer")
    middle = _later(m, (of_sums - least - most)[: len(of_sums)], f"{name}_middle")
    return _later(m, (outer + (middle << low))[: len(outer)], name)
