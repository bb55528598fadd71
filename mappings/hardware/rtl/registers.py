"""The host's addresses: a bus of 32-bit addresses and 32-bit words. README.md has them as a table."""

from __future__ import annotations

from enum import IntEnum

IDENTITY_WORD = 0x57414745  # "WAGE"
WORD = 32
BAUD = 115_200
"""Of a board's serial line."""
READ_CYCLES = 4
"""Cycles from an address to its word; there may be an address in each."""


class Region(IntEnum):
    """Bits 28 to 31 of an address; bits 24 to 27 name a layer."""

    CORE = 0
    LAYER = 1
    LOGITS = 2
    WEIGHTS = 3
    FEEDBACK = 4  # fixed feedback weights, written only


class Core(IntEnum):
    """Registers of the core."""

    IDENTITY = 0
    STATUS = 1  # 1 while a sample is under way
    SAMPLE = 2  # starts one: bit 0 learns, bit 1 enters (pipelined), bits 16 to 31 its label
    SPIKE = 3  # an input other than 0: bits 0 to 15 its code, 16 to 31 its index, which grow
    SEED_LOW = 4
    SEED_HIGH = 5
    STEP_LOW = 6
    STEP_HIGH = 7


class LayerRegister(IntEnum):
    """Registers of each layer."""

    LOG2_ETA = 0
    FROZEN = 1
    HOLD = 2
    ERROR_EXPONENT = 3  # written with its counter: the exponent first
    ERROR_BELOW = 4
    GRADIENT_EXPONENT = 5
    GRADIENT_BELOW = 6


def address(region: Region, layer: int = 0, place: int = 0) -> int:
    """Address of a register, a logit, or a piece of a word of weights.

    >>> hex(address(Region.LAYER, 2, LayerRegister.HOLD))
    '0x12000002'
    """
    return region << 28 | layer << 24 | place


def pieces(word_bits: int) -> int:
    """Places that a word of the weight memory takes: a power of two.

    >>> [pieces(bits) for bits in (8, 32, 128, 144)]
    [1, 1, 4, 8]
    """
    return 1 << max(0, (word_bits - 1).bit_length() - 5)


class Command(IntEnum):
    """First byte of what the host says over a serial line; see `serial`."""

    WRITE = 1
    WRITE_UP = 2
    READ_UP = 3
    WAIT = 4
