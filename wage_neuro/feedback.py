"""The paths on which the error reaches the layers below.

- transposed: through the layer's own visible weights, as backpropagation has it. A chip's synapses are
  one-way, so there it takes a second, transposed copy that learns the same updates.
- random: through fixed random ternary weights in their place (feedback alignment).
- direct: the last layer sends its error to every hidden layer at once, each of which has fixed random ternary
  weights for it (direct feedback alignment).

Source: Lillicrap et al., Nature Communications 7, 13276 (2016); Noekland, arXiv:1609.01596.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import numpy as np

from wage_neuro import random_bits
from wage_neuro.fixed_point import carrier
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.rules import Rules

TERNARY_BITS = 2
_Array = TypeVar("_Array")  # of whatever library


def feedback_weights(layer: Layer, classes: int, rules: Rules, seed: int) -> np.ndarray | None:
    """Draw a layer's fixed feedback weights: -1, 0, 1, a third each.

    Returns
    -------
    random: (fan_in, n_out), in the place of the visible weights; of every layer that sends an error down
    direct: (classes, n_out), from the last layer's error to the outputs of this one; of every hidden layer
    None where there are none.
    """
    if rules.feedback == "random" and layer.index:
        return _draw(seed, layer.index, (layer.fan_in, layer.weight_shape[-1]), np.dtype(layer.d_dtype))
    if rules.feedback == "direct" and not layer.is_last:
        dtype = carrier(classes * layer.bits.error_max)
        return _draw(seed, layer.index, (classes, int(np.prod(layer.out_shape))), np.dtype(dtype))
    return None


def backward_weights(V: _Array, B: _Array | None, rules: Rules) -> _Array | None:
    """Return what a layer's error goes back through: its visible weights, fixed ones, or none."""
    if rules.feedback == "transposed":
        return V
    return B if rules.feedback == "random" else None


@lru_cache(maxsize=16)  # every step asks for them
def _draw(seed: int, layer: int, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    r = random_bits.bits16((seed, random_bits.FEEDBACK, layer, 0), 0, shape[0] * shape[1])
    B: np.ndarray = ((r.astype(np.int32) * 3 >> 16) - 1).astype(dtype).reshape(shape)
    B.setflags(write=False)
    return B


def arriving_error(layer: Layer, message: np.ndarray, B: np.ndarray | None, rules: Rules) -> np.ndarray:
    """Return the error D at a layer's output, (n, *out_shape), from the message that arrives there.

    message : with direct feedback, a hidden layer gets the (n, classes) error codes of the last layer;
    else (n, *out_shape) sums, which are D.
    """
    if rules.feedback == "direct" and not layer.is_last:
        assert B is not None
        message = message.astype(B.dtype) @ B
    return message.reshape(len(message), *layer.out_shape)


def leaving_error(layer: Layer, E: np.ndarray, D: np.ndarray | None, rules: Rules) -> np.ndarray | None:
    """Return what a layer sends on: the layer below's D, or with direct feedback the last layer's E."""
    if rules.feedback == "direct":
        return E if layer.is_last and layer.index else None
    return D


def feedback_memory(network: Network, feedback: str) -> tuple[int, int]:
    """Synapses of a feedback path on a chip, and the bits they need.

    transposed : a copy of every layer but the first, visible weight and stored weight, as it learns
    random : as many synapses, of a ternary weight alone
    direct : a ternary weight from every class to every output of a hidden layer

    Weights that a convolution shares are counted once.

    >>> network = Network.parse("512FC-10FC", (784,))
    >>> [feedback_memory(network, kind) for kind in ("transposed", "random", "direct")]
    [(5120, 51200), (5120, 10240), (5120, 10240)]
    """
    above, hidden = network.layers[1:], network.layers[:-1]
    if feedback == "direct":
        synapses = network.classes * sum(int(np.prod(layer.out_shape)) for layer in hidden)
    else:
        synapses = sum(layer.n_weights for layer in above)
    bits = network.bits
    return synapses, synapses * (bits.k_W + bits.k_G if feedback == "transposed" else TERNARY_BITS)
