"""What an engine is, and the numpy engine.

An engine holds a network while it learns. Engines differ in where the work is done, never in a bit of
the result.
"""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from wage_neuro.activity import Activity, Watch
from wage_neuro.control import Control, control_of
from wage_neuro.errors import DataError, SettingError
from wage_neuro.layers import UNKNOWN
from wage_neuro.memory import Replay, Reservoir
from wage_neuro.network import Network
from wage_neuro.pipeline import pipelined_step
from wage_neuro.rules import Rules
from wage_neuro.team import ALONE, Team, check_team
from wage_neuro.train import State, consolidated, importance_of, initial_state, predict, train_step

Entered = TypeVar("Entered")


class Engine(Protocol):
    """Where a network learns and answers."""

    network: Network
    rules: Rules

    def train(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        """Learn whole batches in the order given.

        images : (n, ...) uint8 grey levels, n a multiple of `rules.batch`, in a team its own rows of each
        batch; labels : (n,) whole numbers;
        control : log2 of the step size, or a `Control` of each layer's own step size and hold.
        Returns the (n, classes) int64 logits that each batch had before its update.
        """

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return (n, classes) int64 logits of (n, ...) uint8 images; nothing is learned."""

    @property
    def state(self) -> State:
        """Everything that training has changed so far."""

    def watch(self, every: int) -> None:
        """Count the activity of every `every`-th update step, and of all predictions; 0 counts nothing."""

    def activity(self) -> Activity:
        """Return what was counted since the last call."""

    def close(self) -> None:
        """Free what the engine holds, if anything; it cannot be used afterwards."""
        return

    def __enter__(self: Entered) -> Entered:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@runtime_checkable
class RecallingEngine(Engine, Protocol):
    """An engine that can also keep its answers to samples it has learned before."""

    def train_recalling(
        self, images: np.ndarray, labels: np.ndarray, former: np.ndarray, control: int | Control
    ) -> np.ndarray:
        """Learn as `train`, and draw the logits of each sample to `former`, (n, classes) int64.

        `layers.UNKNOWN` stands where a logit is not known: nothing is drawn there.
        """


class ReplayingEngine(Engine, Protocol):
    """An engine that holds the memory too, and recalls from it by itself."""

    replay: Replay | None

    def train_new(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        """Learn `replay.step` new samples, then as many that are recalled, and so on.

        images : (n, ...) uint8 new samples, n a multiple of the step, 2 n of the batch; labels : (n,).
        Returns the (2 n, classes) int64 logits, of new and recalled samples in the order of learning.
        """

    def read_memory(self) -> Reservoir:
        """Return a copy of what the memory holds now."""


@runtime_checkable
class ConsolidatingEngine(Engine, Protocol):
    """An engine that can be told that a task has ended."""

    def consolidate(self, updates: int) -> None:
        """Hold on to the synapses that moved most in the last `updates`; see `layers.consolidate`."""


def check_training_input(
    network: Network,
    rules: Rules,
    images: np.ndarray,
    labels: np.ndarray,
    control: int | Control,
    team: Team = ALONE,
) -> None:
    """Raise DataError or SettingError unless these are whole batches that the network can learn from."""
    network.check_images(images)
    network.check_labels(labels, len(images))
    rows = own_rows(rules, team)
    if len(images) % rows:
        whole = "the batch" if team.size == 1 else f"this rank's rows of the batch of {rules.batch}"
        raise SettingError(f"{len(images)} samples: want a multiple of {whole}, {rows}")
    control_of(control).of_layers(len(network.layers), rules)


def own_rows(rules: Rules, team: Team) -> int:
    """Samples of each batch that a member of a team learns."""
    rows = team.rows(rules.batch)
    return rows.stop - rows.start


def check_head(network: Network, rules: Rules) -> None:
    """Raise SettingError unless an unquantized last layer is asked to learn as one does."""
    if network.layers[-1].quantized:
        return
    for name, wanted in {"loss": "softmax", "update": "wide", "feedback": "transposed"}.items():
        if getattr(rules, name) != wanted:
            raise SettingError(
                f"{name}={getattr(rules, name)!r} with an unquantized last layer"
                f" ({network.layers[-1]}): want {wanted!r}"
            )


def check_former(network: Network, rules: Rules, former: np.ndarray, n: int) -> None:
    """Raise DataError unless these are former logits of n samples, each within the bounds of Z or UNKNOWN.

    Raises SettingError for softmax, whose error has not the units of logits.
    """
    if rules.loss == "softmax":
        raise SettingError("loss='softmax' with former logits: want 'sse' or 'one-sided'")
    if former.shape != (n, network.classes) or former.dtype != np.int64:
        raise DataError(
            f"former logits of {former.dtype} and shape {former.shape}: want int64 {(n, network.classes)}"
        )
    bound = network.layers[-1].z_bound
    bad = (former != UNKNOWN) & ((former > bound) | (former < -bound))
    if bad.any():
        raise DataError(f"former logit {former[bad][0]}: this network's stay within -{bound}..{bound}")


def prove_gradients(network: Network, rules: Rules) -> None:
    """Raise SettingError unless every gradient sum of a batch is exact, whatever the data."""
    for layer in network.layers:
        bound = layer.g_bound(rules.samples_an_update)
        if bound > 2**53:
            raise SettingError(
                f"batch={rules.batch} with bits {network.bits}: a gradient of layer {layer.index} {layer} may"
                f" reach {bound}, past the exact range of float64 (2**53)"
            )


class NumpyEngine(Engine):
    """The oracle's own step in this process: `wage_neuro.train.train_step`, batch after batch.

    >>> from wage_neuro.specs import Dense
    >>> net = Network((Dense(2),), (3,))
    >>> with NumpyEngine(net, Rules(batch=4)) as engine:
    ...     logits = engine.train(np.full((8, 3), 200, np.uint8), np.array([0, 1] * 4), control=0)
    >>> logits.shape, engine.state.step
    ((8, 2), 2)
    """

    name = "numpy"

    def __init__(
        self,
        network: Network,
        rules: Rules | None = None,
        seed: int = 0,
        state: State | None = None,
        team: Team = ALONE,
    ) -> None:
        self.network, self.team = network, team
        self.rules = rules or Rules()
        check_team(self.rules, team)
        check_head(network, self.rules)
        prove_gradients(network, self.rules)
        self._state = state or initial_state(network, seed)
        importance_of(network, self._state, self.rules)
        self.watch(0)

    @property
    def state(self) -> State:
        return self._state

    def train(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        return self._train(images, labels, None, control)

    def train_recalling(
        self, images: np.ndarray, labels: np.ndarray, former: np.ndarray, control: int | Control
    ) -> np.ndarray:
        check_former(self.network, self.rules, former, len(images))
        return self._train(images, labels, former, control)

    def _train(
        self, images: np.ndarray, labels: np.ndarray, former: np.ndarray | None, control: int | Control
    ) -> np.ndarray:
        check_training_input(self.network, self.rules, images, labels, control, self.team)
        logits = np.empty((len(images), self.network.classes), np.int64)
        step = pipelined_step if self.rules.pipelined else partial(train_step, team=self.team)
        rows = own_rows(self.rules, self.team)
        for i in range(0, len(images), rows):
            part = slice(i, i + rows)
            x = self.network.encode(images[part])
            self._state, logits[part] = step(
                self.network,
                self._state,
                x,
                labels[part],
                control,
                self.rules,
                self._watch,
                None if former is None else former[part],
            )
        return logits

    def predict(self, images: np.ndarray) -> np.ndarray:
        return predict(self.network, self._state, self.network.encode(images), self._watch)

    def consolidate(self, updates: int) -> None:
        self._state = consolidated(self.network, self._state, updates, self.rules)

    def watch(self, every: int) -> None:
        self._watch = Watch(len(self.network.layers), every)

    def activity(self) -> Activity:
        return self._watch.take(self.team)
