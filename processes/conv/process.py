"""WageConv: a convolutional WAGE layer, with its pooling, as a Lava Process."""

from __future__ import annotations

from typing import Any

from processes.alone import conv_layer
from processes.layer_process import LayerSettings, WageLayer
from wage_neuro.layers import Layer
from wage_neuro.specs import Conv, MaxPool


class WageConv(WageLayer):
    """Convolution, max-pooling and activation in one Process; ports, Vars and further keywords as WageDense.

    Weight shape (kernel, kernel, c_in, c_out).

    Parameters
    ----------
    in_shape : (height, width, channels); or a network's layer, in the place of all these
    conv : Conv(channels, kernel, stride, padding)
    pool : MaxPool(size, stride, padding), if any
    bits, index : as of WageDense

    >>> WageConv((28, 28, 1), Conv(16, 5), MaxPool(2)).a_out.shape
    (14, 14, 16)
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int] | Layer,
        conv: Conv | None = None,
        pool: MaxPool | None = None,
        *,
        bits: str = "2888",
        index: int = 0,
        **settings: Any,
    ) -> None:
        if not isinstance(in_shape, Layer):
            assert conv
            in_shape = conv_layer(in_shape, conv, pool, bits=bits, index=index)
        super().__init__(in_shape, LayerSettings(**settings))
