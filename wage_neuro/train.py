"""The oracle: one training step of WAGE, state in, state out.

A batch is sent through as its micro-steps: all samples at once, or pipelined one sample a time step, several
in flight, as on a chip. `Schedule` says when each message arrives; a message takes one step a hop. Where
samples are in flight, an error meets weights that have learned from a few samples since its own went up.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np

from wage_neuro import layers
from wage_neuro.activity import Watch
from wage_neuro.control import Control, control_of
from wage_neuro.layers import Kept, Layer
from wage_neuro.learner import LayerLearner, Moving, Site, exponent_of, learn_together, next_held
from wage_neuro.network import Network
from wage_neuro.passes import NUMPY, Array, Passes
from wage_neuro.rules import Rules
from wage_neuro.schedule import Schedule
from wage_neuro.state import (
    Held,
    LayerState,
    State,
    as_ruled,
    consolidated,
    initial_state,
)
from wage_neuro.team import ALONE, Team

__all__ = [
    "Batch",
    "Held",
    "LayerState",
    "Learner",
    "State",
    "consolidated",
    "exponent_of",
    "initial_state",
    "next_held",
    "predict",
    "train_step",
    "visible_weights",
]

PREDICT_PART = 512  # samples a part of a prediction: bounds its memory


class Batch(NamedTuple):
    """Samples that are learned in one step, or pipelined one after another.

    Attributes
    ----------
    x : (n, *input_shape) input codes of `Network.encode`
    labels : (n,) whole numbers, 0 .. classes - 1
    former : (n, classes) int64 logits to stay at, or None; see `layers.output_error`
    """

    x: np.ndarray
    labels: np.ndarray
    former: np.ndarray | None = None

    def part(self, part: slice) -> Batch:
        """Some of the samples."""
        return Batch(self.x[part], self.labels[part], None if self.former is None else self.former[part])


def train_step(
    network: Network, state: State, batch: Batch, control: int | Control, rules: Rules
) -> tuple[State, np.ndarray]:
    """Learn one batch.

    Parameters
    ----------
    control : Control, or log2 of the step size of every layer

    Returns
    -------
    State after the update, or pipelined after an update a sample, and the (n, classes) int64 logits from
    before it, in units of Z.
    """
    learner = Learner(network, state, rules)
    logits = learner.learn(batch, control)
    return learner.state, logits


class Learner:
    """A network in the middle of learning.

    Parameters
    ----------
    state : where to go on from; it stays as it is
    team : processes of which each learns its own rows of every batch
    passes : in whose arrays it learns
    """

    def __init__(
        self,
        network: Network,
        state: State,
        rules: Rules,
        team: Team = ALONE,
        passes: Passes = NUMPY,
    ) -> None:
        self.team, self.passes = team, passes
        self.network, self.rules = network, rules
        self.watch = Watch(len(network.layers), 0)  # where to count the activity
        self.go_on_from(state)

    def go_on_from(self, state: State) -> None:
        """Learn from another state on."""
        self.seed, self.step = state.seed, state.step
        self.layers = [
            LayerLearner(
                Site(layer, self.network.classes, self.rules, state.seed), each, self.team, self.passes
            )
            for layer, each in zip(
                self.network.layers, as_ruled(self.network, state, self.rules).layers, strict=True
            )
        ]

    @property
    def state(self) -> State:
        """What has been learned so far."""
        return State(layers=tuple(each.learned() for each in self.layers), seed=self.seed, step=self.step)

    def learn(self, batch: Batch, control: int | Control) -> np.ndarray:
        """Learn one batch, see `train_step`; return its logits. Stopped within, none of it is learned."""
        kept = [layer.kept() for layer in self.layers]
        try:
            return self._learn(batch, control)
        except BaseException:
            for layer, before in zip(self.layers, kept, strict=True):
                layer.back_to(before)
            raise

    def _learn(self, batch: Batch, control: int | Control) -> np.ndarray:
        L, n, rules, own = len(self.layers), len(batch.x), self.rules, self.passes.own
        controls = control_of(control).of_layers(L, rules)
        lanes = 1 if rules.pipelined else n
        schedule = Schedule(L, n // max(1, lanes), rules.feedback == "direct")
        first_row, samples = (
            (0, lanes) if self.team.size == 1 else (self.team.rows(rules.batch).start, rules.batch)
        )
        sums: list[tuple[Moving, Any]] = []  # of gradients, on their way to a team
        in_flight: list[deque[Kept]] = [deque() for _ in range(L)]
        logits = np.empty((n, self.network.classes), np.int64)
        parts = [batch.part(slice(j * lanes, (j + 1) * lanes)) for j in range(schedule.micro_steps)]
        # activations and errors by step and layer of their arrival; the read-out is layer L
        a: dict[tuple[int, int], Array] = {(t, 0): own(part.x) for t, part in enumerate(parts)}
        e: dict[tuple[int, int], Array] = {}
        for t in range(schedule.steps(learning=True)):
            for i, layer in enumerate(self.layers):
                micro = schedule.forward(i, t)
                if micro is not None:
                    a[t + 1, i + 1], kept = self._forward(layer, a.pop((t, i)), self.step + micro)
                    in_flight[i].append(kept)
                micro = schedule.error(i, t)
                if micro is not None:
                    step, kept = self.step + micro, in_flight[i].popleft()
                    counts = self._counts(layer.layer, step)
                    sent = layer.error(e.pop((t, i)), kept, controls[i], step, counts)
                    if self.team.size > 1:
                        sums.append((layer, layer.send(controls[i])))
                    else:
                        layer.update(lanes, controls[i], step, counts)
                    if sent is not None:
                        e.update({(t + 1, below): sent for below in _receivers(i, rules)})
            micro = schedule.forward(L, t)
            if micro is not None:
                Z = logits[micro * lanes : (micro + 1) * lanes] = self.passes.host(a.pop((t, L)))
                _, labels, former = parts[micro]
                first = (self.step + micro) * samples + first_row
                last = self.network.layers[-1]
                D = layers.output_error(last, Z, labels, rules, former)
                e[t + 1, L - 1] = own(layers.quiet_new(D, first, rules))
        if self.team.size > 1:
            counts = self.watch.counts if self.watch.wants(self.step) else None
            learn_together(sums, rules, self.team, self.step, counts)
        self.step += schedule.micro_steps
        return logits

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(n, classes) int64 logits of (n, *input_shape) input codes; nothing is learned."""
        logits = np.empty((len(x), self.network.classes), np.int64)
        for i in range(0, len(x), PREDICT_PART):
            a = self.passes.own(x[i : i + PREDICT_PART])
            for layer in self.layers:
                counts = self.watch.counts[layer.layer.index] if self.watch.every else None
                a, _ = layer.forward(a.reshape(len(a), *layer.layer.in_shape), counts)
            logits[i : i + PREDICT_PART] = self.passes.host(a)
        self.watch.samples += len(x) if self.watch.every else 0
        return logits

    def _forward(self, layer: LayerLearner, a_in: Array, step: int) -> tuple[Array, Kept]:
        counts = self._counts(layer.layer, step)
        if counts is not None and layer.layer.index == 0:
            self.watch.samples += len(a_in)
        return layer.forward(a_in.reshape(len(a_in), *layer.layer.in_shape), counts)

    def _counts(self, layer: Layer, step: int) -> np.ndarray | None:
        """Where to count what a layer does in an update step, if it is counted."""
        return self.watch.counts[layer.index] if self.watch.wants(step) else None


def _receivers(layer: int, rules: Rules) -> range:
    """Layers that get the error message of a layer."""
    return range(layer) if rules.feedback == "direct" else range(layer - 1, layer)


def predict(network: Network, state: State, x: np.ndarray) -> np.ndarray:
    """As `Learner.predict`, of a state."""
    return Learner(network, State.of(state.S, seed=state.seed, norm=state.norm), Rules()).predict(x)


def visible_weights(network: Network, state: State) -> list[np.ndarray]:
    """Visible weights of every layer, as `layers.visible_weights`."""
    return [layers.visible_weights(layer, S) for layer, S in zip(network.layers, state.S, strict=True)]
