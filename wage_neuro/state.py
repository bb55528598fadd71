"""State: everything that training changes, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wage_neuro import layers, normal
from wage_neuro.errors import SettingError
from wage_neuro.fixed_point import log2_round
from wage_neuro.network import Network
from wage_neuro.random_bits import check_seed
from wage_neuro.room import check_weights
from wage_neuro.rules import Rules


@dataclass(frozen=True)
class Held:
    """A peak-hold exponent: up at once when a batch exceeds it, down by one after `hold` samples below it.

    Attributes
    ----------
    exponent : int or None
        m of Shift = 2**m; None before the first value that is not zero.
    below : int
        Samples since the exponent was last reached.

    >>> Held().after(peak=100, samples=1, hold=2)
    Held(exponent=7, below=0)
    >>> Held(7, 0).after(20, 1, 2).after(20, 1, 2)
    Held(exponent=6, below=0)
    """

    exponent: int | None = None
    below: int = 0

    def after(self, peak: int, samples: int, hold: int) -> Held:
        """Return the exponent for the next batch, after one of `samples` whose largest magnitude was `peak`.

        A batch of zeros says nothing about the scale and changes nothing.
        """
        if peak == 0:
            return self
        exponent = log2_round(peak)
        if self.exponent is None or exponent >= self.exponent:
            return Held(exponent, 0)
        below = self.below + samples
        return Held(self.exponent - 1, 0) if below >= hold else Held(self.exponent, below)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerState:
    """What one layer has learned.

    Attributes
    ----------
    S : stored weights, in units of sigma(k_G)
    error_held, gradient_held : exponents; used with shift='held'
    importance : (2, *weight_shape) uint16, see `layers.no_importance`; None where no weight is held on to
    momentum : weight_shape int16, see `layers.momentum_after`; None where there is none
    norm : (3, n_out) int64 of a normalised layer, see `wage_neuro.normal`; None of others
    """

    S: np.ndarray
    error_held: Held = Held()
    gradient_held: Held = Held()
    importance: np.ndarray | None = None
    momentum: np.ndarray | None = None
    norm: np.ndarray | None = None

    def __eq__(self, other: object) -> bool:
        """Whether every bit is equal."""
        if not isinstance(other, LayerState):
            return NotImplemented
        held = (self.error_held, self.gradient_held) == (other.error_held, other.gradient_held)
        arrays = [
            (getattr(self, name), getattr(other, name)) for name in ("S", "importance", "momentum", "norm")
        ]
        return held and all(a is b or np.array_equal(a, b) for a, b in arrays)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything that training changes: a checkpoint holds no more than this.

    Attributes
    ----------
    layers : what each layer has learned
    seed : int
        Names every random bit, with the step.
    step : int
        Updates done.

    >>> state = State.of((np.zeros((3, 2), np.int8),), seed=7)
    >>> len(state.layers), state.error_held, state.importance, state.step
    (1, (Held(exponent=None, below=0),), None, 0)
    """

    layers: tuple[LayerState, ...]
    seed: int
    step: int = 0

    @classmethod
    def of(
        cls, S: Sequence[np.ndarray], *, seed: int, step: int = 0, **others: Sequence[Any] | None
    ) -> State:
        """Build a state of the stored weights of each layer, and others of `LayerState` by their names."""
        begin = cls(layers=tuple(LayerState(S=each) for each in S), seed=seed, step=step)
        return begin.having(**{name: values for name, values in others.items() if values is not None})

    def having(self, **others: Sequence[Any]) -> State:
        """Return this state with other values of each layer: `state.having(S=(...), error_held=(...))`."""
        made = self.layers
        for name, values in others.items():
            made = tuple(replace(each, **{name: v}) for each, v in zip(made, values, strict=True))
        return replace(self, layers=made)

    @property
    def S(self) -> tuple[np.ndarray, ...]:
        """Stored weights of each layer."""
        return tuple(each.S for each in self.layers)

    @property
    def error_held(self) -> tuple[Held, ...]:
        """Exponent of each layer's errors."""
        return tuple(each.error_held for each in self.layers)

    @property
    def gradient_held(self) -> tuple[Held, ...]:
        """Exponent of each layer's gradient."""
        return tuple(each.gradient_held for each in self.layers)

    @property
    def importance(self) -> tuple[np.ndarray, ...] | None:
        """Importance of each layer's synapses; None where no weight is held on to."""
        return tuple(each.importance for each in self.layers if each.importance is not None) or None

    @property
    def norm(self) -> tuple[np.ndarray | None, ...]:
        """Statistics of each layer; None of those that are not normalised."""
        return tuple(each.norm for each in self.layers)

    @property
    def momentum(self) -> tuple[np.ndarray, ...] | None:
        """Momentum of each layer's weights; None where there is none."""
        return tuple(each.momentum for each in self.layers if each.momentum is not None) or None


_KEPT = {
    "importance": ("consolidation", layers.no_importance, "synapses of importance"),
    "momentum": ("momentum", layers.at_rest, "weights in motion"),
}
"""What a rule keeps beside the weights: the rule, how it begins, and what a state has of it."""


def kept_of(network: Network, state: State, rules: Rules, name: str) -> tuple[np.ndarray | None, ...]:
    """Importance or momentum of each layer as the rules have it: new where a state has not met the rules.

    Raises
    ------
    SettingError
        If the state has what the rules would not keep.
    """
    rule, new, what = _KEPT[name]
    kept: tuple[np.ndarray | None, ...] | None = getattr(state, name)
    if kept is None:
        return tuple(new(layer, rules) for layer in network.layers)
    if not getattr(rules, rule):
        raise SettingError(f"{rule}=0: the state has {what}, want 1 or more")
    return kept


def as_ruled(network: Network, state: State, rules: Rules) -> State:
    """Return the state with all that network and rules keep; errors as of `kept_of`."""
    return state.having(
        **{name: kept_of(network, state, rules, name) for name in _KEPT},
        norm=[
            normal.at_start(layer) if norm is None else norm
            for layer, norm in zip(network.layers, state.norm, strict=True)
        ],
    )


def consolidated(network: Network, state: State, samples: int, rules: Rules) -> State:
    """Return the state after a task of so many updates has ended: see `layers.consolidate`.

    Raises
    ------
    SettingError
        If the rules keep no importance.
    """
    if not rules.consolidation:
        raise SettingError("consolidation=0: no importance is kept, want 1 or more")
    held = kept_of(network, state, rules, "importance")
    return state.having(importance=[layers.consolidate(h, samples, rules) for h in held if h is not None])


def initial_state(network: Network, seed: int = 0) -> State:
    """Draw the initial weights of every layer; the same seed gives the same bits everywhere.

    Raises
    ------
    NetworkError
        If there is no room for them.
    """
    seed = check_seed(seed)
    check_weights(network)
    return State.of(
        [layers.initial_weights(layer, seed) for layer in network.layers],
        seed=seed,
        norm=[normal.at_start(layer) for layer in network.layers],
    )
