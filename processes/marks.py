"""What a behavioural model of ours says of itself: integers, on a CPU, in the phases of Loihi's protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

Model = TypeVar("Model", bound=type[Any])


def model_of(process: type[Any]) -> Callable[[Model], Model]:
    """Mark a class as the fixed-point model of a Process."""

    def mark(model: Model) -> Model:
        marked: Model = requires(CPU)(tag("fixed_pt")(model))
        return implements(proc=process, protocol=LoihiProtocol)(marked)

    return mark
