"""Patterns of bits in which f is a real number: 28ff, 28f8, and vanilla."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wage_neuro.bits import K_MAX, Bits
from wage_neuro.errors import BitWidthError


@dataclass(frozen=True)
class Pattern:
    """What is quantized, and to how many bits; None is not quantized.

    Parameters
    ----------
    k_W, k_A, k_G, k_E : int or None
        Bits of weights, activations, gradients and errors.
    is_vanilla : bool
        A float network as it is usually trained: batch normalisation, softmax, momentum 0.9, L2 1e-4.

    >>> Pattern.parse("28f8")
    Pattern(k_W=2, k_A=8, k_G=None, k_E=8, is_vanilla=False)
    """

    k_W: int | None = None
    k_A: int | None = None
    k_G: int | None = None
    k_E: int | None = None
    is_vanilla: bool = False

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read four digits, or widths joined by '-', f for a real number; or 'vanilla'.

        Raises
        ------
        BitWidthError
            If it is neither, or a width is outside 2..16.
        """
        if text == "vanilla":
            return cls(is_vanilla=True)
        digits, base = (text.split("-"), 10) if "-" in text else (list(text), 16)
        if not re.fullmatch(r"[0-9A-Ef]{4}|(\d+|f)(-(\d+|f)){3}", text):
            raise BitWidthError(
                f"pattern {text!r}: want k_W k_A k_G k_E such as 2888, 28C8 or 28ff (f: float32), or vanilla"
            )
        k_W, k_A, k_G, k_E = (None if digit == "f" else int(digit, base) for digit in digits)
        pattern = cls(k_W, k_A, k_G, k_E)
        _ = pattern.bits  # refuses widths out of range
        return pattern

    @property
    def is_float(self) -> bool:
        """Whether anything is a real number: no integer engine can train it."""
        return None in (self.k_W, self.k_A, self.k_G, self.k_E)

    @property
    def bits(self) -> Bits:
        """Widths of a Network of the same shape: f has the most bits, for initial weights and input."""
        return Bits(*(K_MAX if k is None else k for k in (self.k_W, self.k_A, self.k_G, self.k_E)))
