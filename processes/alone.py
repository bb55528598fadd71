"""What Processes that stand in anybody's graph have in common: their clock, their defaults, their checks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from lava.magma.compiler.compiler_graphs import find_processes
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.process import AbstractProcess

from wage_neuro.bits import Bits
from wage_neuro.errors import BitWidthError, EngineError, SettingError
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.schedule import Schedule
from wage_neuro.specs import Conv, Dense, Flatten, MaxPool, Spec, assert_never

ONLINE = Rules(batch=1, shift="held", update="ternary", loss="one-sided", margin=3, pipelined=True)
"""The on-chip rules: a sample a step, held exponents, steps of one."""


@dataclass(frozen=True)
class Stream:
    """A sample every time step, without an end, as Lava's own Processes send: one message a port and step.

    Parameters
    ----------
    delay : int
        Time steps from a sample's arrival at a layer to its error's: 2 under the loss, 2 more a layer
        between.
    start : int
        Time steps before the first sample arrives: the layers below. It only names random bits.
    """

    delay: int = 2
    start: int = 0

    def __post_init__(self) -> None:
        for name, least in (("delay", 2), ("start", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise SettingError(f"{name}={value!r}: want a whole number of time steps >= {least}")

    @property
    def first_step(self) -> int:
        """`update_step` at the beginning: 0 is when the first sample's error comes."""
        return -(self.start + self.delay)


def stream_of(clock: Schedule | Stream) -> Stream | None:
    """The clock of a layer that stands alone; None of one in an engine's graph, which has a schedule."""
    match clock:
        case Schedule():
            return None
        case Stream():
            return clock
        case _:
            assert_never(clock)


class Alone(AbstractProcess):
    """A Process that stands in a graph of one's own: its ports must be connected before it is compiled."""

    _runtime = None  # Lava asks a Process for it that has failed to be built, too

    def wanted(self) -> dict[str, str]:
        """Ports that something must send to, and why."""
        return {}

    def compile(self, *args: Any, **settings: Any) -> Any:
        """As Lava's, of a graph whose ports are connected."""
        require_connected(self)
        return super().compile(*args, **settings)

    def require_connected(self) -> None:
        """Raise EngineError if nobody sends to a port that it receives from."""
        for name, reason in self.wanted().items():
            port: InPort = getattr(self, name)
            if not port.get_src_ports():
                raise EngineError(f"{self.name}: nothing sends to its port {name}; {reason}")


def require_connected(process: AbstractProcess) -> None:
    """Raise EngineError if nobody sends to a port of a Process of ours in a graph."""
    for each in find_processes(process):
        if isinstance(each, Alone):
            each.require_connected()


def dense_layer(n_in: int, n_out: int, *, bits: str = "2888", last: bool = False, index: int = 0) -> Layer:
    """A fully connected layer by itself; see `WageDense`.

    >>> str(dense_layer(784, 512)), dense_layer(512, 10, last=True).out_shape
    ('512FC', (10,))
    """
    layer = Network((Dense(n_out),), (n_in,), Bits.parse(bits)).layers[0]
    return replace(layer, is_last=last, index=_checked_index(index))


def conv_layer(
    in_shape: tuple[int, ...], conv: Conv, pool: MaxPool | None, *, bits: str, index: int
) -> Layer:
    """A convolution, with its pooling, by itself; see `WageConv`."""
    specs: tuple[Spec, ...] = (conv, pool, Flatten(), Dense(1)) if pool else (conv, Flatten(), Dense(1))
    layer = Network(specs, in_shape, Bits.parse(bits)).layers[0]
    return replace(layer, index=_checked_index(index))


def _checked_index(index: object) -> int:
    if type(index) is not int or index < 0:
        raise SettingError(f"index={index!r}: want a whole number >= 0")
    return index


def require_one_lane(lanes: object) -> None:
    """Raise SettingError unless a Process that stands alone takes one sample a time step."""
    if lanes != 1:
        raise SettingError(
            f"lanes={lanes!r}: want 1, a Process that stands alone takes one sample a time step"
        )


def fitted(message: np.ndarray, low: int, high: int, where: str) -> np.ndarray:
    """Return a message as whole numbers of a port's width.

    Raises
    ------
    BitWidthError
        If a value is past it, or no whole number.

    >>> fitted(np.array([0.0, 127.0]), 0, 127, "a_in").tolist()
    [0, 127]
    >>> fitted(np.array([3, 128]), 0, 127, "layer 0: a_in")
    Traceback (most recent call last):
    wage_neuro.errors.BitWidthError: layer 0: a_in=128: want whole numbers in 0..127
    """
    whole = message if message.dtype.kind in "iu" else np.rint(message)
    bad = (message != whole) | (message < low) | (message > high)
    if bad.any():
        raise BitWidthError(f"{where}={message[bad][0]}: want whole numbers in {low}..{high}")
    return whole.astype(np.int64)
