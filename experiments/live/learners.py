"""The networks of a session: one learns what comes, the other recalls as much from a memory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from wage_neuro.checkpoint import Checkpoint
from wage_neuro.control import Control
from wage_neuro.engine import Engine
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.memory import Reservoir
from wage_neuro.specs import Dense
from wage_neuro.state import State, initial_state

NAMES = "without memory", "with memory"
Build = Callable[[State], Engine]


class Learner:
    """A network that learns on an engine, what is new alone or with as much from a memory.

    Parameters
    ----------
    build : makes the engine that goes on from a state
    memory : what it recalls from; None recalls nothing
    """

    def __init__(self, build: Build, state: State, memory: Reservoir | None = None) -> None:
        self._build, self.memory = build, memory
        self.engine, self._state = build(state), state
        self._fresh = True
        self._failure: EngineError | None = None

    def learn(self, images: np.ndarray, labels: np.ndarray, control: Control) -> None:
        """Learn whole batches of samples; EngineError if the engine has failed, now or when last asked."""
        if self._failure:
            raise self._failure
        if self.memory:
            step = max(1, self.engine.rules.batch // 2)
            mixed = self.memory.interleave(images, labels, step)
            images, labels = mixed.images, mixed.labels
        self._fresh = False
        self.engine.train(images, labels, control)

    @property
    def state(self) -> State:
        """What it has learned; where the engine has failed, up to when it was last asked."""
        if not self._fresh:
            try:
                self._state = self.engine.state
            except EngineError as error:
                self._failure = error
            self._fresh = True
        return self._state

    def kept(self) -> tuple[State, Reservoir | None]:
        """All that `put_back` needs."""
        return self.state, copy.deepcopy(self.memory)

    def put_back(self, kept: tuple[State, Reservoir | None]) -> None:
        """Go on from a state of before, in a new engine."""
        self.engine.close()
        self._state, self.memory = kept[0], copy.deepcopy(kept[1])
        self._fresh, self._failure = True, None
        self.engine = self._build(self._state)


def check_memory(size: int, batch: int) -> None:
    """Raise SettingError unless new samples and recalled ones can share a batch."""
    if size < 1:
        raise SettingError(f"memory={size}: want room for 1 sample or more")
    if batch > 1 and batch % 2:
        raise SettingError(f"batch={batch} with a memory: want 1 or an even batch, half of it recalled")


def with_outputs(saved: Checkpoint, more: int) -> Checkpoint:
    """The same network with outputs for more classes, whose weights are drawn as those of a new network.

    Raises
    ------
    SettingError
        If its rules tie something else to the outputs: fixed feedback, or importance.

    >>> from wage_neuro import Network, Rules
    >>> net = Network.parse("4FC", (3,), 2)
    >>> wide = with_outputs(Checkpoint(net, Rules(), initial_state(net)), 1)
    >>> str(wide.network), wide.state.S[1].shape
    ('4FC-3FC', (4, 3))
    """
    network, state = saved.network, saved.state
    if saved.rules.feedback != "transposed" or state.importance:
        raise SettingError(
            f"feedback={saved.rules.feedback!r}, consolidation={saved.rules.consolidation}: such a network"
            " takes no new outputs; want transposed feedback and no importance"
        )
    last = network.specs[-1]
    assert isinstance(last, Dense)
    specs = (*network.specs[:-1], replace(last, units=last.units + more))
    wide = replace(network, specs=specs)
    S = initial_state(wide, state.seed).S[-1]
    S[:, : last.units] = state.S[-1]
    return replace(saved, network=wide, state=state.having(S=[*state.S[:-1], S]))
