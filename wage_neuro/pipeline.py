"""The oracle of pipelined learning: one sample a time step, several in flight, as on a chip.

`Schedule` says when each message arrives. An error meets weights that have learned from a few samples since
its own went up; messages take one step a hop.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from wage_neuro import layers
from wage_neuro.activity import Watch
from wage_neuro.control import Control
from wage_neuro.layers import Kept
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.schedule import Schedule
from wage_neuro.train import Learner, State


def pipelined_step(
    network: Network,
    state: State,
    x: np.ndarray,
    labels: np.ndarray,
    control: int | Control,
    rules: Rules,
    watch: Watch | None = None,
    former: np.ndarray | None = None,
) -> tuple[State, np.ndarray]:
    """Send a batch through, one sample a step, each learned as its error arrives; then let it drain.

    Parameters and returns as `wage_neuro.train.train_step`; the state is `len(x)` updates further.
    """
    L, n = len(network.layers), len(x)
    schedule = Schedule(L, n, rules.feedback == "direct")
    learner = Learner(network, state, control, rules, watch)
    in_flight: list[deque[Kept]] = [deque() for _ in range(L)]
    logits = np.empty((n, network.classes), np.int64)
    # activations and errors by step and layer of their arrival; the read-out is layer L
    a: dict[tuple[int, int], np.ndarray] = {(t, 0): x[t : t + 1] for t in range(n)}
    e: dict[tuple[int, int], np.ndarray] = {}
    for t in range(schedule.steps(learning=True)):
        for layer in network.layers:
            i = layer.index
            sample = schedule.forward(i, t)
            if sample is not None:
                a[t + 1, i + 1], kept = learner.forward(layer, a.pop((t, i)), state.step + sample)
                in_flight[i].append(kept)
            sample = schedule.error(i, t)
            if sample is not None:
                message = e.pop((t, i))
                sent = learner.learn(layer, message, in_flight[i].popleft(), state.step + sample)
                if sent is not None:
                    e.update({(t + 1, below): sent for below in _receivers(i, rules)})
        sample = schedule.forward(L, t)
        if sample is not None:
            Z = a.pop((t, L))
            logits[sample] = Z[0]
            one = slice(sample, sample + 1)
            stay = None if former is None else former[one]
            e[t + 1, L - 1] = layers.output_error(
                network.layers[-1], Z, labels[one], rules, stay, state.step + sample
            )
    return learner.state(state.step + n), logits


def _receivers(layer: int, rules: Rules) -> range:
    """Layers that get the error message of a layer."""
    return range(layer) if rules.feedback == "direct" else range(layer - 1, layer)
