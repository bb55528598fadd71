"""Frozen layers: WAGE layers that answer and never learn."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.variable import Var

from processes.alone import Alone, conv_layer, dense_layer
from wage_neuro.errors import BitWidthError
from wage_neuro.layers import Layer
from wage_neuro.specs import Conv, MaxPool


class FrozenLayer(Alone):
    """A WAGE layer that answers one sample a time step, one step later.

    Ports
    -----
    a_in : in_shape, activation codes, k_A bits
    a_out : out_shape, activation codes, k_A bits; of a hidden layer
    z_out : out_shape, products Z, 32 bits; of the last layer

    Vars
    ----
    V : visible weights, weight_shape; codes of k_W bits: -1, 0, 1 for k_W = 2
    """

    def __init__(
        self, layer: Layer, weights: np.ndarray, signed_in: bool = False, name: str | None = None
    ) -> None:
        super().__init__(layer=layer, signed_in=signed_in, name=name or f"frozen {layer}")
        top = layer.bits.weight_max
        bad = (weights != np.rint(weights)) | (np.abs(weights) > top)
        if bad.any():
            raise BitWidthError(f"{self.name}: weight {weights[bad][0]}: want whole numbers in {-top}..{top}")
        self.a_in = InPort(shape=layer.in_shape)
        self.a_out = OutPort(shape=layer.out_shape)
        self.z_out = OutPort(shape=layer.out_shape)
        self.V = Var(shape=layer.weight_shape, init=weights.astype(np.int64))

    def wanted(self) -> dict[str, str]:
        """An input."""
        return {"a_in": "it wants a message every time step"}


class FrozenDense(FrozenLayer):
    """Fully connected; ports and Vars as FrozenLayer.

    weights : (n_in, n_out) visible weights
    last : whether it sends its products, at `z_out`
    """

    def __init__(
        self, weights: np.ndarray, *, bits: str = "2888", last: bool = False, signed_in: bool = False
    ) -> None:
        super().__init__(dense_layer(*weights.shape, bits=bits, last=last), weights, signed_in)


class FrozenConv(FrozenLayer):
    """Convolution, max-pooling and activation; ports and Vars as FrozenLayer.

    weights : (kernel, kernel, c_in, c_out) visible weights
    in_shape : (height, width); or a layer, of whatever stride and padding
    """

    def __init__(
        self,
        weights: np.ndarray,
        in_shape: tuple[int, int] | Layer,
        pool: MaxPool | None = None,
        *,
        bits: str = "2888",
        signed_in: bool = False,
    ) -> None:
        if not isinstance(in_shape, Layer):
            kernel, _, c_in, c_out = weights.shape
            in_shape = conv_layer((*in_shape, c_in), Conv(c_out, kernel), pool, bits=bits, index=0)
        super().__init__(in_shape, weights, signed_in)
