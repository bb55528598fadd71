"""The oracle of pipelined learning: one sample a time step, several in flight, as on a chip.

Sample j meets layer i forward at step j + i and its error at step j + 2 L - i, so an error meets weights that
have learned from a few samples since; messages take one step a hop.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from wage_neuro import layers
from wage_neuro.layers import Kept
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.train import State, learn_from_error, visible_weights


def pipelined_step(
    network: Network, state: State, x: np.ndarray, labels: np.ndarray, log2_eta: int, rules: Rules
) -> tuple[State, np.ndarray]:
    """Send a batch through, one sample a step, each learned as its error arrives; then let it drain.

    Parameters and returns as `wage_neuro.train.train_step`; the state is `len(x)` updates further.
    """
    L, n = len(network.layers), len(x)
    S, V = list(state.S), visible_weights(network, state)
    error_held, gradient_held = list(state.error_held), list(state.gradient_held)
    in_flight: list[deque[Kept]] = [deque() for _ in range(L)]
    logits = np.empty((n, network.classes), np.int64)
    # messages that arrive at each layer; the last place of `forward` is the read-out
    forward: list[np.ndarray | None] = [None] * (L + 1)
    error: list[np.ndarray | None] = [None] * L
    for t in range(n + 2 * L):
        sent_forward: list[np.ndarray | None] = [None] * (L + 1)
        sent_error: list[np.ndarray | None] = [None] * L
        forward[0] = x[t : t + 1] if t < n else None
        for layer in network.layers:
            i = layer.index
            a, D = forward[i], error[i]
            if a is not None:
                sent_forward[i + 1], kept = layers.forward(layer, V[i], a.reshape(1, *layer.in_shape))
                in_flight[i].append(kept)
            if D is not None:
                sample = t - 2 * L + i
                S[i], below, error_held[i], gradient_held[i] = learn_from_error(
                    layer,
                    S[i],
                    V[i],
                    in_flight[i].popleft(),
                    D.reshape(1, *layer.out_shape),
                    (error_held[i], gradient_held[i]),
                    log2_eta,
                    rules,
                    (state.seed, state.step + sample),
                )
                V[i] = layers.visible_weights(layer, S[i])
                if i:
                    sent_error[i - 1] = below
        Z = forward[L]
        if Z is not None:
            sample = t - L
            logits[sample] = Z[0]
            sent_error[L - 1] = layers.output_error(network.layers[-1], Z, labels[sample : sample + 1], rules)
        forward, error = sent_forward, sent_error
    new = replace(
        state,
        S=tuple(S),
        error_held=tuple(error_held),
        gradient_held=tuple(gradient_held),
        step=state.step + n,
    )
    return new, logits
