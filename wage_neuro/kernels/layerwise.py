"""One WAGE layer at work by itself, in numpy or in the compiled kernels, to the same bits.

What arrives and leaves is the caller's affair: a Lava Process receives and sends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import replace

import numpy as np

from wage_neuro import activity, layers
from wage_neuro.control import LayerControl
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.feedback import arriving_error, backward_weights, feedback_weights, leaving_error
from wage_neuro.kernels import native
from wage_neuro.kernels.native import CODES_E, CODES_IN, POST, PRE, WINNERS
from wage_neuro.layers import Kept, Layer
from wage_neuro.learner import LayerLearner, Site
from wage_neuro.rules import Rules
from wage_neuro.state import Held, LayerState

KERNELS = ("auto", "numpy", "compiled")
_UNKNOWN_BOUND = 2**31 - 1  # of errors that come as 32-bit messages


class LayerAtWork(ABC):
    """A layer with its weights, its exponents and the samples in flight.

    Parameters
    ----------
    lanes : samples of each call; they divide the samples of an update
    """

    def __init__(self, site: Site, lanes: int) -> None:
        self.layer, self.classes, self.rules, self.seed = site
        self.lanes = lanes

    @abstractmethod
    def forward(self, a_in: np.ndarray, keep: bool, counts: np.ndarray | None = None) -> np.ndarray:
        """(lanes, *out_shape) activation codes, of the last layer products, of (lanes, *in_shape) codes.

        keep : hold what the error of these samples will need, until `error` or `forget`
        counts : (fields,) to add the activity to; see `wage_neuro.activity`
        """

    @abstractmethod
    def error(
        self, message: np.ndarray, control: LayerControl, step: int, sends: bool, counts: np.ndarray | None
    ) -> np.ndarray | None:
        """Meet the error of the samples kept longest; return the one to send on, if any.

        message : (lanes, *out_shape) error sums, or with direct feedback (lanes, classes) codes
        sends : whether anybody wants the error that is sent on
        """

    @abstractmethod
    def forget(self) -> None:
        """Drop the samples kept longest: nothing is learned from them."""

    @abstractmethod
    def update(self, control: LayerControl, step: int, counts: np.ndarray | None) -> None:
        """Change weights and exponents by all errors since the last update."""

    @abstractmethod
    def get(self) -> LayerState:
        """What it has learned; not to be written to."""

    @abstractmethod
    def put(self, learned: LayerState) -> None:
        """Go on from others of these."""

    def follow(self, rules: Rules) -> None:
        """Go on by other rules: the update form may change."""
        self.rules = rules

    def visible(self) -> np.ndarray:
        """Visible weights, (fan_in, n_out)."""
        return layers.visible_weights(self.layer, self.get().S)

    def _feedback(self) -> np.ndarray | None:
        return feedback_weights(self.layer, self.classes, self.rules, self.seed)


class NumpyLayer(LayerAtWork):
    """By the oracle's own learner."""

    def __init__(self, site: Site, lanes: int) -> None:
        super().__init__(site, lanes)
        self.learner = LayerLearner(site)
        self.kept: deque[Kept] = deque()

    def put(self, learned: LayerState) -> None:
        self.learner.go_on_from(learned)

    def get(self) -> LayerState:
        return self.learner.state

    def follow(self, rules: Rules) -> None:
        self.rules = self.learner.rules = rules

    def visible(self) -> np.ndarray:
        return self.learner.visible()

    def forward(self, a_in: np.ndarray, keep: bool, counts: np.ndarray | None = None) -> np.ndarray:
        out, kept = self.learner.forward(a_in, counts)
        if keep:
            self.kept.append(kept)
        return out

    def forget(self) -> None:
        self.kept.popleft()

    def error(
        self, message: np.ndarray, control: LayerControl, step: int, sends: bool, counts: np.ndarray | None
    ) -> np.ndarray | None:
        message = message if message.flags.writeable else message.copy()  # it is masked in place
        return self.learner.error(message, self.kept.popleft(), control, step, counts)

    def update(self, control: LayerControl, step: int, counts: np.ndarray | None) -> None:
        self.learner.update(self.rules.samples_an_update, control, step, counts)


