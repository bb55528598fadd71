"""Network -> Brian2 objects: the second simulator, and the engine that trains and answers in it.

An independent witness: of `wage_neuro` it takes the network's shapes, the rules, the initial weights and the
random bits, and none of the arithmetic. What is computed stands below in Brian2's own language, on integers.

A batch lies side by side: the neuron of a unit is there once for each sample in flight (a slot), and all
slots share one population of stored weights, which synapses see by index; the places of a convolution
likewise. A message takes one time step a hop: a sample that enters at step 0 meets layer i at step i, and its
error meets it at step 2 L - i, or with direct feedback the hidden ones at step L + 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import brian2 as b2
import numpy as np

from mappings.engines.brian2.equations import (
    ACTIVATE,
    BACK,
    BACK_FIXED,
    COINCIDENCE,
    ENTER,
    ERROR,
    ERROR_SPIKE,
    FIXED,
    FORWARD,
    GRADIENT,
    INPUT_SPIKE,
    READ_OUT,
    STOCHASTIC,
    UNPOOL,
    UNPOOL_SPIKE,
    UPDATE,
    VISIBLE,
    WON,
    activation_constants,
    magnitude,
    margin_code,
    model_of,
    pool_code,
    stored_max,
    synapses_of,
    target_of,
    visible_constants,
    windows_of,
    z_unit_of,
)
from mappings.engines.brian2.objects import Builder, Shift, Stepper, link_windows, on_event, take_weights
from wage_neuro import random_bits
from wage_neuro.bits import code_dtype
from wage_neuro.control import Control, LayerControl, control_of
from wage_neuro.engine import Engine, EngineOptions
from wage_neuro.errors import EngineError
from wage_neuro.kinds import Kind
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.rules import NEUTRAL, VALUES, Rules
from wage_neuro.settings import SIMULATOR, check_settings, setting
from wage_neuro.specs import AvgPool, MaxPool, assert_never
from wage_neuro.support import Support
from wage_neuro.train import Held, State, initial_state

MAX_SYNAPSES = 1 << 26
"""Synapses of one connection; each takes about 30 bytes, forward and backward."""


class _Layer:
    """The Brian2 objects of one WAGE layer: products, neurons, stored weights, two sets of synapses."""

    def __init__(
        self, build: Builder, layer: Layer, below: b2.NeuronGroup, of: Simulation, state: State
    ) -> None:
        self.layer, self.rules, self.slots, self.below = layer, of.rules, of.slots, below
        i, L = layer.index, len(of.network.layers)
        self.answers_at, self.learns_at = i + 1, 2 * L - i  # steps after a sample has entered
        if of.rules.feedback == "direct" and not layer.is_last:
            self.learns_at = L + 2
        self.coincidence = of.rules.update == "coincidence"
        self.products = self._products(build, of.samples)
        self.neurons = self._neurons(build, of.samples)
        self.weights = self._weights(build, state.S[i])
        if of.rules.feedback == "random":
            fix_feedback(self.weights, state.seed, i)
        bound = _error_bound(of.network, layer, of.rules)
        self.error_shift = Shift(build, self.neurons, "D", bound, state.error_held[i])
        self.neurons.unit = b2.linked_var(self.error_shift.group, "unit")
        self.start_gradient_held = state.gradient_held[i]
        if not self.coincidence:
            bound = layer.g_bound(of.rules.samples_an_update)
            self.gradient_shift = Shift(build, self.weights, "G", bound, state.gradient_held[i])
            self.weights.unit = b2.linked_var(self.gradient_shift.group, "unit")
        self._connect(build)

    def _products(self, build: Builder, samples: b2.NeuronGroup) -> b2.NeuronGroup:
        n = math.prod(self.layer.z_shape)
        group = build.group(
            self.slots * n,
            "Z : integer\nE : integer\nspike_E : integer\nphase : integer (linked)",
            f"products{self.layer.index}",
            {"enter": "phase == 0", "error": f"phase == {self.learns_at} and (E != 0 or spike_E != 0)"},
        )
        group.phase = b2.linked_var(samples, "phase", index=np.repeat(np.arange(self.slots), n))
        on_event(group, "enter", "start", 2, "Z = 0\nE = 0\nspike_E = 0")
        on_event(group, "error", "synapses", -2)
        return group

    def _neurons(self, build: Builder, samples: b2.NeuronGroup) -> b2.NeuronGroup:
        layer, bits = self.layer, self.layer.bits
        n, windows = math.prod(layer.out_shape), windows_of(layer)
        own = (
            "z",
            "winner",
            "A",
            "active",
            "open",
            "right",
            "D",
            "E",
            "spike_A",
            "spike_E",
            "random_A",
            "random_E",
        )
        linked = ("unit", "phase", "label", "learning", "short", *(f"z{p}" for p in range(len(windows))))
        group = build.group(
            self.slots * n,
            model_of(own, linked, ("eta_up", "eta_down")),
            f"neurons{layer.index}",
            {
                "enter": "phase == 0",
                "arrived": f"phase == {self.answers_at}",
                "activation": f"phase == {self.answers_at} and A != 0",
                "returned": f"phase == {self.learns_at} and D != 0",
                "error": f"phase == {self.learns_at} and E != 0",
            },
            classes=n,
            target=target_of(layer),
            z_unit=z_unit_of(layer),
            **activation_constants(bits),
            e_scale=2 ** (bits.k_E - 1),
            e_max=2 ** (bits.k_E - 1) - 1,
        )
        slot = np.repeat(np.arange(self.slots), n)
        for name in ("phase", "label", "learning", "short"):
            setattr(group, name, b2.linked_var(samples, name, index=slot))
        link_windows(group, self.products, layer, self.slots)
        group.active, group.open = 1, 1
        loss = "one_sided" if self.rules.loss == "one-sided" else "deviation"
        answer = READ_OUT.format(loss=loss) if layer.is_last else ACTIVATE
        on_event(group, "enter", "start", 2, "A = 0\nD = 0\nE = 0\nspike_E = 0")
        on_event(group, "arrived", "groups", 0, pool_code(layer.pool, len(windows)) + answer)
        on_event(group, "activation", "thresholds")
        on_event(group, "returned", "error_levels", -1)
        group.run_on_event("returned", ERROR + (ERROR_SPIKE if self.coincidence else ""), "error")
        on_event(group, "error", "error_spikes")
        if self.coincidence:
            group.run_regularly(INPUT_SPIKE, when="error")
        return group

    def _weights(self, build: Builder, S: np.ndarray) -> b2.NeuronGroup:
        layer, bits = self.layer, self.layer.bits
        s_max = stored_max(layer, self.rules.stored_range)
        group = build.group(
            layer.n_weights,
            model_of(
                ("S", "V", "G", "B", "random", "changed"),
                () if self.coincidence else ("unit",),
                ("eta_up", "eta_down"),
            ),
            f"weights{layer.index}",
            {"changed": "changed != 0", "gradient": "G != 0"},
            s_max=s_max,
            step_max=2 * s_max if self.rules.update == "wide" else 1,
            **visible_constants(bits),
        )
        group.S[:], group.changed = S.ravel(), 1
        on_event(group, "changed", "start", 2, VISIBLE)
        on_event(group, "gradient", "gradient")
        group.run_on_event(
            "gradient", (f"size = {magnitude('G')}" if self.coincidence else STOCHASTIC) + UPDATE, "update"
        )
        return group

    def _connect(self, build: Builder) -> None:
        layer = self.layer
        pre, post, weight = synapses_of(layer)
        slot = np.arange(self.slots)[:, None]
        below, here = math.prod(layer.in_shape), math.prod(layer.z_shape)
        back = COINCIDENCE if self.coincidence else GRADIENT
        if layer.index and self.rules.feedback != "direct":
            back += "\n" + (BACK if self.rules.feedback == "transposed" else BACK_FIXED)
        forward = build.synapses(self.below, self.products, FORWARD, "activation", ("synapses", 0))
        backward = build.synapses(self.products, self.below, back, "error", ("synapses", 1))
        take_weights(forward.activation, self.weights)
        take_weights(backward.error, self.weights)
        forward.connect(i=(pre + slot * below).ravel(), j=(post + slot * here).ravel())
        backward.connect(i=(post + slot * here).ravel(), j=(pre + slot * below).ravel())
        forward.index[:] = backward.index[:] = np.tile(weight, self.slots)

        windows = windows_of(layer)
        place, unit = (index.ravel() for index in np.indices(windows.shape))
        unpool = f"{UNPOOL}\n{UNPOOL_SPIKE}" if self.coincidence else UNPOOL
        match layer.pool:
            case None | MaxPool():
                pass
            case AvgPool():  # each place of the window gets the error
                unpool = unpool.replace(WON, "")
            case _:
                assert_never(layer.pool)
        pooled = build.synapses(self.neurons, self.products, unpool, "error", ("unpool", 0))
        pooled.connect(i=(unit + slot * windows.shape[1]).ravel(), j=(windows.ravel() + slot * here).ravel())
        pooled.index[:] = np.tile(place, self.slots)

    def listen(self, build: Builder, last: _Layer, seed: int) -> None:
        """Direct feedback: fixed synapses from the last layer's errors to these neurons."""
        n, classes = math.prod(self.layer.out_shape), math.prod(last.layer.out_shape)
        weights = build.group(n * classes, model_of(("B", "random")), f"feedback{self.layer.index}", {})
        fix_feedback(weights, seed, self.layer.index)
        direct = build.synapses(last.neurons, self.neurons, BACK_FIXED, "error", ("synapses", 0))
        take_weights(direct.error, weights)
        slot, pair = np.arange(self.slots)[:, None], np.arange(n * classes)
        direct.connect(i=(pair // n + slot * classes).ravel(), j=(pair % n + slot * n).ravel())
        direct.index[:] = np.tile(pair, self.slots)

    @property
    def gradient_held(self) -> Held:
        return self.start_gradient_held if self.coincidence else self.gradient_shift.held

    def set(self, control: LayerControl) -> None:
        """Step size and hold; a step size of 0 leaves the weights as they are."""
        up, down = 0, 1
        if control.log2_eta is not None:
            up, down = 2 ** max(0, control.log2_eta), 2 ** max(0, -control.log2_eta)
            largest = self.layer.g_bound(self.rules.samples_an_update) * up << 16
            _check_integer(self.layer, largest, f" and eta=2**{control.log2_eta}")
        for group in (self.neurons, self.weights):
            group.eta_up, group.eta_down = up, down
        self.error_shift.group.hold = control.hold
        if not self.coincidence:
            self.gradient_shift.group.hold, self.gradient_shift.group.listening = control.hold, int(up > 0)

    def draw(self, seed: int, step: int, slot: int) -> None:
        """Fill in the random bits of an update."""
        i = self.layer.index
        if not self.coincidence:
            self.weights.random[:] = random_bits.bits16(
                (seed, random_bits.UPDATE, i, step), 0, self.layer.n_weights, self.rules.generator
            )
            return
        for group, name, purpose, shape in (
            (self.below, "random_A", random_bits.PRE, self.layer.in_shape),
            (self.neurons, "random_E", random_bits.POST, self.layer.out_shape),
        ):
            n = math.prod(shape)
            getattr(group, name)[slot * n : (slot + 1) * n] = random_bits.bits16(
                (seed, purpose, i, step), 0, n, self.rules.generator
            )


def fix_feedback(weights: b2.NeuronGroup, seed: int, layer: int) -> None:
    """Fill in the fixed feedback weights B of a layer."""
    weights.random[:] = random_bits.bits16((seed, random_bits.FEEDBACK, layer, 0), 0, weights.N)
    weights.B = FIXED


def _error_bound(network: Network, layer: Layer, rules: Rules) -> int:
    if layer.is_last:
        return layer.z_bound + target_of(layer)
    if rules.feedback == "direct":
        return network.classes * (2 ** (layer.bits.k_E - 1) - 1)
    return network.layers[layer.index + 1].d_bound


def _check(network: Network, rules: Rules, slots: int) -> None:
    for layer in network.layers:
        synapses = slots * layer.positions * layer.n_weights
        if synapses > MAX_SYNAPSES:
            raise EngineError(
                f"layer {layer.index} {layer}: {synapses:,} synapses for {slots} samples in flight; the"
                f" Brian2 engine builds {MAX_SYNAPSES:,} at most, so take a smaller batch"
            )
        _check_integer(layer, _error_bound(network, layer, rules) << layer.bits.k_E)


def _check_integer(layer: Layer, largest: int, where: str = "") -> None:
    if largest >= 1 << 63:
        raise EngineError(
            f"layer {layer.index} {layer} with bits {layer.bits}{where}: a number may reach {largest}, past"
            " the 64-bit integers of the Brian2 engine"
        )


class Simulation:
    """The Brian2 network of a WAGE network.

    Attributes
    ----------
    stepper : holds everything below as the brian2.Network `stepper.net`
    samples : NeuronGroup, one neuron a slot: steps since its sample entered, its label, whether it is learned
    inputs : NeuronGroup of grey levels and their codes, slot after slot
    layers : for each layer its `products`, `neurons` and `weights`
    """

    def __init__(self, network: Network, rules: Rules, state: State, codegen: str) -> None:
        self.network, self.rules = network, rules
        self.slots = 2 * len(network.layers) + 1 if rules.pipelined else rules.batch
        _check(network, rules, self.slots)
        self.layers: list[_Layer] = []
        with Builder(codegen, rules) as build:
            self._build(build, state)

    def _build(self, build: Builder, state: State) -> None:
        network, rules = self.network, self.rules
        self.samples = self._samples(build)
        self.inputs = self._inputs(build)
        below = self.inputs
        for layer in network.layers:
            self.layers.append(_Layer(build, layer, below, self, state))
            below = self.layers[-1].neurons
        if rules.feedback == "direct":
            for hidden in self.layers[:-1]:
                hidden.listen(build, self.layers[-1], state.seed)
        if rules.margin:
            for c in range(network.classes):
                index = np.arange(self.slots) * network.classes + c
                setattr(self.samples, f"z{c}", b2.linked_var(self.layers[-1].products, "Z", index=index))
        self.stepper = Stepper(build)

    def _samples(self, build: Builder) -> b2.NeuronGroup:
        classes = range(self.network.classes if self.rules.margin else 0)
        model = model_of(("phase", "label", "learning", "short", "lead"), [f"z{c}" for c in classes])
        margin = self.rules.margin * target_of(self.network.layers[-1])
        group = build.group(
            self.slots, model, "samples", {"answered": f"phase == {len(self.network.layers)}"}, margin=margin
        )
        group.run_regularly("phase += 1", when="start")
        group.phase, group.short = self._settled, 1
        if self.rules.margin:
            on_event(group, "answered", "margin", 0, margin_code(len(classes)))
        return group

    def _inputs(self, build: Builder) -> b2.NeuronGroup:
        bits, n = self.network.bits, math.prod(self.network.input_shape)
        group = build.group(
            self.slots * n,
            model_of(("grey", "A", "spike_A", "random_A"), ("phase",)),
            "inputs",
            {"enter": "phase == 0", "activation": "phase == 0 and A != 0"},
            signed_input=int(self.network.signed_input),
            **activation_constants(bits),
        )
        group.phase = b2.linked_var(self.samples, "phase", index=np.repeat(np.arange(self.slots), n))
        on_event(group, "enter", "groups", 0, ENTER)
        on_event(group, "activation", "thresholds")
        if self.rules.update == "coincidence":
            group.run_regularly(INPUT_SPIKE, when="error")
        return group

    @property
    def _settled(self) -> int:
        """A phase at which nothing of a sample is on its way any more."""
        return 2 * len(self.network.layers) + 1


@dataclass(frozen=True, kw_only=True)
class Brian2Options(EngineOptions):
    """How Brian2 computes; 'cython' needs a C++ compiler and takes minutes to build once."""

    codegen: str = setting(
        "numpy", "Target of Brian2's code generation.", SIMULATOR, choices=("numpy", "cython")
    )

    def __post_init__(self) -> None:
        check_settings(self)


class Brian2Engine(Engine):
    """Trains a network inside Brian2, bit-identical to the numpy engine.

    Parameters
    ----------
    state : State, optional
        Where to go on from; otherwise the initial state of `seed`.
    options : Brian2Options, optional

    Raises
    ------
    EngineError
        If the network would need too many synapses, or a sum would pass 64 bits.
    """

    name = "brian2"
    supports = Support(
        who="engine 'brian2'",
        kinds=frozenset({Kind.DENSE, Kind.CONV, Kind.MAX_POOL, Kind.AVERAGE_POOL}),
        rules={**VALUES, **NEUTRAL},
    )
    Options = Brian2Options

    def __init__(
        self,
        network: Network,
        rules: Rules | None = None,
        seed: int = 0,
        state: State | None = None,
        options: Brian2Options | None = None,
    ) -> None:
        options = options or Brian2Options()
        super().__init__(network, rules, options)
        self._start = state or initial_state(network, seed)
        self._step = self._start.step
        self.simulation = Simulation(network, self.rules, self._start, options.codegen)

    def learn(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        controls = control_of(control).of_layers(len(self.simulation.layers), self.rules)
        for part, of_layer in zip(self.simulation.layers, controls, strict=True):
            part.set(of_layer)
        batch = self.rules.batch
        logits = [
            self._play(images[i : i + batch], labels[i : i + batch], learning=True)
            for i in range(0, len(images), batch)
        ]
        return np.concatenate(logits) if logits else np.empty((0, self.network.classes), np.int64)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return (n, classes) logits; nothing is learned."""
        self.network.check_images(images)
        slots = self.simulation.slots
        logits = [self._play(images[i : i + slots]) for i in range(0, len(images), slots)]
        return np.concatenate(logits) if logits else np.empty((0, self.network.classes), np.int64)

    @property
    def state(self) -> State:
        """Weights and held exponents, read from the simulation."""
        layers, dtype = self.simulation.layers, code_dtype(self.network.bits.k_G)
        S = [np.asarray(part.weights.S[:]).astype(dtype).reshape(part.layer.weight_shape) for part in layers]
        return State.of(
            S,
            seed=self._start.seed,
            step=self._step,
            error_held=[part.error_shift.held for part in layers],
            gradient_held=[part.gradient_held for part in layers],
        )

    # --- time steps ---

    def _play(
        self, images: np.ndarray, labels: np.ndarray | None = None, learning: bool = False
    ) -> np.ndarray:
        """Send samples in, one a step if pipelined and all at once if not, until all have come through."""
        L, n, slots = len(self.network.layers), len(images), self.simulation.slots
        enters = np.arange(n) if learning and self.rules.pipelined else np.zeros(n, int)
        logits = np.empty((n, self.network.classes), np.int64)
        for t in range(int(enters[-1]) + (2 * L + 1 if learning else L)):
            for sample in np.flatnonzero(enters == t).tolist():
                self._enter(sample % slots, images[sample], 0 if labels is None else labels[sample], learning)
            if learning:
                self._draw(enters, t)
            self.simulation.stepper.advance()
            answered = np.flatnonzero(enters == t - L + 1)
            if len(answered):
                logits[answered] = self._logits[answered % slots]
        if learning:
            self._step += n if self.rules.pipelined else 1
        return logits

    def _enter(self, slot: int, image: np.ndarray, label: int, learning: bool) -> None:
        samples, n = self.simulation.samples, image.size
        samples.phase[slot], samples.label[slot], samples.learning[slot] = -1, int(label), int(learning)
        self.simulation.inputs.grey[slot * n : (slot + 1) * n] = image.ravel()

    def _draw(self, enters: np.ndarray, t: int) -> None:
        for part in self.simulation.layers:
            for sample in np.flatnonzero(enters == t - part.learns_at)[:1]:
                part.draw(self._start.seed, self._step + int(sample), int(sample) % self.simulation.slots)

    @property
    def _logits(self) -> np.ndarray:
        """(slots, classes) products of the last layer."""
        return np.asarray(self.simulation.layers[-1].products.Z[:]).reshape(-1, self.network.classes)
