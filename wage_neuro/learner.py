"""One layer in the middle of learning: the arithmetic of the oracle, of Lava's models in numpy, and of torch.

What is done to arrays is the matter of `Passes`, of numpy or of another library. What arrives and leaves is
the caller's affair: a step sends messages from layer to layer, a Process through its ports. Errors may come
in several parts before the weights change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from wage_neuro import activity, layers, normal
from wage_neuro.bits import code_dtype
from wage_neuro.control import LayerControl
from wage_neuro.feedback import backward_weights, feedback_weights, leaving_error
from wage_neuro.fixed_point import log2_round
from wage_neuro.fixed_point import peak as peak_of
from wage_neuro.layers import Kept, Layer
from wage_neuro.passes import NUMPY, Array, Passes
from wage_neuro.rules import Rules
from wage_neuro.state import Held, LayerState
from wage_neuro.team import ALONE, Team, code_bits
from wage_neuro.update import MOMENTUM_BITS


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


class Site(NamedTuple):
    """A layer where it learns: in a network of so many classes, by these rules, with the bits of this seed.

    `classes` is the size of the last layer's error, which direct feedback brings to every other one.
    """

    layer: Layer
    classes: int
    rules: Rules
    seed: int


class LayerLearner:
    """A layer with what it has learned, and what its errors have brought since its weights last changed.

    Parameters
    ----------
    state : LayerState
        Where to go on from; it stays as it is.
    team : processes that learn each batch together; in one, `send` and `learn_together` take the place of
        `update`
    passes : in whose arrays it works
    """

    def __init__(
        self, site: Site, state: LayerState | None = None, team: Team = ALONE, passes: Passes = NUMPY
    ) -> None:
        self.team, self.passes = team, passes
        self.layer, self.classes, self.rules, self.seed = site
        self.G: Array | None = None
        self.peak = 0  # of the errors since the last update
        self.E: Array | None = None  # codes of the last error
        self.u: Array | None = None  # of a normalised layer, codes of the batch
        if state:
            self.go_on_from(state)

    def go_on_from(self, state: LayerState) -> None:
        """Learn from another state on."""
        M, own = state.momentum, self.passes.own
        self.state = replace(_copied(state), S=own(state.S), momentum=None if M is None else own(M))
        self.V: Array | None = None

    def kept(self) -> LayerState:
        """What it has learned so far, as it stands, for `back_to`."""
        return _copied(self.state)

    def back_to(self, kept: LayerState) -> None:
        """Forget what came after `kept`, and the batch that it was in."""
        self.state, self.V, self.G, self.peak, self.E, self.u = kept, None, None, 0, None, None

    def learned(self) -> LayerState:
        """What it has learned so far, in numpy, to keep."""
        M, host = self.state.momentum, self.passes.host
        return replace(_copied(self.state), S=host(self.state.S), momentum=None if M is None else host(M))

    @cached_property
    def B(self) -> Array | None:
        """Fixed feedback weights, if there are any."""
        B = feedback_weights(self.layer, self.classes, self.rules, self.seed)
        return None if B is None else self.passes.own(B)

    def visible(self) -> Array:
        """Visible weights, (fan_in, n_out)."""
        if self.V is None:
            self.V = self.passes.visible_weights(self.layer, self.state.S)
        return self.V

    def forward(self, a_in: Array, counts: np.ndarray | None = None) -> tuple[Array, Kept]:
        """One layer forward; see `layers.forward`.

        counts : (fields,) to add the activity to; see `wage_neuro.activity`
        """
        out, kept = self.passes.forward(self.layer, self.visible(), a_in, self.state.norm)
        if counts is not None:
            V, a, sent = map(self.passes.host, (self.visible(), a_in, out))
            activity.count_forward(counts, self.layer, V, a, sent)
        return out, kept

    def error(
        self,
        message: Array,
        kept: Kept,
        control: LayerControl,
        step: int,
        counts: np.ndarray | None = None,
    ) -> Array | None:
        """Meet an error; return the message that is sent on, if any. `update` learns from it."""
        E, peak = self._receive(message, kept, counts)
        self.E, self.peak = E, max(self.peak, peak)
        G, sent = self._pass_on(kept, E, control, step, counts)
        if G is not None:
            self.G = G if self.G is None else np.add(self.G, G, dtype=np.float64)
        return sent

    def _receive(self, message: Array, kept: Kept, counts: np.ndarray | None) -> tuple[Array, int]:
        """Quantize the error that arrives: its codes E, and the peak that was left after the mask.

        An unquantized layer takes the error as it is, and has no use for its peak, which is then given as 0.
        """
        layer, rules, do = self.layer, self.rules, self.passes
        if counts is not None and rules.feedback == "direct" and self.B is not None:
            activity.count_direct_feedback(counts, do.host(self.B), do.host(message))
        D = do.arriving_error(layer, message, self.B, rules)
        if not layer.quantized:
            return do.error_codes(layer, kept, D, layer.error_exponent), 0
        if self.state.norm is None:
            own = do.mask_saturated(kept, D)
        else:
            D, self.u = do.project(self.state.norm, kept, D), kept.u
            own = do.peak(D)
        peak = int(self.team.most([own])[0])
        exponent = exponent_of(self.state.error_held, peak, rules)
        if exponent is not None:
            exponent -= rules.log2_gamma(layer.is_last)
        return do.error_codes(layer, kept, D, exponent), peak

    def _pass_on(
        self, kept: Kept, E: Array, control: LayerControl, step: int, counts: np.ndarray | None
    ) -> tuple[Array | None, Array | None]:
        """Gradient of the weights, None if they are frozen, and the error message that is sent on."""
        layer, rules, do, log2_eta = self.layer, self.rules, self.passes, control.log2_eta
        factors = None if log2_eta is None else (kept.a_in, E)
        if log2_eta is not None and rules.update == "coincidence":
            draw = layers.Draw(self.seed, step, rules.generator)
            factors = do.spikes(layer, kept, E, log2_eta, draw)
        W_back = backward_weights(self.visible(), self.B, rules)
        G, D = do.backward(layer, W_back, kept, E, factors)
        if counts is not None:
            seen, e = do.kept_on_host(kept), do.host(E)
            pair = (do.host(factors[0]), do.host(factors[1])) if factors else None
            activity.count_error(counts, layer, seen, e, pair)
            if D is not None and W_back is not None:
                activity.count_feedback(counts, layer, do.host(W_back), seen, e)
        return G, leaving_error(layer, E, D, rules)

    def update(
        self, samples: int, control: LayerControl, step: int, counts: np.ndarray | None = None
    ) -> None:
        """Change weights and exponents by all errors since the last update, those of `samples` samples."""
        state, rules, G, do = self.state, self.rules, self.G, self.passes
        state = replace(
            state, error_held=next_held(state.error_held, self.peak, samples, rules, control.hold)
        )
        self.G, self.peak, self.state = None, 0, state
        if G is None or control.log2_eta is None:
            return
        peak = do.peak(G)
        exponent, held = self._exponent(peak, samples, control)
        if state.norm is not None and self.u is not None and exponent is not None and peak:
            state = replace(state, norm=normal.follow(self.layer, state.norm, do.host(self.u)))
        M = state.momentum
        if M is not None:
            if exponent is None or not peak:  # no gradient moves nothing
                exponent = None
            else:  # its peak is Shift's, as of a gradient that stays the same
                M, G = do.momentum_after(self.layer, M, G, exponent, rules)
                exponent = MOMENTUM_BITS - 1
        how = layers.Move(exponent, control.log2_eta, self.seed, step, state.importance)
        S = do.update(self.layer, state.S, G, how, rules)
        if counts is not None:
            activity.count_updates(counts, do.host(state.S), do.host(S))
        if S is not state.S:
            self.V = None
        self.state = replace(state, S=S, gradient_held=held, momentum=M)

    def _exponent(self, peak: int, samples: int, control: LayerControl) -> tuple[int | None, Held]:
        """Exponent of Shift for a gradient over so many samples, and the one that is held after it."""
        held, rules = self.state.gradient_held, self.rules
        if not self.layer.quantized:
            return self.layer.gradient_exponent(samples), held
        if rules.update == "coincidence":  # whose steps have no scale
            return None, held
        return exponent_of(held, peak, rules), next_held(held, peak, samples, rules, control.hold)

    # --- in a team ---

    def send(self, control: LayerControl) -> Any:
        """Send the others what this member's errors say of their weights; None if the layer is frozen."""
        state, rules, G = self.state, self.rules, self.G
        held = next_held(state.error_held, self.peak, rules.batch, rules, control.hold)
        self.G, self.peak, self.state, self.control = None, 0, replace(state, error_held=held), control
        return None if G is None else send_gradient(self.layer, self.passes.host(G), rules, self.team)

    def move(self, part: slice, G: np.ndarray, peak: int, step: int, counts: np.ndarray | None) -> np.ndarray:
        rules, control = self.rules, self.control
        own = self.passes.host(self.state.S.reshape(-1)[part])
        assert control.log2_eta is not None
        exponent, held = self._exponent(peak, rules.batch, control)
        G, M = G.astype(np.float64), self.state.momentum
        if M is not None:
            if exponent is None or not peak:
                exponent = None
            else:
                M = self.passes.host(M).copy()
                flat = M.reshape(-1)
                G = flat[part] = layers.momentum_of_part(self.layer, flat[part], G, exponent, rules)
                M, G, exponent = self.passes.own(M), G.astype(np.float32), MOMENTUM_BITS - 1
        how = layers.Move(exponent, control.log2_eta, self.seed, step, first=part.start)
        new = layers.update(self.layer, own, G, how, rules)
        if counts is not None:
            activity.count_updates(counts, own, new)
        self.state = replace(self.state, gradient_held=held, momentum=M)
        return new - own if rules.update == "ternary" else new

    def take(self, codes: np.ndarray) -> None:
        S = self.state.S
        codes = self.passes.own(codes.astype(code_dtype(self.layer.bits.k_G), copy=False)).reshape(S.shape)
        self.state = replace(self.state, S=S + codes if self.rules.update == "ternary" else codes)
        self.V = None