class NativeLayer(LayerAtWork):
    """In the compiled kernels; only where one call has all samples of an update.

    Parameters
    ----------
    in_flight : most samples that are kept at once, in calls
    signed_in : whether codes may be below 0
    error_bound : largest error that may arrive

    Raises
    ------
    EngineError
        If there is no library, or it has no way for such a layer.
    """

    def __init__(
        self, site: Site, lanes: int, *, in_flight: int, signed_in: bool, error_bound: int = _UNKNOWN_BOUND
    ) -> None:
        super().__init__(site, lanes)
        layer, rules = site.layer, site.rules
        if lanes != rules.samples_an_update or not native.computes(layer):
            raise EngineError(f"compiled kernels: layer {layer} with lanes={lanes} is left to numpy")
        self.net = native.LoneLayer(site, in_flight + 1, signed_in, error_bound)
        if lanes > 1 and self.net.path == native.SUMS_OF_64_BITS:  # BLAS has the faster products
            raise EngineError(f"compiled kernels: sums of layer {layer} are left to numpy")
        self.free, self.kept = deque(range(in_flight + 1)), deque[int]()
        self.waiting: int | None = None  # slot whose error waits for the update
        self.finished: int | None = None

    def put(self, learned: LayerState) -> None:
        self.net.put(learned)

    def get(self) -> LayerState:
        return self.net.get()

    def follow(self, rules: Rules) -> None:
        super().follow(rules)
        self.net.follow(rules)

    def forward(self, a_in: np.ndarray, keep: bool, counts: np.ndarray | None = None) -> np.ndarray:
        slot = self.free[0]
        out = self.net.forward(slot, a_in)
        if keep:
            self.kept.append(self.free.popleft())
        if counts is not None:
            activity.count_forward(counts, self.layer, self.visible(), a_in, out)
        return out

    def forget(self) -> None:
        self.free.append(self.kept.popleft())

    def error(
        self, message: np.ndarray, control: LayerControl, step: int, sends: bool, counts: np.ndarray | None
    ) -> np.ndarray | None:
        layer, direct = self.layer, self.rules.feedback == "direct"
        slot = self.kept.popleft()
        self.finished = slot
        B = self._feedback() if direct else None
        if counts is not None and B is not None:
            activity.count_direct_feedback(counts, B, message)
        D = arriving_error(layer, message, B, self.rules)
        goes_on = sends and not direct and layer.index > 0
        some, sent = self.net.error(slot, D, control, step, goes_on)
        self.waiting = slot if some else None
        if counts is not None:
            self._count(slot, some, control, counts)
        if direct and layer.is_last and layer.index:
            return self._codes(slot, CODES_E, layer.out_shape) if some else np.zeros(D.shape, np.int64)
        return leaving_error(layer, D, sent, self.rules) if goes_on else None

    def _codes(self, slot: int, what: int, shape: tuple[int, ...]) -> np.ndarray:
        return self.net.look(slot, what, (self.lanes, *shape))

    def _count(self, slot: int, some: bool, control: LayerControl, counts: np.ndarray) -> None:
        layer = self.layer
        if not some:
            return
        kept = Kept(self._codes(slot, CODES_IN, layer.in_shape))
        kept.winner = self._codes(slot, WINNERS, layer.out_shape) if layer.pool else None
        E, factors = self._codes(slot, CODES_E, layer.out_shape), None
        if control.log2_eta is not None:
            factors = kept.a_in, E
            if self.rules.update == "coincidence":
                factors = self._codes(slot, PRE, layer.in_shape), self._codes(slot, POST, layer.out_shape)
        activity.count_error(counts, layer, kept, E, factors)
        W_back = backward_weights(self.visible(), self._feedback(), self.rules)
        if layer.index and W_back is not None:
            activity.count_feedback(counts, layer, W_back, kept, E)

    def update(self, control: LayerControl, step: int, counts: np.ndarray | None) -> None:
        before = None if counts is None else self.get().S
        if self.waiting is not None and control.log2_eta is not None:
            self.net.update(self.waiting, step)
            if counts is not None and before is not None:
                activity.count_updates(counts, before, self.get().S)
        if self.finished is not None:
            self.free.append(self.finished)
        self.waiting = self.finished = None


class NativeSynapses:
    """The synapses of a dense layer in the compiled kernels: sums both ways, and the update.

    One sample at a time. An error code goes in as it is, and the exponent comes from elsewhere, as between
    the parts of a neurocore.
    """

    def __init__(self, layer: Layer, rules: Rules, seed: int, signed_in: bool) -> None:
        at_z = replace(layer, is_last=True)
        self.net = native.LoneLayer(
            Site(at_z, 0, rules, seed),
            1,
            signed_in,
            layer.bits.error_max,
            error_exponent=layer.error_exponent,
        )
        self.some = False  # whether anything has met that is not zero

    @staticmethod
    def can(layer: Layer, rules: Rules) -> bool:
        """Whether they have a way for such a layer."""
        return native.is_here() and not layer.window and rules.update == "ternary"

    def put(self, S: np.ndarray) -> None:
        """Go on from other stored weights."""
        self.net.put(LayerState(S=S))

    def get(self) -> np.ndarray:
        """Stored weights, copied."""
        return self.net.get().S

    def sums(self, a: np.ndarray) -> np.ndarray:
        """Z, (1, n_out), of (1, n_in) codes."""
        return self.net.forward(0, a)

    def meet(self, a: np.ndarray, E: np.ndarray, log2_eta: int | None, step: int) -> np.ndarray:
        """Let (1, n_in) codes meet (1, n_out) error codes; return the sums V^T E."""
        self.net.load(0, a)
        self.some, sent = self.net.error(0, E, LayerControl(log2_eta, 1), step, self.net.layer.index > 0)
        return np.zeros(a.shape, np.int32) if sent is None else sent

    def update(self, exponent: int | None, step: int) -> None:
        """Let the weights learn from what has met."""
        if self.some and exponent is not None:
            self.net.hold(Held(), Held(exponent))
            self.net.update(0, step)


def layer_at_work(site: Site, lanes: int, *, kernels: str = "auto", **native_only: object) -> LayerAtWork:
    """Return a layer in the compiled kernels where they are there and know it, or else in numpy.

    kernels : 'auto', or 'numpy', or 'compiled', which is an EngineError where 'auto' would take numpy
    native_only : as of `NativeLayer`
    """
    if kernels not in KERNELS:
        raise SettingError(f"kernels={kernels!r}: want {' or '.join(KERNELS)}")
    if kernels == "compiled" or (kernels == "auto" and native.is_here()):
        try:
            return NativeLayer(site, lanes, **native_only)  # type: ignore[arg-type]
        except EngineError:
            if kernels == "compiled":
                raise
    return NumpyLayer(site, lanes)
