"""The compiled engine: the numpy engine's bits from the library of `wage_neuro.kernels`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wage_neuro.control import Control, control_of
from wage_neuro.engine import NumpyEngine, RecallingEngine
from wage_neuro.kernels.native import NativeNet
from wage_neuro.train import State, consolidated


class CompiledEngine(RecallingEngine):
    """An engine of compiled integer kernels; see `wage_neuro.engine.Engine`.

    Parameters
    ----------
    state : State, optional
        Where to go on from; otherwise the initial state of `seed`.

    Raises
    ------
    EngineError
        If the library is not there, or not of use.
    SettingError
        If a gradient of this batch may leave 53 bits, or a stored weight is outside the rules' range.

    >>> from wage_neuro import Dense, Network, Rules
    >>> net = Network.parse("2FC", (3,))
    >>> with CompiledEngine(net, Rules(batch=4)) as engine:
    ...     logits = engine.train(np.full((8, 3), 200, np.uint8), np.array([0, 1] * 4), log2_eta=0)
    >>> logits.shape, engine.state.step
    ((8, 2), 2)
    """

    name = "compiled"
    supports = replace(NumpyEngine.supports, who="engine 'compiled'")

    def _begin(self, state: State) -> None:
        self.net = NativeNet(self.network, self.rules, state, team=self.team)

    def _train(
        self, images: np.ndarray, labels: np.ndarray, former: np.ndarray | None, control: int | Control
    ) -> np.ndarray:
        controls = control_of(control).of_layers(len(self.network.layers), self.rules)
        return self.net.train(images, labels, former, controls, self._watch)

    def predict(self, images: np.ndarray) -> np.ndarray:
        self.network.check_images(images)
        return self.net.predict(images, self._watch)

    @property
    def state(self) -> State:
        return self.net.state

    def consolidate(self, updates: int) -> None:
        state = consolidated(self.network, self.state, updates, self.rules)
        self.net.set_importance(state.importance or ())
