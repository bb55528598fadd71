"""Engines without a WAGE layer at the end: fixed layers make codes, by which something else answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wage_neuro import layers
from wage_neuro.activity import Activity, Watch, count_forward
from wage_neuro.control import Control
from wage_neuro.engine import Engine
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.train import PREDICT_PART, State, visible_weights


class ReadOutEngine(Engine):
    """Fixed layers below something that answers in the place of the last layer.

    The last layer's weights are not used, and no rule of a layer that learns says anything here.
    """

    name = "numpy"

    def __init__(self, network: Network, rules: Rules, state: State) -> None:
        self.network, self.rules = network, rules
        self._state, self._V = state, visible_weights(network, state)
        self._watch = Watch(len(network.layers), 0)

    @property
    def _counts(self) -> np.ndarray | None:
        """Where to count what answers, if it is counted."""
        return self._watch.counts[-1] if self._watch.every else None

    def watch(self, every: int) -> None:
        """Count everything, or nothing if 0: there are no batches of which some could be counted."""
        self._watch = Watch(len(self.network.layers), every)

    def activity(self) -> Activity:
        return self._watch.take()

    @property
    def seen(self) -> int:
        """Samples learned."""
        raise NotImplementedError

    @property
    def state(self) -> State:
        """The layers below, which never change, and the number of samples learned."""
        return replace(self._state, step=self.seen)

    def train(
        self, images: np.ndarray, labels: np.ndarray, log2_eta: int | Control, *, last: str = "refuse"
    ) -> np.ndarray:
        """Learn samples one after another, which fill no batches; see `learn`."""
        return self.learn(images, labels, log2_eta)

    def features(self, images: np.ndarray) -> np.ndarray:
        """(n, features) codes of (n, ...) uint8 images."""
        n, parts = len(images), []
        for i in range(0, n, PREDICT_PART):
            a = self.network.encode(images[i : i + PREDICT_PART])
            for layer in self.network.layers[:-1]:
                a_in = a.reshape(len(a), *layer.in_shape)
                a, _ = layers.forward(layer, self._V[layer.index], a_in)
                if self._watch.every:
                    count_forward(self._watch.counts[layer.index], layer, self._V[layer.index], a_in, a)
            parts.append(a.reshape(len(a), -1))
        self._watch.samples += n if self._watch.every else 0
        return np.concatenate(parts)
