"""The oracle: one training step of WAGE, state in, state out, and the numpy engine around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from wage_neuro import activity, layers
from wage_neuro.activity import Watch
from wage_neuro.control import Control, LayerControl, control_of
from wage_neuro.errors import SettingError
from wage_neuro.feedback import arriving_error, backward_weights, feedback_weights, leaving_error
from wage_neuro.fixed_point import log2_round
from wage_neuro.fixed_point import peak as peak_of
from wage_neuro.layers import Kept, Layer
from wage_neuro.network import Network
from wage_neuro.random_bits import check_seed
from wage_neuro.room import check_weights
from wage_neuro.rules import Rules
from wage_neuro.team import ALONE, Team, code_bits

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
    importance : (2, *weight_shape) uint16 of each layer, see `layers.no_importance`
        None where no weight is held on to.
    """

    S: tuple[np.ndarray, ...]
    error_held: tuple[Held, ...]
    gradient_held: tuple[Held, ...]
    seed: int
    step: int = 0
    importance: tuple[np.ndarray, ...] | None = None


def importance_of(network: Network, state: State, rules: Rules) -> tuple[np.ndarray | None, ...]:
    """Importance of each layer's synapses as the rules have it: none yet where a state has not met the rules.

    Raises
    ------
    SettingError
        If the state has importance that the rules would not keep.
    """
    if state.importance is None:
        return tuple(layers.no_importance(layer, rules) for layer in network.layers)
    if not rules.consolidation:
        raise SettingError("consolidation=0: the state has synapses of importance, want 1 or more")
    return state.importance


def consolidated(network: Network, state: State, samples: int, rules: Rules) -> State:
    """Return the state after a task of so many updates has ended: see `layers.consolidate`.

    Raises
    ------
    SettingError
        If the rules keep no importance.
    """
    if not rules.consolidation:
        raise SettingError("consolidation=0: no importance is kept, want 1 or more")
    held = importance_of(network, state, rules)
    return replace(
        state, importance=tuple(layers.consolidate(h, samples, rules) for h in held if h is not None)
    )


def initial_state(network: Network, seed: int = 0) -> State:
    """Draw the initial weights of every layer; the same seed gives the same bits everywhere.

    Raises
    ------
    NetworkError
        If there is no room for them.
    """
    seed = check_seed(seed)
    check_weights(network)
    held = (Held(),) * len(network.layers)
    return State(tuple(layers.initial_weights(layer, seed) for layer in network.layers), held, held, seed)


def exponent_of(held: Held, peak: int, rules: Rules) -> int | None:
    """Exponent of Shift for a batch: of its own `peak`, or with shift='held' the one held before it.

    None when none is known yet: the layer then sends nothing.
    """
    if rules.shift == "held":
        return held.exponent
    return log2_round(peak) if peak else None


def next_held(held: Held, peak: int, samples: int, rules: Rules, hold: int) -> Held:
    """Held exponent after a batch of `samples` with this peak; with shift='batch' nothing is held."""
    return held.after(peak, samples, hold) if rules.shift == "held" else held


def train_step(
    network: Network,
    state: State,
    x: np.ndarray,
    labels: np.ndarray,
    control: int | Control,
    rules: Rules,
    watch: Watch | None = None,
    former: np.ndarray | None = None,
    team: Team = ALONE,
) -> tuple[State, np.ndarray]:
    """Learn one batch, or one's own rows of the batch that a team learns.

    Parameters
    ----------
    x : (batch, *input_shape) input codes of `Network.encode`
    labels : (batch,) whole numbers, 0 .. classes - 1
    control : Control, or log2 of the step size of every layer
    watch : where to count the activity
    former : (batch, classes) int64 logits to stay at; see `layers.output_error`

    Returns
    -------
    State after the update, and the (batch, classes) int64 logits before it, in units of Z.
    """
    learner = Learner(network, state, control, rules, watch, team)
    a, kept = x, []
    for layer in network.layers:
        a, keep = learner.forward(layer, a, state.step)
        kept.append(keep)
    Z = a
    first = state.step * learner.samples(len(x)) + team.rows(rules.batch).start
    message = layers.output_error(network.layers[-1], Z, labels, rules, former, first)
    for layer in reversed(network.layers):
        sent = learner.learn(layer, message, kept[layer.index], state.step)
        message = message if sent is None else sent
    if team.size > 1:
        learner.learn_together(state.step)
    return learner.state(state.step + 1), Z


