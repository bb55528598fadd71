"""Layer specs: what a user writes a network with. `network` checks that they chain."""

from __future__ import annotations

import sys
from dataclasses import KW_ONLY, dataclass

from wage_neuro.errors import NetworkError

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing import NoReturn

    def assert_never(value: NoReturn) -> NoReturn:
        """Say to mypy that nothing is left, and to who comes here all the same what was."""
        raise AssertionError(f"{value!r}: a kind that nobody has thought of here")


__all__ = ["AvgPool", "Conv", "Dense", "Flatten", "MaxPool", "Pool", "Spec", "assert_never", "max_pool"]

AVERAGED = (2, 4, 8)
"""Sizes of averaged windows: powers of two, so that a mean is a shift."""


def _positive(spec: object, **values: int) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise NetworkError(f"{type(spec).__name__} {name}={value!r}: want a whole number >= 1")


@dataclass(frozen=True)
class Dense:
    """Fully connected layer with `units` outputs: 512FC of the paper.

    quantized : bool
        False, of the last layer alone: the paper leaves it unquantized in its ImageNet nets (20FCU). Here its
        weights and errors have 16 bits each, stored and visible weight are one, and it learns by plain SGD.
    normalised : bool
        Whether each unit has a centre and a power of two of its own, see `wage_neuro.normal`: 512FCN.
    """

    units: int
    quantized: bool = True
    _: KW_ONLY
    normalised: bool = False

    def __post_init__(self) -> None:
        _positive(self, units=self.units)

    def __str__(self) -> str:
        return f"{self.units}FC{'' if self.quantized else 'U'}{'N' if self.normalised else ''}"


@dataclass(frozen=True)
class Conv:
    """Convolution with `channels` outputs, kernel x kernel: 32C5 of the paper; padding as TensorFlow's.

    normalised : bool
        Whether each channel has a centre and a power of two of its own, see `wage_neuro.normal`: 32C5N.
    """

    channels: int
    kernel: int
    stride: int = 1
    padding: str = "SAME"
    _: KW_ONLY
    normalised: bool = False

    def __post_init__(self) -> None:
        _positive(self, channels=self.channels, kernel=self.kernel, stride=self.stride)
        if self.padding not in ("SAME", "VALID"):
            raise NetworkError(f"Conv padding={self.padding!r}: want 'SAME' or 'VALID'")

    def __str__(self) -> str:
        stride = f"S{self.stride}" if self.stride > 1 else ""
        valid, normalised = "V" if self.padding == "VALID" else "", "N" if self.normalised else ""
        return f"{self.channels}C{self.kernel}{stride}{valid}{normalised}"


@dataclass(frozen=True)
class MaxPool:
    """Max-pooling over size x size windows after a Conv: MP2 of the paper.

    padding : 'VALID' or 'SAME'
        VALID drops incomplete windows; SAME, of the authors' code, keeps them as TensorFlow does (MP3S2P).
    """

    size: int
    stride: int | None = None
    padding: str = "VALID"

    def __post_init__(self) -> None:
        _positive(self, size=self.size, stride=self.step)
        if self.padding not in ("SAME", "VALID"):
            raise NetworkError(f"MaxPool padding={self.padding!r}: want 'SAME' or 'VALID'")
        if self.size > 15:
            raise NetworkError(f"MaxPool size={self.size}: want 1..15")

    @property
    def step(self) -> int:
        """Stride of the windows; their size when none is given."""
        return self.size if self.stride is None else self.stride

    def __str__(self) -> str:
        stride = f"S{self.stride}" if self.stride is not None else ""
        return f"MP{self.size}{stride}{'P' if self.padding == 'SAME' else ''}"


@dataclass(frozen=True)
class AvgPool:
    """Average of size x size windows after a Conv, side by side; incomplete ones are dropped. AP2.

    The mean is not rounded by itself: the sum of a window is kept whole, and Q_A divides it by size**2, a
    power of two, together with alpha: one rounding, half to even. Backward every place of a window gets its
    error as it is: the mean's factor size**-2 is a power of two that is the same for all, and Shift takes it
    out again to the last bit. (Where spikes coincide, the rate is that of each place.)
    """

    size: int

    def __post_init__(self) -> None:
        _positive(self, size=self.size)
        if self.size not in AVERAGED:
            raise NetworkError(f"AvgPool size={self.size}: want {', '.join(map(str, AVERAGED))}")

    @property
    def step(self) -> int:
        """Windows lie side by side."""
        return self.size

    @property
    def padding(self) -> str:
        return "VALID"

    def __str__(self) -> str:
        return f"AP{self.size}"


@dataclass(frozen=True)
class Flatten:
    """(height, width, channels) -> (height * width * channels), row-major; nothing is computed."""

    def __str__(self) -> str:
        return "F"


Pool = MaxPool | AvgPool
Spec = Dense | Conv | Pool | Flatten


def max_pool(pool: Pool | None) -> MaxPool | None:
    """The pooling of a layer, for who has maxima alone and has refused a network with others."""
    match pool:
        case None | MaxPool():
            return pool
        case AvgPool():
            raise AssertionError(f"{pool}: its Support should have refused it")
        case _:
            assert_never(pool)
