"""What is done to the arrays of a layer, in the arrays of one library: numpy's, here.

`learner` knows the order of the work and the whole numbers that steer it: peaks, exponents, step sizes. All
that is done to arrays it takes from here. A set of kernels in another library inherits `Passes`, says how
arrays get there (`own`) and back (`host`), and brings passes of its own: forward, backward and the update.
Whatever it leaves is done by numpy on the host, so that it has every rule from the first day.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wage_neuro import layers, normal
from wage_neuro.feedback import arriving_error
from wage_neuro.fixed_point import peak
from wage_neuro.layers import Draw, Kept, Layer, Move
from wage_neuro.rules import Rules

Array = Any
"""Of a set's own library; of the shape and the integers that `layers` says, codes in its dtype too."""


class Passes:
    """numpy's: the functions of `layers`.

    >>> Passes().peak(np.array([3, -7]))
    7
    """

    def own(self, x: np.ndarray) -> Array:
        """Take an array into this library; it stays as it is."""
        return x

    def host(self, x: Array) -> np.ndarray:
        """Bring an array back, which may share its memory and is not to be written to."""
        found: np.ndarray = x
        return found

    def kept_on_host(self, kept: Kept) -> Kept:
        """Bring back what a forward pass has kept."""
        found: dict[str, Any] = {name: None if x is None else self.host(x) for name, x in vars(kept).items()}
        return Kept(**found)

    # --- what another library has of its own: see `layers` ---

    def visible_weights(self, layer: Layer, S: Array) -> Array:
        """(fan_in, n_out) visible weights, as the products want them."""
        return layers.visible_weights(layer, S)

    def forward(
        self, layer: Layer, V: Array, a_in: Array, norm: np.ndarray | None = None
    ) -> tuple[Array, Kept]:
        """Activation codes, or the products of the last layer."""
        return layers.forward(layer, V, a_in, norm)

    def arriving_error(self, layer: Layer, message: Array, B: Array | None, rules: Rules) -> Array:
        """Error D at the output of a layer."""
        return arriving_error(layer, message, B, rules)

    def mask_saturated(self, kept: Kept, D: Array) -> int:
        """Zero D in place where the activation saturated; return the peak that is left."""
        return layers.mask_saturated(kept, D)

    def peak(self, x: Array) -> int:
        """Largest magnitude."""
        return peak(x)

    def error_codes(self, layer: Layer, kept: Kept, D: Array, exponent: int | None) -> Array:
        """Q_E and ReLU's mask."""
        return layers.error_codes(layer, kept, D, exponent)

    def backward(
        self, layer: Layer, W_back: Array | None, kept: Kept, E: Array, factors: tuple[Array, Array] | None
    ) -> tuple[Array | None, Array | None]:
        """Gradient of the weights, and the error of the layer below."""
        return layers.backward(layer, W_back, kept, E, factors)

    # --- what any library has ---

    def spikes(self, layer: Layer, kept: Kept, E: Array, log2_eta: int, draw: Draw) -> tuple[Array, Array]:
        """Spikes of `layers.pre_spikes` and `post_spikes`."""
        pre = layers.pre_spikes(layer, self.host(kept.a_in), draw)
        post = layers.post_spikes(layer, self.host(E), log2_eta, draw)
        return self.own(pre), self.own(post)

    def project(self, norm: np.ndarray, kept: Kept, D: Array) -> Array:
        """Error of a normalised layer at Z."""
        return self.own(normal.project(norm, self.kept_on_host(kept), self.host(D)))

    def momentum_after(
        self, layer: Layer, M: Array, G: Array, exponent: int, rules: Rules
    ) -> tuple[Array, Array]:
        """Momentum after a batch with a gradient, and what takes the gradient's place."""
        after = layers.momentum_after(layer, self.host(M), self.host(G), exponent, rules)
        return self.own(after), self.own(after.reshape(G.shape).astype(np.float32))

    def update(self, layer: Layer, S: Array, G: Array, how: Move, rules: Rules) -> Array:
        """Stored weights after a batch; the given ones if nothing moves them."""
        return self.own(layers.update(layer, self.host(S), self.host(G), how, rules))


NUMPY = Passes()
