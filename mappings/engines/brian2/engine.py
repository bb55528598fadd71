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
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np

from wage_neuro import random_bits
from wage_neuro.bits import Bits, code_dtype
from wage_neuro.control import Control, LayerControl, control_of
from wage_neuro.engine import Engine
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.kinds import Kind
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.rules import MARGIN_UNITS, NEUTRAL, VALUES, Rules
from wage_neuro.specs import AvgPool, Conv, Dense, MaxPool, Pool, assert_never
from wage_neuro.support import Support
from wage_neuro.train import Held, State, initial_state

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "_get_vc_env is private", UserWarning)  # of a newer setuptools
    import brian2 as b2

DT = 1 * b2.ms
"""A time step: the time of one hop."""
MAX_SYNAPSES = 1 << 26
"""Synapses of one connection; each takes about 30 bytes, forward and backward."""

SCHEDULE = (
    "start",
    "margin",
    "groups",
    "thresholds",
    *("error_levels", "error_peak", "error_shift", "error", "error_spikes", "unpool"),
    "synapses",
    *("gradient", "gradient_levels", "gradient_peak", "gradient_shift", "update"),
    "held",
    "end",
)
"""What happens within a time step, in this order."""

# --- the arithmetic, in Brian2's language ------------------------------------------------------------


def _round_half_even(name: str, x: str, unit: str) -> str:
    """Code that sets `name` to x / unit, halves to even; on integers."""
    return f"""
{name}_floor = ({x}) // ({unit})
{name}_rest = 2 * (({x}) - {name}_floor * ({unit}))
{name} = {name}_floor + int({name}_rest > ({unit})) + int({name}_rest == ({unit})) * ({name}_floor % 2)
"""


def _saturate(x: str, low: str, high: str) -> str:
    """Expression for x kept within low .. high."""
    inside = f"{x} * int({x} >= {low}) * int({x} <= {high})"
    return f"({inside} + ({low}) * int({x} < {low}) + ({high}) * int({x} > {high}))"


def _sign(x: str) -> str:
    return f"(int({x} > 0) - int({x} < 0))"


def _magnitude(x: str) -> str:
    return f"({x} * {_sign(x)})"  # Brian2's abs is no integer in Cython


ENTER = f"""
light = grey + signed_input * (grey - 255)
{_round_half_even("a", "light * a_scale", "255")}
A = {_saturate("a", "-a_max", "a_max")}
"""
"""Q_A of the grey levels; 255 is odd, so no half occurs."""

ACTIVATE = f"""
{_round_half_even("a", "z", "z_unit")}
A = {_saturate("a", "0", "a_max")}
active = int(z > 0)
open = int(z <= a_max * z_unit)
"""
"""ReLU and Q_A; a neuron that saturates is not open to errors."""

READ_OUT = """
right = int(i % classes == label)
deviation = z - target * right
one_sided = right * deviation * int(deviation < 0) + (1 - right) * deviation * int(deviation > 0)
D = learning * short * {loss}
"""
ERROR = f"""
divisor = unit + int(unit == 0)
{_round_half_even("code", "D * e_scale", "divisor")}
E = active * int(unit > 0) * {_saturate("code", "-e_max", "e_max")}
"""
"""Q_E, then ReLU's mask; with no exponent known yet nothing is sent."""

INPUT_SPIKE = f"""
scale_A = {_magnitude("A")} * 65536
spike_A = {_sign("A")} * int(random_A * a_scale < scale_A)
"""
ERROR_SPIKE = f"""
scale_E = {_magnitude("E")} * eta_up * 65536
spike_E = {_sign("E")} * int(random_E * e_scale * eta_down < scale_E)
"""
"""A code's sign, as often as its size: 16 random bits are below the code, in units of 2**-16."""

FORWARD = "Z_post += V * A_pre"
WON = " * int(winner_pre == index)"
UNPOOL = f"E_post += E_pre{WON}"
UNPOOL_SPIKE = f"spike_E_post += spike_E_pre{WON}"
BACK = "D_post += V * E_pre * open_post"
BACK_FIXED = "D_post += B * E_pre * open_post"
FIXED = "random * 3 // 65536 - 1"
"""A fixed feedback weight: -1, 0, 1, a third each of 16 random bits."""
GRADIENT = "G += A_post * E_pre"
COINCIDENCE = "G += spike_A_post * spike_E_pre"

STOCHASTIC = f"""
known = int(unit > 0)
quotient = {_magnitude("G")} * eta_up * 65536 // ((unit + 1 - known) * eta_down)
size = known * ((quotient + random) // 65536)
"""
"""eta G / Shift(G), stochastically rounded: random bits are added and dropped."""