def _copied(state: LayerState) -> LayerState:
    """With an importance of its own, which is counted in place."""
    return state if state.importance is None else replace(state, importance=state.importance.copy())


class Moving(Protocol):
    """A layer of a team: it updates its own part of the weights, and takes over how the others have moved."""

    layer: Layer

    def move(self, part: slice, G: np.ndarray, peak: int, step: int, counts: np.ndarray | None) -> np.ndarray:
        """Update a part, row-major, from its (m,) int64 gradient; `peak` is that of the whole gradient.

        Returns (m,) codes, of steps or of stored weights; see `team.code_bits`.
        """

    def take(self, codes: np.ndarray) -> None:
        """Take over the (n,) codes of all weights."""


def send_gradient(layer: Layer, G: np.ndarray, rules: Rules, team: Team) -> Any:
    """Send the members of a team their parts of a gradient, in the width that no member's can pass."""
    return team.send_sums(G.reshape(-1), layer.g_bound(team.most_rows(rules.batch)))


def learn_together(
    sent: Sequence[tuple[Moving, Any]], rules: Rules, team: Team, step: int, counts: np.ndarray | None
) -> None:
    """Update layers as `LayerLearner.update` does: each member moves its part, and all take the steps.

    sent : layers, and what `send_gradient` has returned of each
    counts : (layers, fields) to add the activity to
    """
    work = [(one, sums) for one, sums in sent if sums is not None]
    G = [team.take_sums(sums) for _, sums in work]
    peaks = team.most([peak_of(g) for g in G]).tolist()
    weights = [one.layer.n_weights for one, _ in work]
    codes = [
        one.move(team.part(n), g, peak, step, None if counts is None else counts[one.layer.index])
        for (one, _), n, g, peak in zip(work, weights, G, peaks, strict=True)
    ]
    bits = [code_bits(rules, one.layer.bits.k_G) for one, _ in work]
    for (one, _), found in zip(work, team.share(codes, weights, bits), strict=True):
        one.take(found)