class Learner:
    """A network in the middle of learning, layer by layer: what every kind of training step changes."""

    def __init__(
        self,
        network: Network,
        state: State,
        control: int | Control,
        rules: Rules,
        watch: Watch | None,
        team: Team = ALONE,
    ) -> None:
        self.network, self.rules, self.before, self.team = network, rules, state, team
        self.sent: list[tuple[Layer, Any]] = []  # sums of this step's gradients, on their way
        self.watch = watch or Watch(len(network.layers), 0)
        self.controls = control_of(control).of_layers(len(network.layers), rules)
        self.S = list(state.S)
        self.V: list[np.ndarray | None] = [None] * len(self.S)  # made anew when S has changed
        self.held = list(zip(state.error_held, state.gradient_held, strict=True))
        self.importance = [None if h is None else h.copy() for h in importance_of(network, state, rules)]

    def visible(self, layer: Layer) -> np.ndarray:
        """Visible weights of a layer as it stands."""
        V = self.V[layer.index]
        if V is None:
            V = self.V[layer.index] = layers.visible_weights(layer, self.S[layer.index])
        return V

    def forward(self, layer: Layer, a_in: np.ndarray, step: int) -> tuple[np.ndarray, Kept]:
        """One layer forward, on the samples of an update step; see `layers.forward`."""
        a_in = a_in.reshape(len(a_in), *layer.in_shape)
        out, kept = layers.forward(layer, self.visible(layer), a_in)
        if self.watch.wants(step):
            activity.count_forward(self.watch.counts[layer.index], layer, self.visible(layer), a_in, out)
            self.watch.samples += len(a_in) if layer.index == 0 else 0
        return out, kept

    def learn(self, layer: Layer, message: np.ndarray, kept: Kept, step: int) -> np.ndarray | None:
        """Let a layer learn from the error message that arrives; return the one it sends on, if any."""
        i, rules, seed = layer.index, self.rules, self.before.seed
        control, (error_held, gradient_held) = self.controls[i], self.held[i]
        counts = self.watch.counts[i] if self.watch.wants(step) else None
        E, peak = receive_error(
            layer, message, kept, error_held, self.network.classes, rules, seed, counts, self.team
        )
        G, sent = pass_error(
            layer, self.visible(layer), kept, E, self.network.classes, control, rules, (seed, step), counts
        )
        error_held = next_held(error_held, peak, self.samples(len(E)), rules, control.hold)
        if self.team.size > 1:
            self.held[i] = error_held, gradient_held
            if G is not None:
                self.sent.append((layer, send_gradient(layer, G, rules, self.team)))
            return sent
        S, gradient_held = learn(
            layer,
            self.S[i],
            G,
            gradient_held,
            len(E),
            control,
            rules,
            (seed, step),
            counts,
            self.importance[i],
        )
        self.held[i] = error_held, gradient_held
        if S is not self.S[i]:
            self.S[i], self.V[i] = S, None
        return sent

    def samples(self, own: int) -> int:
        """Samples of the whole update, of which this process has its own."""
        return own if self.team.size == 1 else self.rules.batch

    def learn_together(self, step: int) -> None:
        """Let a team's layers learn from the gradients that were sent around."""
        sent, self.sent = self.sent, []
        seed_step = self.before.seed, step
        work = [
            (MovingLayer(layer, self.S[i], self.held[i][1], self.controls[i], self.rules, seed_step), sums)
            for layer, sums in sent
            for i in (layer.index,)
        ]
        learn_together(work, self.rules, self.team)
        for one, _ in work:
            i = one.layer.index
            if self.watch.wants(step):
                one.count_updates(self.watch.counts[i], self.S[i], self.team)
            self.held[i] = self.held[i][0], one.held
            self.S[i], self.V[i] = one.S, None

    def state(self, step: int) -> State:
        """The state after `step` updates."""
        error_held, gradient_held = zip(*self.held, strict=True)
        return State(
            tuple(self.S),
            error_held,
            gradient_held,
            self.before.seed,
            step,
            tuple(h for h in self.importance if h is not None) or None,
        )


