"""The closed set of what a layer may be made of: who takes a network says which, and refuses the rest."""

from __future__ import annotations

from enum import Enum

from wage_neuro.layers import Layer
from wage_neuro.specs import AvgPool, Conv, Dense, MaxPool, assert_never


class Kind(Enum):
    """What a layer may have; the value is what a refusal calls it."""

    DENSE = "dense layer"
    UNQUANTIZED = "unquantized layer"
    CONV = "convolution"
    MAX_POOL = "max-pooling"
    AVERAGE_POOL = "average pooling"
    NORMALISED = "normalised layer"
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
        case AvgPool():
            kinds.add(Kind.AVERAGE_POOL)
        case _:
            assert_never(layer.pool)
    if layer.normalised:
        kinds.add(Kind.NORMALISED)
    if any(layer.pool_padding):
        kinds.add(Kind.PADDED_POOL)
    return frozenset(kinds)
