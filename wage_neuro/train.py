"""The oracle: one training step of WAGE, state in, state out, and the numpy engine around it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from wage_neuro import layers
from wage_neuro.fixed_point import log2_round
from wage_neuro.layers import Kept, Layer
from wage_neuro.network import Network
from wage_neuro.random_bits import check_seed
from wage_neuro.rules import Rules

PREDICT_PART = 512  # samples a part of a prediction: bounds its memory


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


@dataclass(frozen=True)
class State:
    """Everything that training changes: a checkpoint holds no more than this.

    Attributes
    ----------
    S : stored weights of each layer, in units of sigma(k_G)
    error_held, gradient_held : exponents of each layer; used with shift='held'
    seed : int
        Names every random bit, with the step.
    step : int
        Updates done.
    """

    S: tuple[np.ndarray, ...]
    error_held: tuple[Held, ...]
    gradient_held: tuple[Held, ...]
    seed: int
    step: int = 0


def initial_state(network: Network, seed: int = 0) -> State:
    """Draw the initial weights of every layer; the same seed gives the same bits everywhere."""
    seed = check_seed(seed)
    held = (Held(),) * len(network.layers)
    return State(tuple(layers.initial_weights(layer, seed) for layer in network.layers), held, held, seed)


def exponent_and_next(held: Held, peak: int, samples: int, rules: Rules) -> tuple[int | None, Held]:
    """Exponent of Shift for this batch, and the held exponent for the next.

    With shift='batch' it is that of the batch's own peak. With shift='held' it is the one held before this
    batch, so a sample can be answered at once; until one is known the layer sends nothing.
    """
    if rules.shift == "held":
        return held.exponent, held.after(peak, samples, rules.hold)
    return (log2_round(peak) if peak else None), held


def train_step(
    network: Network, state: State, x: np.ndarray, labels: np.ndarray, log2_eta: int, rules: Rules
) -> tuple[State, np.ndarray]:
    """Learn one batch.

    Parameters
    ----------
    x : (batch, *input_shape) input codes of `Network.encode`
    labels : (batch,) whole numbers, 0 .. classes - 1
    log2_eta : int
        eta = 2**log2_eta.

    Returns
    -------
    State after the update, and the (batch, classes) int64 logits before it, in units of Z.
    """
    V, kept, Z = _forward(network, state, x)
    D: np.ndarray | None = layers.output_error(network.layers[-1], Z, labels, rules)
    S, error_held, gradient_held = list(state.S), list(state.error_held), list(state.gradient_held)
    for layer in reversed(network.layers):
        i = layer.index
        assert D is not None
        S[i], D, error_held[i], gradient_held[i] = learn_from_error(
            layer,
            S[i],
            V[i],
            kept[i],
            D.reshape(len(x), *layer.out_shape),
            (error_held[i], gradient_held[i]),
            log2_eta,
            rules,
            (state.seed, state.step),
        )
    new = replace(
        state,
        S=tuple(S),
        error_held=tuple(error_held),
        gradient_held=tuple(gradient_held),
        step=state.step + 1,
    )
    return new, Z


def learn_from_error(
    layer: Layer,
    S: np.ndarray,
    V: np.ndarray,
    kept: Kept,
    D: np.ndarray,
    held: tuple[Held, Held],
    log2_eta: int,
    rules: Rules,
    seed_step: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray | None, Held, Held]:
    """Let the error D, (n, *out_shape), pass one layer, and the layer learn from it.

    Returns the new stored weights, the error of the layer below, the held exponents of error and gradient.
    """
    error_held, gradient_held = held
    peak = layers.mask_saturated(kept, D)
    exponent, error_held = exponent_and_next(error_held, peak, len(D), rules)
    E = layers.error_codes(layer, kept, D, exponent)
    G, below = layers.backward(layer, V, kept, E, spikes_of(layer, kept, E, log2_eta, rules, seed_step))
    S, gradient_held = learn(layer, S, G, gradient_held, len(D), log2_eta, rules, *seed_step)
    return S, below, error_held, gradient_held


def spikes_of(
    layer: Layer, kept: Kept, E: np.ndarray, log2_eta: int, rules: Rules, seed_step: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Spikes that the weights learn from, where the rules say so."""
    if rules.update != "coincidence":
        return None
    return layers.learning_spikes(layer, kept, E, log2_eta, *seed_step)


def learn(
    layer: Layer,
    S: np.ndarray,
    G: np.ndarray,
    held: Held,
    samples: int,
    log2_eta: int,
    rules: Rules,
    seed: int,
    step: int,
) -> tuple[np.ndarray, Held]:
    """Update one layer from its gradient over `samples` samples; return S and the held exponent."""
    exponent = None
    if rules.update != "coincidence":  # whose steps have no scale
        exponent, held = exponent_and_next(held, layers.peak(G), samples, rules)
    return layers.update(layer, S, G, exponent, log2_eta, rules, seed, step), held


def predict(network: Network, state: State, x: np.ndarray) -> np.ndarray:
    """(n, classes) int64 logits of (n, *input_shape) input codes; nothing is learned."""
    V = visible_weights(network, state)
    parts = [_through(network, V, x[i : i + PREDICT_PART])[-1] for i in range(0, len(x), PREDICT_PART)]
    return np.concatenate(parts) if parts else np.empty((0, network.classes), np.int64)


def visible_weights(network: Network, state: State) -> list[np.ndarray]:
    """Visible weights of every layer, as `layers.visible_weights`."""
    return [layers.visible_weights(layer, S) for layer, S in zip(network.layers, state.S, strict=True)]


def _forward(network: Network, state: State, x: np.ndarray) -> tuple[list, list, np.ndarray]:
    V = visible_weights(network, state)
    *kept, Z = _through(network, V, x)
    return V, kept, Z


def _through(network: Network, V: list[np.ndarray], a: np.ndarray) -> list:
    kept = []
    for layer in network.layers:
        a, keep = layers.forward(layer, V[layer.index], a.reshape(len(a), *layer.in_shape))
        kept.append(keep)
    return [*kept, a]
