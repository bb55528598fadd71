"""The closed set of what a layer may be made of: who takes a network says which, and refuses the rest."""

from __future__ import annotations

import sys
from enum import Enum

from wage_neuro.layers import Layer
from wage_neuro.specs import Conv, Dense, MaxPool

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing import NoReturn

    def assert_never(value: NoReturn) -> NoReturn:
        """Say to mypy that nothing is left, and to who comes here all the same what was."""
        raise AssertionError(f"{value!r}: a kind that nobody has thought of here")


__all__ = ["Kind", "assert_never", "kinds_of"]


class Kind(Enum):
    """What a layer may have; the value is what a refusal calls it."""

    DENSE = "dense layer"
    UNQUANTIZED = "unquantized layer"
    CONV = "convolution"
    MAX_POOL = "max-pooling"
    PADDED_POOL = "incomplete pooling windows (want it without the P)"


def kinds_of(layer: Layer) -> frozenset[Kind]:
    """Return all that a layer has.

    >>> from wage_neuro.network import Network
    >>> lenet = Network.parse("lenet", (28, 28, 1), 10)
    >>> sorted(kind.name for kind in kinds_of(lenet.layers[0]))
    ['CONV', 'MAX_POOL']
    """
    kinds = set()
    match layer.spec:
        case Dense(quantized=quantized):
            kinds.add(Kind.DENSE if quantized else Kind.UNQUANTIZED)
        case Conv():
            kinds.add(Kind.CONV)
        case _:
            assert_never(layer.spec)
    match layer.pool:
        case None:
            pass
        case MaxPool():
            kinds.add(Kind.MAX_POOL)
        case _:
            assert_never(layer.pool)
    if any(layer.pool_padding):
        kinds.add(Kind.PADDED_POOL)
    return frozenset(kinds)