UPDATE = f"""
s = S - {_sign("G")} * (size * int(size <= step_max) + step_max * int(size > step_max))
S = {_saturate("s", "-s_max", "s_max")}
G = 0
changed = 1
"""
VISIBLE = f"""
{_round_half_even("v", "S * v_up", "v_down")}
V = {_saturate("v", "-v_max", "v_max")}
changed = 0
"""
"""Q_W."""

SHIFT_OF_BATCH = """
unit = peak
exponent = reached - 1
"""
SHIFT_HELD = """
seen = int(reached > 0) * listening
up = seen * int(reached - 1 >= exponent)
under = seen * (1 - up)
waited = (below + under * samples) * (1 - up)
down = under * int(waited >= hold)
next_unit = up * peak + (1 - up) * (unit // (1 + down))
next_exponent = up * (reached - 1) + (1 - up) * (exponent - down)
unit = next_unit
exponent = next_exponent
below = waited * (1 - down)
"""
"""Up at once, down by one after `hold` samples that did not reach it; zeros change nothing.

A frozen layer does not listen to its gradient."""


def pool_code(pool: Pool | None, places: int) -> str:
    """Code for what a neuron makes of the sums z0, z1, ... of its window."""
    match pool:
        case None | MaxPool():
            return _maximum(places)
        case AvgPool():  # the mean's unit is in z_unit
            return f"z = {' + '.join(f'z{p}' for p in range(places))}\n"
        case _:
            assert_never(pool)


def _maximum(places: int) -> str:
    """Code for the maximum z of z0, z1, ... and the place of the first one that has it."""
    lines = ["z_0 = z0", "winner_0 = 0 * z0"]
    for p in range(1, places):
        lines += [
            f"larger_{p} = int(z{p} > z_{p - 1})",
            f"z_{p} = z_{p - 1} + larger_{p} * (z{p} - z_{p - 1})",
            f"winner_{p} = winner_{p - 1} + larger_{p} * ({p} - winner_{p - 1})",
        ]
    return "\n".join([*lines, f"z = z_{places - 1}", f"winner = winner_{places - 1}\n"])


# --- which neuron meets which weight -----------------------------------------------------------------


