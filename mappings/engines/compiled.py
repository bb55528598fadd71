"""The compiled engine: the numpy engine's bits from the library of `wage_neuro.kernels`."""

from __future__ import annotations

import numpy as np

from wage_neuro.control import Control, control_of
from wage_neuro.engine import IN_TEAM, RecallingEngine
from wage_neuro.kernels.native import NativeNet
from wage_neuro.kinds import Kind
from wage_neuro.network import Network
from wage_neuro.rules import VALUES, Rules
from wage_neuro.support import ABILITIES, Support
from wage_neuro.team import ALONE, Team
from wage_neuro.train import State, consolidated, initial_state


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

    >>> from wage_neuro.specs import Dense
    >>> net = Network((Dense(2),), (3,))
    >>> with CompiledEngine(net, Rules(batch=4)) as engine:
    ...     logits = engine.train(np.full((8, 3), 200, np.uint8), np.array([0, 1] * 4), log2_eta=0)
    >>> logits.shape, engine.state.step
    ((8, 2), 2)
    """

    name = "compiled"
    supports = Support(
        who="engine 'compiled'",
        kinds=frozenset(Kind),
        rules=VALUES,
        abilities=frozenset(ABILITIES) - {"holds the memory"},
        options=IN_TEAM,
    )

    def __init__(
        self,
        network: Network,
        rules: Rules | None = None,
        seed: int = 0,
        state: State | None = None,
        team: Team = ALONE,
    ) -> None:
        super().__init__(network, rules, team)
        self.net = NativeNet(network, self.rules, state or initial_state(network, seed), team=team)
        self.watch(0)

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
