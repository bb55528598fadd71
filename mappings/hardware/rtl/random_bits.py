"""RandomBits: Philox as a ring of round units; the same words as `wage_neuro.random_bits`.

Source: Salmon et al., SC 2011; constants as in Random123's `philox.h`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from mappings.hardware.rtl.shape import pipes

ROUNDS = 10


class Philox(NamedTuple):
    """A generator as the ring has it: what gives 16 numbers goes round together.

    Attributes
    ----------
    bits : of a word
    blocks : side by side, of four words each, with one key
    multipliers, weyl : its constants
    cycles : of a product; even, so that a shared one is done on a beat
    """

    bits: int
    blocks: int
    multipliers: tuple[int, int]
    weyl: tuple[int, int]
    cycles: int

    def places(self, shared: bool) -> int:
        """Places of a round unit; a block stays two cycles in one where the products share a multiplier."""
        return self.cycles // 2 + 1 if shared else self.cycles + 1


PHILOX = {
    "philox4x64": Philox(
        64, 1, (0xD2E7470EE14C6C93, 0xCA5A826395121157), (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B), 6
    ),
    "philox4x32": Philox(32, 2, (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85), 4),
}


def depth(multipliers: int, generator: str = "philox4x64") -> int:
    """Blocks of 16 numbers that may be asked for before one is taken: more than go round at once.

    >>> [depth(multipliers) for multipliers in (1, 2, 4, 5, 10)]
    [8, 8, 16, 32, 64]
    >>> [depth(multipliers, "philox4x32") for multipliers in (1, 2, 4, 5, 10)]
    [8, 8, 16, 16, 32]
    """
    units, shared = pipes(multipliers)
    return max(8, 1 << (units * PHILOX[generator].places(shared)).bit_length())


class RandomBits(Component):
    """Blocks of 256 random bits, in the order they were asked for.

    Ports
    -----
    seed, step, layer, purpose : name the stream; steady from the first request to the last answer
    request, block : ask for a block; heard while `ready`
    available : an answer waits that was not granted yet; grant : one will be taken, some cycles later
    take : the next answer goes to `bits` and stays there
    """

    def __init__(self, multipliers: int = 1, generator: str = "philox4x64") -> None:
        self.units, self.shared = pipes(multipliers)
        self.philox = PHILOX[generator]
        self.depth = depth(multipliers, generator)
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
        entry = _Block("entry", self.philox)
        block, units = entry, []
        for i in range(self.units):
            unit = _RoundUnit(m, f"unit{i}", block, beat, second if self.shared else None, self.philox)
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
            m.d.comb += entry.valid.eq(waiting)
            m.d.comb += [word.eq(named) for word, named in zip(entry.words, self._named(wanted), strict=True)]
        with m.Else():
            m.d.comb += entry.eq(last)

    def _named(self, wanted: Signal) -> list[Any]:
        """Words of counter and key."""
        if self.philox.blocks == 1:  # numpy counts before it draws
            return [wanted + 1, self.step, self.layer, 0, self.seed, self.purpose]
        rest = [self.step[:32], self.step[32:], Cat(self.layer, Const(0, 12), self.purpose)]
        first = [Cat(Const(i, 1), wanted) for i in range(self.philox.blocks)]
        return [*(word for block in first for word in (block, *rest)), self.seed[:32], self.seed[32:]]

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
    """Counters, key and round of what goes round together."""

    def __init__(self, name: str, philox: Philox) -> None:
        self.c = [Signal(philox.bits, name=f"{name}_c{i}") for i in range(4 * philox.blocks)]
        self.k = [Signal(philox.bits, name=f"{name}_k{i}") for i in range(2)]
        self.round, self.valid = Signal(4, name=f"{name}_round"), Signal(name=f"{name}_valid")
        self.words = [*self.c, *self.k]

    def eq(self, other: _Block) -> list[object]:
        mine, theirs = ((*b.words, b.round, b.valid) for b in (self, other))
        return [x.eq(y) for x, y in zip(mine, theirs, strict=True)]


class _RoundUnit:
    """One round: places in a row, as many as a product takes, the last of which has the result.

    second : for which of the two products a multiplier works that they share
    """

    def __init__(
        self, m: Module, name: str, entry: _Block, beat: Signal, second: Signal | None, philox: Philox
    ) -> None:
        shared = second is not None
        places = [_Block(f"{name}_{i}", philox) for i in range(philox.places(shared))]
        with m.If(beat):
            for place, before in zip(places, [entry, *places], strict=False):
                m.d.sync += place.eq(before)
        first, last = places[0], places[-1]
        self.out = out = _Block(f"{name}_out", philox)
        product = _product64 if philox.bits == 64 else _product32
        for at in range(0, 4 * philox.blocks, 4):
            x, y, bits = first.c[at : at + 4], last.c[at : at + 4], philox.bits
            products = _products(m, f"{name}_product{at // 4}", x[0::2], philox.multipliers, second, product)
            words = (
                products[1][bits:] ^ y[1] ^ last.k[0],
                products[1][:bits],
                products[0][bits:] ^ y[3] ^ last.k[1],
                products[0][:bits],
            )
            m.d.comb += [word.eq(new) for word, new in zip(out.c[at : at + 4], words, strict=True)]
        m.d.comb += [
            *(k.eq(old + step) for k, old, step in zip(out.k, last.k, philox.weyl, strict=True)),
            out.round.eq(last.round + 1),
            out.valid.eq(last.valid),
        ]


def _products(
    m: Module,
    name: str,
    x: list[Signal],
    factors: tuple[int, int],
    second: Signal | None,
    product: Callable[..., Signal],
) -> tuple[Signal, Signal]:
    """Both products of a round."""
    if second is not None:
        now = product(m, name, Mux(second, x[1], x[0]), *factors, second)
        return _later(m, now, f"{name}_before"), now
    one, two = (product(m, f"{name}{i}", x[i], factors[i], factors[i], None) for i in range(2))
    return one, two


def _product64(m: Module, name: str, x: Value, factor: int, other: int, second: Value | None) -> Signal:
    """x * factor of 64 bits each, 6 cycles later; while `second`, x * other.

    Source: Karatsuba, twice: 9 products of at most 18 x 18 bits, as devices multiply, in place of 16.
    """
    products = _each(m, name, [_ninths(y) for y in (x, factor, other)], _WIDTHS, second)
    thirds = [_joined(m, f"{name}_third{i}", products[3 * i : 3 * i + 3], 16) for i in range(3)]
    return _joined(m, name, thirds, 32)


def _product32(m: Module, name: str, x: Value, factor: int, other: int, second: Value | None) -> Signal:
    """x * factor of 32 bits each, 4 cycles later; while `second`, x * other.

    Source: Karatsuba: 3 products in place of 4.
    """
    products = _each(m, name, [_thirds(y, 16) for y in (x, factor, other)], _WIDTHS[:3], second)
    return _joined(m, name, products, 16)


def _each(
    m: Module, name: str, parts: list[list[Any]], widths: tuple[int, ...], second: Value | None
) -> list[Signal]:
    """Products of the parts of x and of factor, 2 cycles later; while `second`, of x and of other."""
    values = [Signal(width, name=f"{name}_x{i}") for i, width in enumerate(widths)]
    m.d.sync += [value.eq(part) for value, part in zip(values, parts[0], strict=True)]
    factors = [
        Const(one) if second is None else Mux(second, two, one) for one, two in zip(*parts[1:], strict=True)
    ]
    if second is not None:  # the factor of a value comes with it
        factors = [_later(m, chosen, f"{name}_y{i}") for i, chosen in enumerate(factors)]
    products = [Signal(2 * width, name=f"{name}_p{i}") for i, width in enumerate(widths)]
    m.d.sync += [product.eq(a * b) for product, a, b in zip(products, values, factors, strict=True)]
    return products


def _thirds(x: Any, half: int) -> list[Any]:
    """A number's low half, the halves' sum and the high half.

    >>> _thirds(0x0002_0001, 16)
    [1, 3, 2]
    """
    low, high = x & (1 << half) - 1, x >> half
    return [low, low + high, high]


def _ninths(x: Any) -> list[Any]:
    """Factors of the 9 products: thirds of thirds.

    >>> _ninths(0x0004_0003_0002_0001)
    [1, 3, 2, 4, 10, 6, 3, 7, 4]
    """
    return [part for third in _thirds(x, 32) for part in _thirds(third, 16)]


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
