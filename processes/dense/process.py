"""WageDense: a fully connected WAGE layer as a Lava Process."""

from __future__ import annotations

from typing import Any

from processes.alone import dense_layer
from processes.layer_process import WageLayer
from wage_neuro.layers import Layer


class WageDense(WageLayer):
    """Fully connected WAGE layer that learns; ports, Vars and further keywords as WageLayer.

    Parameters
    ----------
    shape : (n_in, n_out), the weights' shape
    bits : k_W, k_A, k_G, k_E, as "2888"
    last : whether it sends its products to a loss, at `z_out`, and not activations to another layer
    index : names its random bits; 0 sends no error down
    layer : a network's, in the place of all these

    In a graph of one's own, with a loss right above:

    >>> WageDense((784, 10), last=True).a_in.shape
    (784,)
    """

    def __init__(
        self,
        shape: tuple[int, int] | None = None,
        *,
        bits: str = "2888",
        last: bool = False,
        index: int = 0,
        layer: Layer | None = None,
        **settings: Any,
    ) -> None:
        if layer is None:
            assert shape
            layer = dense_layer(*shape, bits=bits, last=last, index=index)
        super().__init__(layer, **settings)
