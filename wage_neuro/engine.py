"""What an engine is, and the numpy engine.

An engine holds a network while it learns. Engines differ in where the work is done, never in a bit of
the result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, NoReturn, TypeVar

import numpy as np

from wage_neuro import normal
from wage_neuro.activity import FIELDS, Activity, Watch
from wage_neuro.control import Control, control_of
from wage_neuro.errors import DataError, SettingError
from wage_neuro.kinds import Kind
from wage_neuro.layers import SPARED
from wage_neuro.memory import Replay, Reservoir
from wage_neuro.network import Network
from wage_neuro.passes import NUMPY, Passes
from wage_neuro.rules import VALUES, Rules
from wage_neuro.settings import SIMULATOR, setting
from wage_neuro.state import State, consolidated, initial_state
from wage_neuro.support import ABILITIES, Support
from wage_neuro.team import ALONE, Team, check_team
from wage_neuro.train import Batch, Learner, visible_weights

Entered = TypeVar("Entered", bound="Engine")


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What an engine is told beside network, rules and state; one that is told more inherits this."""


@dataclass(frozen=True, kw_only=True)
class InTeam(EngineOptions):
    """Of an engine that can be one of several."""

    team: Team = setting(ALONE, "processes that learn every batch together", SIMULATOR)


class Engine(ABC):
    """Where a network learns and answers.

    An engine of one's own inherits this, says in `supports` what it takes, and calls `super().__init__`,
    which refuses the rest. What an ability stands for must be there, and only then: see ABILITIES. It is
    built with network, rules and `state=` (or `seed=`), and where it has `Options`, `options=` of them.

    Parameters
    ----------
    network : Network
    rules : Rules, optional
        The paper's, if none are given.
    options : of the class's `Options`, optional

    Raises
    ------
    NetworkError, SettingError
        If the network or a rule is not of `supports`, or a gradient sum might not be exact.
    """

    name: ClassVar[str]
    supports: ClassVar[Support]
    Options: ClassVar[type[EngineOptions]] = EngineOptions
    network: Network
    rules: Rules
    replay: Replay | None = None
    """The memory that the engine holds, if it does."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "supports" not in vars(cls):
            return
        for ability, methods in ABILITIES.items():
            have = {getattr(cls, method) is not getattr(Engine, method) for method in methods}
            if have != {ability in cls.supports.abilities}:
                says = "says" if ability in cls.supports.abilities else "does not say"
                raise TypeError(f"{cls.__name__} {says} that it {ability}: {', '.join(methods)}")

    def __init__(
        self, network: Network, rules: Rules | None = None, options: EngineOptions | None = None
    ) -> None:
        options = options or self.Options()
        self.network, self.rules = network, rules or Rules()
        self.team = options.team if isinstance(options, InTeam) else ALONE
        check_team(self.rules, self.team)
        for layer in network.layers if self.team.size > 1 else ():
            if layer.normalised:
                raise SettingError(f"layer {layer.index} {layer} on {self.team.size} ranks: want one rank")
        self.supports_of(**vars(options)).check(network, self.rules)
        prove_gradients(network, self.rules)

    @classmethod
    def supports_of(cls, **options: Any) -> Support:
        """What an engine takes that is built with these options."""
        return cls.supports

    def train(
        self, images: np.ndarray, labels: np.ndarray, log2_eta: int | Control, *, last: str = "refuse"
    ) -> np.ndarray:
        """Learn batches in the order given.

        Parameters
        ----------
        images : (n, ...) uint8 grey levels; in a team its own rows of each batch, `own_rows` of them
        labels : (n,) whole numbers
        log2_eta : log2 of the step size, or a `Control` of each layer's own step size and hold
        last : 'refuse', 'drop' or 'pad'
            What is done with samples at the end that fill no batch: nothing is learned and SettingError
            raised; they are left out; or the first samples are learned again to fill it up.

        Returns
        -------
        (n, classes) int64 logits that each batch had before its update, of no sample that was left out

        Raises
        ------
        DataError, SettingError
            If the network cannot learn from these.
        """
        n, rows = len(images), own_rows(self.rules, self.team)
        whole = whole_batches(n, rows, last)
        if whole is not None and len(labels) == n:
            images, labels = images[whole], labels[whole]
        check_training_input(self.network, self.rules, Batch(images, labels), log2_eta, self.team)
        return self.learn(images, labels, log2_eta)[:n]

    @abstractmethod
    def learn(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        """Learn whole batches that are checked, as `train` does."""

    @abstractmethod
    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return (n, classes) int64 logits of (n, ...) uint8 images; nothing is learned."""

    @property
    @abstractmethod
    def state(self) -> State:
        """Everything that training has changed so far."""

    @property
    def V(self) -> tuple[np.ndarray, ...]:
        """Visible weights of each layer, k_W-bit codes: -1, 0 and 1 of ternary ones."""
        return tuple(visible_weights(self.network, self.state))

    # --- abilities ---

    def _refuse(self, method: str, ability: str) -> NoReturn:
        raise SettingError(f"{method}: engine {self.name!r} is none that {ability}")

    def watch(self, every: int) -> None:
        """Count the activity of every `every`-th update step, and of all predictions; 0 counts nothing."""
        if every:
            self._refuse(f"watch every={every}", "counts activity")

    def activity(self) -> Activity:
        """Return what was counted since the last call."""
        return Activity(0, np.zeros((len(self.network.layers), len(FIELDS)), np.int64))

    def train_recalling(
        self, images: np.ndarray, labels: np.ndarray, former: np.ndarray, control: int | Control
    ) -> np.ndarray:
        """Learn as `train`, and draw the logits of each sample to `former`, (n, classes) int64.

        `layers.UNKNOWN` stands where a logit is not known: nothing is drawn there; `layers.SPARED` where an
        output gets no error.
        """
        self._refuse("train_recalling", "recalls former logits")

    def consolidate(self, updates: int) -> None:
        """Hold on to the synapses that moved most in the last `updates`; see `layers.consolidate`."""
        self._refuse("consolidate", "consolidates")

    def train_new(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        """Learn `replay.step` new samples, then those that the engine recalls for them, and so on.

        images : (n, ...) uint8 new samples, n a multiple of the step; with the recalled ones of the batch.
        Returns the int64 logits of new and recalled samples in the order of learning.
        """
        self._refuse("train_new", "holds the memory")

    def read_memory(self) -> Reservoir:
        """Return a copy of what the memory holds now."""
        self._refuse("read_memory", "holds the memory")

    # --- its end ---

    def close(self) -> None:  # noqa: B027  (most engines hold nothing)
        """Free what the engine holds, if anything; it cannot be used afterwards."""

    def __enter__(self: Entered) -> Entered:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def whole_batches(n: int, batch: int, last: str) -> np.ndarray | None:
    """Places of the samples that are learned of n, in whole batches; None if nothing is to be done.

    >>> whole_batches(5, 4, "drop").tolist(), whole_batches(5, 4, "pad").tolist()
    ([0, 1, 2, 3], [0, 1, 2, 3, 4, 0, 1, 2])

    Raises
    ------
    SettingError
        If `last` is nothing that can be done.
    """
    if last not in ("refuse", "drop", "pad"):
        raise SettingError(f"last={last!r}: want refuse, drop or pad")
    if n % batch == 0 or last == "refuse":
        return None
    return np.arange(n - n % batch) if last == "drop" else np.resize(np.arange(n), n + -n % batch)


def check_training_input(
    network: Network, rules: Rules, given: Batch, control: int | Control, team: Team = ALONE
) -> None:
    """Raise DataError or SettingError unless these are whole batches that the network can learn from."""
    images, labels, _ = given
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


def check_former(network: Network, rules: Rules, former: np.ndarray, n: int) -> None:
    """Raise DataError unless these are former logits of n samples, each within the bounds of Z, UNKNOWN or
    SPARED.

    Raises SettingError for softmax, whose error has not the units of logits.
    """
    if rules.loss == "softmax":
        raise SettingError("loss='softmax' with former logits: want 'sse' or 'one-sided'")
    if former.shape != (n, network.classes) or former.dtype != np.int64:
        raise DataError(
            f"former logits of {former.dtype} and shape {former.shape}: want int64 {(n, network.classes)}"
        )
    bound = network.layers[-1].z_bound
    bad = (former > SPARED) & ((former > bound) | (former < -bound))
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
        if layer.normalised:
            above = network.layers[layer.index + 1]
            arriving = max(above.d_bound, network.classes * above.bits.error_max)
            normal.prove(layer, rules.samples_an_update, arriving)


class RecallingEngine(Engine):
    """An engine in this process that takes former logits in, and counts by a `Watch`."""

    Options = InTeam

    def __init__(
        self,
        network: Network,
        rules: Rules | None = None,
        seed: int = 0,
        state: State | None = None,
        options: InTeam | None = None,
    ) -> None:
        super().__init__(network, rules, options)
        self._begin(state or initial_state(network, seed))
        self.watch(0)

    @abstractmethod
    def _begin(self, state: State) -> None:
        """Go on from a state."""

    def learn(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        return self._train(images, labels, None, control)

    def train_recalling(
        self, images: np.ndarray, labels: np.ndarray, former: np.ndarray, control: int | Control
    ) -> np.ndarray:
        check_training_input(self.network, self.rules, Batch(images, labels), control, self.team)
        check_former(self.network, self.rules, former, len(images))
        return self._train(images, labels, former, control)

    @abstractmethod
    def _train(
        self, images: np.ndarray, labels: np.ndarray, former: np.ndarray | None, control: int | Control
    ) -> np.ndarray:
        """Learn whole batches; `former` None where nothing is recalled."""

    def watch(self, every: int) -> None:
        self._watch = Watch(len(self.network.layers), every)

    def activity(self) -> Activity:
        return self._watch.take(self.team)


class NumpyEngine(RecallingEngine):
    """The oracle's own step in this process: `wage_neuro.train.train_step`, batch after batch.

    >>> net = Network.parse("2FC", (3,))
    >>> with NumpyEngine(net, Rules(batch=4)) as engine:
    ...     logits = engine.train(np.full((8, 3), 200, np.uint8), np.array([0, 1] * 4), log2_eta=0)
    >>> logits.shape, engine.state.step
    ((8, 2), 2)
    """

    name = "numpy"
    supports = Support(
        who="engine 'numpy'",
        kinds=frozenset(Kind),
        rules=VALUES,
        abilities=frozenset(ABILITIES) - {"holds the memory"},
    )

    def _begin(self, state: State) -> None:
        self._learner = Learner(self.network, state, self.rules, team=self.team, passes=self.passes)

    @property
    def passes(self) -> Passes:
        """In whose arrays it works."""
        return NUMPY

    @property
    def state(self) -> State:
        return self._learner.state

    def _train(
        self, images: np.ndarray, labels: np.ndarray, former: np.ndarray | None, control: int | Control
    ) -> np.ndarray:
        logits = np.empty((len(images), self.network.classes), np.int64)
        rows, self._learner.watch = own_rows(self.rules, self.team), self._watch
        for i in range(0, len(images), rows):
            part = slice(i, i + rows)
            stay = None if former is None else former[part]
            batch = Batch(self.network.encode(images[part]), labels[part], stay)
            logits[part] = self._learner.learn(batch, control)
        return logits

    def predict(self, images: np.ndarray) -> np.ndarray:
        self._learner.watch = self._watch
        return self._learner.predict(self.network.encode(images))

    def consolidate(self, updates: int) -> None:
        self._learner.go_on_from(consolidated(self.network, self.state, updates, self.rules))
