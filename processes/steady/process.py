"""Steady: makes one message a step of a port that is silent at times."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess


class Steady(AbstractProcess):
    """Stands between a port that does not send in every time step and a Process that receives in each.

    Ports
    -----
    a_in : messages, or none
    a_out : the message of the time step before, or zeros
    """

    def __init__(self, shape: tuple[int, ...], name: str = "steady") -> None:
        super().__init__(shape=shape, name=name)
        self.a_in = InPort(shape=shape)
        self.a_out = OutPort(shape=shape)