def synapses_of(layer: Layer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Synapses of one sample: input neuron, product neuron, weight; each (synapses,) int."""
    match layer.spec:
        case Dense():
            return _dense_synapses(layer)
        case Conv(stride=stride):
            return _conv_synapses(layer, stride)
        case _:
            assert_never(layer.spec)


def _dense_synapses(layer: Layer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n_in, n_out = layer.weight_shape
    weight = np.arange(n_in * n_out)
    return weight // n_out, weight % n_out, weight


def _conv_synapses(layer: Layer, stride: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    kernel, _, c_in, c_out = layer.weight_shape
    (height, width, _), (top, _, left, _) = layer.in_shape, layer.padding
    shape = (*layer.z_shape[:2], kernel, kernel, c_in, c_out)
    y, x, ky, kx, ci, co = (index.ravel() for index in np.indices(shape))
    row, column = y * stride + ky - top, x * stride + kx - left
    pre, post = (row * width + column) * c_in + ci, (y * shape[1] + x) * c_out + co
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    weight = ((ky * kernel + kx) * c_in + ci) * c_out + co
    return pre[inside], post[inside], weight[inside]


def activation_constants(bits: Bits) -> dict[str, int]:
    return {"a_scale": 2 ** (bits.k_A - 1), "a_max": 2 ** (bits.k_A - 1) - 1}


def visible_constants(bits: Bits) -> dict[str, int]:
    up, down = max(0, bits.k_W - bits.k_G), max(0, bits.k_G - bits.k_W)
    return {"v_max": 2 ** (bits.k_W - 1) - 1, "v_up": 2**up, "v_down": 2**down}


def windows_of(layer: Layer) -> np.ndarray:
    """(places, outputs) product neuron at each row-major place of an output's pooling window."""
    if layer.pool is None:
        return np.arange(math.prod(layer.z_shape))[None]
    size, step = layer.pool.size, layer.pool.step
    i, j, y, x, c = np.indices((size, size, *layer.out_shape))
    z = ((y * step + i) * layer.z_shape[1] + x * step + j) * layer.z_shape[2] + c
    return z.reshape(size * size, -1)


# --- Brian2 objects ----------------------------------------------------------------------------------


class Builder:
    """Makes Brian2 objects on one clock and keeps them for the network.

    In its `with` block Brian2 generates code for `target`; the user's preference comes back after it.
    """

    def __init__(self, target: str = "numpy") -> None:
        self.clock = b2.Clock(DT)
        self.objects: list[b2.BrianObject] = []
        self._target = target

    def __enter__(self) -> Builder:
        self._before = b2.prefs.codegen.target
        b2.prefs.codegen.target = self._target
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        b2.prefs.codegen.target = self._before

    def group(
        self, n: int, model: str, name: str, events: dict[str, str], **constants: int
    ) -> b2.NeuronGroup:
        """Neurons whose whole state is 64-bit integers; no equation moves it with time."""
        group = b2.NeuronGroup(
            n,
            model,
            events=events,
            name=name,
            namespace=constants,
            dtype=dict.fromkeys(b2.Equations(model).names, np.int64),
            clock=self.clock,
        )
        group.state_updater.active = False
        self.objects.append(group)
        return group

    def synapses(
        self,
        source: b2.NeuronGroup,
        target: b2.NeuronGroup,
        code: str,
        event: str,
        at: tuple[str, int],
        weights: b2.NeuronGroup | None = None,
    ) -> b2.Synapses:
        """Synapses that run code for every event of the source, in the same time step.

        With weights, `index` of a synapse names the one it has.
        """
        synapses = b2.Synapses(
            source,
            target,
            "index : integer (constant)",
            on_pre={event: code},
            on_event={event: event},
            delay={event: 0 * b2.ms},
            name=f"{source.name}_{event}_to_{target.name}",
            clock=self.clock,
        )
        pathway = getattr(synapses, event)
        pathway.when, pathway.order = at
        for variable in {"V", "G", "B"} & set(weights.variables) if weights else ():
            pathway.variables.add_reference(variable, weights, variable, index="index")
        self.objects.append(synapses)
        return synapses


def on_event(group: b2.NeuronGroup, event: str, when: str, order: int = 0, code: str | None = None) -> None:
    """Try an event in a slot of the schedule, and run code for the neurons that have it right after."""
    group.set_event_schedule(event, when, order)
    if code:
        group.run_on_event(event, code, when, order + 1)


def link_windows(neurons: b2.NeuronGroup, products: b2.NeuronGroup, layer: Layer, slots: int) -> None:
    """Let z0, z1, ... of a neuron be the products at the places of its window."""
    windows = windows_of(layer)
    slot, unit = np.divmod(np.arange(slots * windows.shape[1]), windows.shape[1])
    for p, window in enumerate(windows):
        index = window[unit] + slot * math.prod(layer.z_shape)
        setattr(neurons, f"z{p}", b2.linked_var(products, "Z", index=index))


class Stepper:
    """Runs the time steps of a Brian2 network whose code is generated once.

    `brian2.Network.run` prepares every object again each time it is called, for a second or more.
    """

    def __init__(self, build: Builder) -> None:
        self.net, self.clock = b2.Network(build.objects), build.clock
        self.net.schedule = list(SCHEDULE)
        self.net.run(0 * b2.ms, namespace={})
        self.objects = [o for o in self.net.sorted_objects if o.active]
        for part in self.objects:
            for code in getattr(part, "code_objects", ()):
                _check_compiled(code)

    def advance(self) -> None:
        """One time step, as in the loop of `brian2.Network.run`."""
        for part in self.objects:
            part.run()
        step = self.clock.variables["timestep"].get_value()
        step += 1
        self.clock.variables["t"].get_value()[:] = step * self.clock.variables["dt"].get_value()


def _check_compiled(code: Any) -> None:
    """Brian2 prints what Cython could not compile, and would go on without it."""
    text = code.code.run.strip()
    if text and "EMPTY_CODE_BLOCK" not in text and code.compiled_code["run"] is None:
        raise EngineError(f"Brian2 could not compile {code.name}")


class _Shift:
    """The exponent of Shift, found by neurons: one a level, of which the highest that is reached counts.

    Level k is the smallest whole number whose logarithm rounds to k: sqrt(2) * 2**(k - 1) is irrational, so a
    number reaches level k when its square is above 2**(2 k - 1).
    """

    def __init__(
        self,
        build: Builder,
        source: b2.NeuronGroup,
        variable: str,
        event: str,
        bound: int,
        held: Held,
        rules: Rules,
    ) -> None:
        name = f"{source.name}_{variable}"
        above = range(1, (bound * bound).bit_length() // 2 + 1)
        slots = {"D": "error", "G": "gradient"}[variable]
        levels = build.group(
            1 + len(above),
            "above : integer\nlevel : integer\ngain : integer",
            f"{name}_levels",
            {"reached": "above > 0"},
        )
        levels.level[:] = [1, *(math.isqrt(2 ** (2 * k - 1)) + 1 for k in above)]
        levels.gain[:] = [1, *(2 ** (k - 1) for k in above)]
        on_event(levels, "reached", f"{slots}_peak")
        levels.run_on_event("reached", "above = 0", f"{slots}_peak", 2)
        model = model_of(("unit", "exponent", "below", "reached", "peak", "hold", "listening"))
        self.group = build.group(1, model, f"{name}_shift", {}, samples=rules.samples_an_update)
        self.group.hold, self.group.listening = rules.hold, 1
        self.is_held = rules.shift == "held"
        code, when = (SHIFT_HELD, "held") if self.is_held else (SHIFT_OF_BATCH, f"{slots}_shift")
        self.group.run_regularly(code + "reached = 0\npeak = 0\n", when=when)
        self.group.exponent, self.start = -1, held
        if self.is_held and held.exponent is not None:
            self.group.exponent, self.group.below = held.exponent, held.below
            self.group.unit = 2**held.exponent
        count = f"above_post += int({_magnitude(variable + '_pre')} >= level_post)"
        build.synapses(source, levels, count, event, (f"{slots}_levels", 0)).connect()
        rise = "reached_post += 1; peak_post += gain_pre"
        build.synapses(levels, self.group, rise, "reached", (f"{slots}_peak", 1)).connect()

    @property
    def held(self) -> Held:
        exponent = int(self.group.exponent[0])
        if not self.is_held or exponent < 0:
            return self.start
        return Held(exponent, int(self.group.below[0]))


class _Layer:
    """The Brian2 objects of one WAGE layer: products, neurons, stored weights, two sets of synapses."""

    def __init__(
        self,
        build: Builder,
        layer: Layer,
        below: b2.NeuronGroup,
        samples: b2.NeuronGroup,
        of: Simulation,
        state: State,
    ) -> None:
        self.layer, self.rules, self.slots, self.below = layer, of.rules, of.slots, below
        i, L = layer.index, len(of.network.layers)
        self.answers_at, self.learns_at = i + 1, 2 * L - i  # steps after a sample has entered
        if of.rules.feedback == "direct" and not layer.is_last:
            self.learns_at = L + 2
        self.coincidence = of.rules.update == "coincidence"
        self.products = self._products(build, samples)
        self.neurons = self._neurons(build, samples)
        self.weights = self._weights(build, state.S[i])
        if of.rules.feedback == "random":
            fix_feedback(self.weights, state.seed, i)
        bound = _error_bound(of.network, layer, of.rules)
        self.error_shift = _Shift(build, self.neurons, "D", "returned", bound, state.error_held[i], of.rules)
        self.neurons.unit = b2.linked_var(self.error_shift.group, "unit")
        self.start_gradient_held = state.gradient_held[i]
        if not self.coincidence:
            bound = layer.g_bound(of.rules.samples_an_update)
            self.gradient_shift = _Shift(
                build, self.weights, "G", "gradient", bound, state.gradient_held[i], of.rules
            )
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
        s_max = _stored_max(layer, self.rules.stored_range)
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
            "gradient", (f"size = {_magnitude('G')}" if self.coincidence else STOCHASTIC) + UPDATE, "update"
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
        forward = build.synapses(
            self.below, self.products, FORWARD, "activation", ("synapses", 0), self.weights
        )
        backward = build.synapses(self.products, self.below, back, "error", ("synapses", 1), self.weights)
        forward.connect(i=(pre + slot * below).ravel(), j=(post + slot * here).ravel())
        backward.connect(i=(post + slot * here).ravel(), j=(pre + slot * below).ravel())
        forward.index[:] = backward.index[:] = np.tile(weight, self.slots)

        windows = windows_of(layer)
        place, unit = (index.ravel() for index in np.indices(windows.shape))
        unpool = f"{UNPOOL}\n{UNPOOL_SPIKE}" if self.coincidence else UNPOOL
        if isinstance(layer.pool, AvgPool):  # each place of the window gets the error
            unpool = unpool.replace(WON, "")
        pooled = build.synapses(self.neurons, self.products, unpool, "error", ("unpool", 0))
        pooled.connect(i=(unit + slot * windows.shape[1]).ravel(), j=(windows.ravel() + slot * here).ravel())
        pooled.index[:] = np.tile(place, self.slots)

    def listen(self, build: Builder, last: _Layer, seed: int) -> None:
        """Direct feedback: fixed synapses from the last layer's errors to these neurons."""
        n, classes = math.prod(self.layer.out_shape), math.prod(last.layer.out_shape)
        weights = build.group(n * classes, model_of(("B", "random")), f"feedback{self.layer.index}", {})
        fix_feedback(weights, seed, self.layer.index)
        direct = build.synapses(last.neurons, self.neurons, BACK_FIXED, "error", ("synapses", 0), weights)
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
                seed, random_bits.UPDATE, i, step, 0, self.layer.n_weights
            )
            return
        for group, name, purpose, shape in (
            (self.below, "random_A", random_bits.PRE, self.layer.in_shape),
            (self.neurons, "random_E", random_bits.POST, self.layer.out_shape),
        ):
            n = math.prod(shape)
            getattr(group, name)[slot * n : (slot + 1) * n] = random_bits.bits16(seed, purpose, i, step, 0, n)


def model_of(own: Sequence[str], linked: Sequence[str] = (), shared: Sequence[str] = ()) -> str:
    flags = {"": own, " (linked)": linked, " (shared)": shared}
    return "\n".join(f"{name} : integer{flag}" for flag, names in flags.items() for name in names)


def z_unit_of(layer: Layer) -> int:
    """A step of activation in units of z: alpha, from the paper's formula, by a visible weight's step.

    The z of a mean is a sum of as many products.
    """
    smallest = 1.5 * 2.0 ** (1 - layer.bits.k_W)
    alpha = 2 ** max(0, round(math.log2(smallest / math.sqrt(3 / layer.fan_in))))
    summed = layer.pool.size**2 if isinstance(layer.pool, AvgPool) else 1
    return 2 ** (layer.bits.k_W - 1) * alpha * summed


def target_of(layer: Layer) -> int:
    """The code of 1.0 at the output, in units of Z."""
    return 2 ** (layer.bits.k_A - 1) * z_unit_of(layer)


def fix_feedback(weights: b2.NeuronGroup, seed: int, layer: int) -> None:
    """Fill in the fixed feedback weights B of a layer."""
    weights.random[:] = random_bits.bits16(seed, random_bits.FEEDBACK, layer, 0, 0, weights.N)
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


def _stored_max(layer: Layer, stored_range: str) -> int:
    """Largest stored weight: of k_G bits, or the largest visible weight in these units."""
    bits, whole = layer.bits, 2 ** (layer.bits.k_G - 1) - 1
    if stored_range == "paper" or bits.k_G < bits.k_W:
        return whole
    return min(whole, (2 ** (bits.k_W - 1) - 1) * 2 ** (bits.k_G - bits.k_W))


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
        with Builder(codegen) as build:
            self._build(build, state)

    def _build(self, build: Builder, state: State) -> None:
        network, rules = self.network, self.rules
        self.samples = self._samples(build)
        self.inputs = self._inputs(build)
        below = self.inputs
        for layer in network.layers:
            self.layers.append(_Layer(build, layer, below, self.samples, self, state))
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
            on_event(group, "answered", "margin", 0, _margin_code(len(classes)))
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


def _margin_code(classes: int) -> str:
    """Code for `short`: whether the right output lacks its lead over any other."""
    right = " + ".join(f"z{c} * int(label == {c})" for c in range(classes))
    rivals = [f"int(label != {c}) * int({MARGIN_UNITS} * (lead - z{c}) < margin)" for c in range(classes)]
    if classes == 1:
        rivals = [f"int({MARGIN_UNITS} * lead < margin)"]
    return f"lead = {right}\nclose = {' + '.join(rivals)}\nshort = int(close > 0)"


class Brian2Engine(Engine):
    """Trains a network inside Brian2, bit-identical to the numpy engine.

    Parameters
    ----------
    state : State, optional
        Where to go on from; otherwise the initial state of `seed`.
    codegen : 'numpy' or 'cython'
        Brian2's code generation target; 'cython' needs a C++ compiler and takes minutes to build once.

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
        options={"codegen": "numpy or cython"},
    )

    def __init__(
        self,
        network: Network,
        rules: Rules | None = None,
        seed: int = 0,
        state: State | None = None,
        codegen: str = "numpy",
    ) -> None:
        super().__init__(network, rules)
        self._start = state or initial_state(network, seed)
        self._step = self._start.step
        if codegen not in ("numpy", "cython"):
            raise SettingError(f"codegen={codegen!r}: want numpy or cython")
        self.simulation = Simulation(network, self.rules, self._start, codegen)

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
