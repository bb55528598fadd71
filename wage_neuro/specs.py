"""Layer specs: what a user writes a network with. `network` checks that they chain."""

from __future__ import annotations

from dataclasses import dataclass

from wage_neuro.errors import NetworkError


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
    """

    units: int
    quantized: bool = True

    def __post_init__(self) -> None:
        _positive(self, units=self.units)

    def __str__(self) -> str:
        return f"{self.units}FC{'' if self.quantized else 'U'}"


@dataclass(frozen=True)
class Conv:
    """Convolution with `channels` outputs, kernel x kernel: 32C5 of the paper; padding as TensorFlow's."""

    channels: int
    kernel: int
    stride: int = 1
    padding: str = "SAME"

    def __post_init__(self) -> None:
        _positive(self, channels=self.channels, kernel=self.kernel, stride=self.stride)
        if self.padding not in ("SAME", "VALID"):
            raise NetworkError(f"Conv padding={self.padding!r}: want 'SAME' or 'VALID'")

    def __str__(self) -> str:
        stride = f"S{self.stride}" if self.stride > 1 else ""
        return f"{self.channels}C{self.kernel}{stride}{'V' if self.padding == 'VALID' else ''}"


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
class Flatten:
    """(height, width, channels) -> (height * width * channels), row-major; nothing is computed."""

    def __str__(self) -> str:
        return "F"


Spec = Dense | Conv | MaxPool | Flatten