def receive_error(
    layer: Layer,
    message: np.ndarray,
    kept: Kept,
    held: Held,
    classes: int,
    rules: Rules,
    seed: int,
    counts: np.ndarray | None = None,
    team: Team = ALONE,
) -> tuple[np.ndarray, int]:
    """Quantize the error that arrives at a layer: its codes E, and the peak that was left after the mask.

    An unquantized layer takes the error as it is, and has no use for its peak, which is then given as 0.

    counts : (fields,) to add the activity to; see `wage_neuro.activity`
    """
    B = feedback_weights(layer, classes, rules, seed)
    if counts is not None and rules.feedback == "direct" and B is not None:
        activity.count_direct_feedback(counts, B, message)
    D = arriving_error(layer, message, B, rules)
    if not layer.quantized:
        return layers.error_codes(layer, kept, D, layer.error_exponent), 0
    peak = int(team.most([layers.mask_saturated(kept, D)])[0])
    exponent = exponent_of(held, peak, rules)
    if exponent is not None:
        exponent -= rules.log2_gamma
    return layers.error_codes(layer, kept, D, exponent), peak


def pass_error(
    layer: Layer,
    V: np.ndarray,
    kept: Kept,
    E: np.ndarray,
    classes: int,
    control: LayerControl,
    rules: Rules,
    seed_step: tuple[int, int],
    counts: np.ndarray | None = None,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Gradient of a layer's weights, None if they are frozen, and the error message it sends on."""
    spikes, learns = None, control.log2_eta is not None
    if control.log2_eta is not None and rules.update == "coincidence":
        spikes = layers.learning_spikes(layer, kept, E, control.log2_eta, *seed_step)
    W_back = backward_weights(layer, V, classes, rules, seed_step[0])
    G, D = layers.backward(layer, W_back, kept, E, spikes, learns)
    if counts is not None:
        activity.count_error(counts, layer, kept, E, (spikes or (kept.a_in, E)) if learns else None)
        if D is not None and W_back is not None:
            activity.count_feedback(counts, layer, W_back, kept, E)
    return G, leaving_error(layer, E, D, rules)


def learn(
    layer: Layer,
    S: np.ndarray,
    G: np.ndarray | None,
    held: Held,
    samples: int,
    control: LayerControl,
    rules: Rules,
    seed_step: tuple[int, int],
    counts: np.ndarray | None = None,
    importance: np.ndarray | None = None,
) -> tuple[np.ndarray, Held]:
    """Update one layer from its gradient over `samples` samples; return S and the held exponent.

    importance : its steps are counted in place; see `layers.update`
    """
    if G is None or control.log2_eta is None:
        return S, held
    exponent, held = gradient_exponent(layer, held, peak_of(G), samples, control, rules)
    new = layers.update(layer, S, G, exponent, control.log2_eta, rules, *seed_step, importance)
    if counts is not None:
        activity.count_updates(counts, S, new)
    return new, held


def gradient_exponent(
    layer: Layer, held: Held, peak: int, samples: int, control: LayerControl, rules: Rules
) -> tuple[int | None, Held]:
    """Exponent of Shift for a gradient over so many samples, and the one that is held after it."""
    if not layer.quantized:
        return layer.gradient_exponent(samples), held
    if rules.update == "coincidence":  # whose steps have no scale
        return None, held
    return exponent_of(held, peak, rules), next_held(held, peak, samples, rules, control.hold)


class Moving(Protocol):
    """A layer that can update a part of its weights, and take over how the others have moved."""

    layer: Layer

    def move(self, part: slice, G: np.ndarray, peak: int) -> np.ndarray:
        """Update a part, row-major, from its (m,) int64 gradient; `peak` is that of the whole gradient.

        Returns (m,) codes, of steps or of stored weights; see `team.code_bits`.
        """

    def take(self, codes: np.ndarray) -> None:
        """Take over the (n,) codes of all weights."""


@dataclass
class MovingLayer:
    """`Moving` in numpy: a layer's stored weights, held exponent and control, of one step."""

    layer: Layer
    S: np.ndarray
    held: Held
    control: LayerControl
    rules: Rules
    seed_step: tuple[int, int]

    def move(self, part: slice, G: np.ndarray, peak: int) -> np.ndarray:
        rules, control, own = self.rules, self.control, self.S.reshape(-1)[part]
        assert control.log2_eta is not None
        exponent, self.held = gradient_exponent(self.layer, self.held, peak, rules.batch, control, rules)
        G = G.astype(np.float64)
        eta = control.log2_eta
        new = layers.update(self.layer, own, G, exponent, eta, rules, *self.seed_step, first=part.start)
        return new - own if rules.update == "ternary" else new

    def take(self, codes: np.ndarray) -> None:
        codes = codes.reshape(self.S.shape).astype(self.S.dtype, copy=False)
        self.S = self.S + codes if self.rules.update == "ternary" else codes

    def count_updates(self, counts: np.ndarray, before: np.ndarray, team: Team) -> None:
        """Add the stored weights of this member's part that changed."""
        part = team.part(self.layer.n_weights)
        activity.count_updates(counts, before.reshape(-1)[part], self.S.reshape(-1)[part])


def send_gradient(layer: Layer, G: np.ndarray, rules: Rules, team: Team) -> Any:
    """Send the members of a team their parts of a gradient, in the width that no member's can pass."""
    return team.send_sums(G.reshape(-1), layer.g_bound(team.most_rows(rules.batch)))


def learn_together(work: Sequence[tuple[Moving, Any]], rules: Rules, team: Team) -> None:
    """Update each layer as `learn` does: each member adds up and updates its part, and all take the steps.

    work : layers, and what `send_gradient` has returned of each
    """
    G = [team.take_sums(sent) for _, sent in work]
    peaks = team.most([peak_of(g) for g in G]).tolist()
    weights = [one.layer.n_weights for one, _ in work]
    codes = [
        one.move(team.part(n), g, peak) for (one, _), n, g, peak in zip(work, weights, G, peaks, strict=True)
    ]
    bits = [code_bits(rules, one.layer.bits.k_G) for one, _ in work]
    for (one, _), found in zip(work, team.share(codes, weights, bits), strict=True):
        one.take(found)


def predict(network: Network, state: State, x: np.ndarray, watch: Watch | None = None) -> np.ndarray:
    """(n, classes) int64 logits of (n, *input_shape) input codes; nothing is learned."""
    V = visible_weights(network, state)
    logits = np.empty((len(x), network.classes), np.int64)
    for i in range(0, len(x), PREDICT_PART):
        a = x[i : i + PREDICT_PART]
        for layer in network.layers:
            a_in = a.reshape(len(a), *layer.in_shape)
            a, _ = layers.forward(layer, V[layer.index], a_in)
            if watch and watch.every:
                activity.count_forward(watch.counts[layer.index], layer, V[layer.index], a_in, a)
        logits[i : i + PREDICT_PART] = a
    if watch and watch.every:
        watch.samples += len(x)
    return logits


def visible_weights(network: Network, state: State) -> list[np.ndarray]:
    """Visible weights of every layer, as `layers.visible_weights`."""
    return [layers.visible_weights(layer, S) for layer, S in zip(network.layers, state.S, strict=True)]
