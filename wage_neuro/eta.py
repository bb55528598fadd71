"""Step sizes: a power of two that may change from epoch to epoch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from wage_neuro.errors import SettingError

LOG2_ETA_RANGE = (-16, 16)


def short_fraction(text: str) -> Fraction | None:
    """Value of a number such as 8, 0.5, 1e-3 or 1/8; None of any other text, or of one too long to compute.

    >>> short_fraction("3/8"), short_fraction("1e999999999")
    (Fraction(3, 8), None)
    """
    number = r"\d{1,6}(\.\d{1,20})?(e[-+]?\d\d?)?|\d{1,6}/0*[1-9]\d{0,5}"
    return Fraction(text) if re.fullmatch(number, text.strip(), re.ASCII) else None


def log2_of(text: str) -> int:
    """Exponent of a power of two written as 8, 1, 0.5 or 1/8.

    >>> log2_of("8"), log2_of("1/8"), log2_of("0.5")
    (3, -3, -1)
    """
    value = short_fraction(text) or Fraction(0)
    low, high = LOG2_ETA_RANGE
    for exponent in range(low, high + 1):
        if value == Fraction(2) ** exponent:
            return exponent
    shown = text if text.isprintable() else repr(text)
    raise SettingError(f"eta={shown}: want a power of two such as 8, 1 or 1/8 (2**{low} .. 2**{high})")


@dataclass(frozen=True)
class EtaSchedule:
    """eta of each epoch: (first epoch, exponent) pairs, epochs counted from 0.

    >>> schedule = EtaSchedule.parse("8, 1@200, 1/8@250")
    >>> [schedule.log2_at(epoch) for epoch in (0, 199, 200, 299)]
    [3, 3, 0, -3]
    """

    steps: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> EtaSchedule:
        """Read "8, 1@200, 1/8@250": eta is 8, from epoch 200 on 1, from 250 on 1/8."""
        steps: list[tuple[int, int]] = []
        for part in text.split(","):
            value, at, epoch = part.strip().partition("@")
            if at and not re.fullmatch(r"\d{1,9}", epoch.strip(), re.ASCII):
                raise SettingError(f"eta {part.strip()!r}: want a whole epoch after the @")
            steps.append((int(epoch.strip()) if at else 0, log2_of(value.strip())))
        epochs = [epoch for epoch, _ in steps]
        if epochs[0] != 0 or sorted(set(epochs)) != epochs:
            raise SettingError(f"eta {text!r}: want a first value without @, then epochs that grow")
        return cls(tuple(steps))

    def log2_at(self, epoch: int) -> int:
        """Exponent of eta in an epoch."""
        return next(exponent for first, exponent in reversed(self.steps) if first <= epoch)
