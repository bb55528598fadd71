"""Latent replay: first layers stay as they were drawn, and the memory keeps their codes in place of images.

Source: latent replay, Pellegrini et al., arXiv:1912.01100; in few bits, Ravaglia et al., arXiv:2110.10486.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from wage_neuro import layers
from wage_neuro.errors import SettingError
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.specs import Conv, Dense
from wage_neuro.state import State
from wage_neuro.train import PREDICT_PART, visible_weights

CODE_BITS = 8  # of an activation that a grey level can stand for


@dataclass(frozen=True, eq=False)
class Below:
    """The first layers of a network, which never learn, and the network above them.

    For that one their codes are images: the grey level that it encodes as a code stands for it. It draws its
    random bits as a network by itself does.

    Attributes
    ----------
    network : the whole one
    number : layers that are below
    state : of the whole one, of which only the layers below are read
    """

    network: Network
    number: int
    state: State

    def __post_init__(self) -> None:
        if not 0 < self.number < len(self.network.layers):
            last = len(self.network.layers) - 1
            raise SettingError(
                f"latent={self.number}: want 1..{last}, {self.network} has no other layer below"
            )
        if self.network.bits.k_A > CODE_BITS:
            raise SettingError(
                f"latent={self.number} with bits {self.network.bits}: a code of {self.network.bits.k_A} bits"
                f" is no grey level, want {CODE_BITS} or fewer"
            )

    @cached_property
    def above(self) -> Network:
        """The layers that learn, as a network."""
        specs = list(self.network.specs)
        places = [i for i, spec in enumerate(specs) if isinstance(spec, Conv | Dense)]
        begin = places[self.number]
        shape = self.network.layers[self.number].in_shape
        return Network(tuple(specs[begin:]), shape, self.network.bits)

    @cached_property
    def _grey(self) -> np.ndarray:
        """The first grey level that is encoded as each code."""
        codes = range(self.network.bits.activation_max + 1)
        return np.searchsorted(self.above.input_codes, codes).astype(np.uint8)

    def see(self, images: np.ndarray) -> np.ndarray:
        """(n, *shape) uint8 grey levels that stand for the codes of (n, ...) uint8 images."""
        V, parts = self._visible, []
        for i in range(0, len(images), PREDICT_PART):
            a = self.network.encode(images[i : i + PREDICT_PART])
            for layer in self.network.layers[: self.number]:
                a, _ = layers.forward(layer, V[layer.index], a.reshape(len(a), *layer.in_shape))
            parts.append(self._grey[a.reshape(len(a), *self.above.input_shape)])
        return np.concatenate(parts)

    @cached_property
    def _visible(self) -> list[np.ndarray]:
        return visible_weights(self.network, self.state)

    def upper(self, state: State) -> State:
        """State of the network above, of the whole one's."""
        return replace(state, layers=state.layers[self.number :])

    def whole(self, state: State, rules: Rules) -> State:
        """State of the whole network, of that above."""
        own = self.network.layers[: self.number]
        held = [layers.no_importance(layer, rules) for layer in own]
        below = [replace(each, importance=h) for each, h in zip(self.state.layers, held, strict=False)]
        return replace(state, layers=(*below[: self.number], *state.layers))
