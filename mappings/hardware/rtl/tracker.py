"""ExponentTracker: the peak-hold exponent of Shift, as comparators and a counter.

The hardware of `processes.exponent_tracker`, written without its arithmetic.
"""

from __future__ import annotations

from math import isqrt

from amaranth.hdl import Module, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from mappings.hardware.rtl.shape import EXPONENT_BITS, HOLD_BITS

UNKNOWN = -1


def thresholds(worst: int) -> list[int]:
    """Smallest whole numbers above 2**(m - 1/2); entry 0 is 1, any value at all.

    >>> thresholds(100)
    [1, 2, 3, 6, 12, 23, 46, 91]
    """
    bank, m = [1], 1
    while (low := isqrt(1 << (2 * m - 1)) + 1) <= worst:
        bank.append(low)
        m += 1
    return bank


class ExponentTracker(Component):
    """Up at once, down by one after `hold` steps below; a peak of 0 says nothing.

    Ports
    -----
    peak : largest magnitude of a sample; step : takes it; the exponent follows two cycles later
    hold : register of the host
    load : takes `given_exponent` and `given_below` from the host
    exponent, below : what is held; UNKNOWN before the first value
    """

    def __init__(self, worst: int) -> None:
        self.bank = thresholds(worst)
        super().__init__(
            {
                "peak": In(worst.bit_length()),
                "step": In(1),
                "hold": In(HOLD_BITS),
                "load": In(1),
                "given_exponent": In(signed(EXPONENT_BITS)),
                "given_below": In(HOLD_BITS),
                "exponent": Out(signed(EXPONENT_BITS), init=UNKNOWN),
                "below": Out(HOLD_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        reached, go = Signal(signed(EXPONENT_BITS)), Signal()
        m.d.sync += go.eq(self.step)
        spikes = [self.peak >= threshold for threshold in self.bank]
        m.d.sync += reached.eq(UNKNOWN)
        for exponent, spike in enumerate(spikes):
            with m.If(spike):
                m.d.sync += reached.eq(exponent)
        with m.If(self.load):
            m.d.sync += [self.exponent.eq(self.given_exponent), self.below.eq(self.given_below)]
        with m.Elif(go & (reached != UNKNOWN)):
            with m.If(reached >= self.exponent):
                m.d.sync += [self.exponent.eq(reached), self.below.eq(0)]
            with m.Elif(self.below + 1 >= self.hold):
                m.d.sync += [self.exponent.eq(self.exponent - 1), self.below.eq(0)]
            with m.Else():
                m.d.sync += self.below.eq(self.below + 1)
        return m
