"""Bit widths of WAGE: weights, activations, gradients, errors."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from wage_neuro.errors import BitWidthError

K_MIN, K_MAX = 2, 16
UNQUANTIZED = 16
"""Width that takes the place of float32, where the paper leaves a layer unquantized."""


def max_code(k: int) -> int:
    """Largest k-bit code: codes are symmetric, -max_code(k) .. max_code(k).

    >>> [max_code(k) for k in (2, 8, 16)]
    [1, 127, 32767]
    """
    return (1 << (k - 1)) - 1


def code_dtype(k: int) -> type[np.signedinteger]:
    """Smallest numpy integer that holds every k-bit code, k in 2..16."""
    return np.int8 if k <= 8 else np.int16


def sigma(k: int) -> float:
    """Step of a k-bit code: sigma(k) = 2**(1 - k) (the paper's; the authors' code has its inverse).

    >>> sigma(2), sigma(8)
    (0.5, 0.0078125)
    """
    return 2.0 ** (1 - k)


@dataclass(frozen=True)
class Bits:
    """Widths of weights, activations, gradients and errors, each 2..16 bits, sign included.

    Raises
    ------
    BitWidthError
        If a width is outside 2..16.

    >>> Bits.parse("2888")
    Bits(k_W=2, k_A=8, k_G=8, k_E=8)
    >>> str(Bits.parse("2-8-12-8"))
    '28C8'
    """

    k_W: int = 2
    k_A: int = 8
    k_G: int = 8
    k_E: int = 8

    def __post_init__(self) -> None:
        for name in ("k_W", "k_A", "k_G", "k_E"):
            k = getattr(self, name)
            if isinstance(k, bool) or not isinstance(k, int) or not K_MIN <= k <= K_MAX:
                raise BitWidthError(f"{name}={k}: want a whole number in {K_MIN}..{K_MAX}")

    @classmethod
    def parse(cls, pattern: str | Bits) -> Bits:
        """Read the paper's pattern: a digit a width (A = 10 .. E = 14), or widths joined by '-'.

        >>> Bits.parse("2-16-8-8").k_A
        16
        """
        if isinstance(pattern, Bits):
            return pattern
        text = str(pattern)
        try:
            if re.fullmatch(r"[0-9A-E]{4}", text):
                return cls(*(int(c, 16) for c in text))
            if re.fullmatch(r"\d{1,9}(-\d{1,9}){3}", text):
                return cls(*(int(part) for part in text.split("-")))
        except BitWidthError as error:
            raise BitWidthError(f"bits {text!r}: {error}") from None
        raise BitWidthError(f"bits {text!r}: want four widths k_W k_A k_G k_E such as 2888, 28C8 or 2-8-12-8")

    def __str__(self) -> str:
        widths = (self.k_W, self.k_A, self.k_G, self.k_E)
        if max(widths) < 15:
            return "".join(f"{k:X}" for k in widths)
        return "-".join(map(str, widths))

    @property
    def weight_max(self) -> int:
        """Largest visible weight code V."""
        return max_code(self.k_W)

    @property
    def activation_max(self) -> int:
        """Largest activation code A."""
        return max_code(self.k_A)

    @property
    def error_max(self) -> int:
        """Largest error code E."""
        return max_code(self.k_E)

    def stored_max(self, stored_range: str) -> int:
        """Largest stored weight S, in units of sigma(k_G).

        'paper' is the whole k_G-bit range; 'authors' ends at the largest visible weight, as the authors'
        code clips it (where k_G < k_W both ranges are the same).

        >>> Bits().stored_max("paper"), Bits().stored_max("authors")
        (127, 64)
        """
        whole = max_code(self.k_G)
        if stored_range == "paper" or self.k_G < self.k_W:
            return whole
        return min(whole, self.weight_max << (self.k_G - self.k_W))
