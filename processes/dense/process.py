"""WageDense: a fully connected WAGE layer as a Lava Process."""

from __future__ import annotations

from typing import Any

from processes.alone import dense_layer
from processes.layer_process import LayerSettings, WageLayer
from wage_neuro.layers import Layer


class WageDense(WageLayer):
    """Fully connected WAGE layer that learns; ports and Vars as WageLayer, further keywords as LayerSettings.

    Parameters
    ----------
    shape : (n_in, n_out), the weights' shape; or a network's layer, in the place of all these
    bits : k_W, k_A, k_G, k_E, as "2888"
    last : whether it sends its products to a loss, at `z_out`, and not activations to another layer
    index : names its random bits; 0 sends no error down

    In a graph of one's own, with a loss right above:

    >>> WageDense((784, 10), last=True).a_in.shape
    (784,)
    """

    def __init__(
        self,
        shape: tuple[int, int] | Layer,
        *,
        bits: str = "2888",
        last: bool = False,
        index: int = 0,
        **settings: Any,
    ) -> None:
        if not isinstance(shape, Layer):
            shape = dense_layer(*shape, bits=bits, last=last, index=index)
        super().__init__(shape, LayerSettings(**settings))
