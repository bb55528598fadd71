"""Brian2 objects that no equation moves: neurons of integers, synapses that speak within a step, a clock."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any

import brian2 as b2
import numpy as np
from brian2.codegen.translation import make_statements

from mappings.engines.brian2.equations import SHIFT_HELD, SHIFT_OF_BATCH, magnitude, model_of, windows_of
from wage_neuro.errors import EngineError
from wage_neuro.layers import Layer
from wage_neuro.rules import Rules
from wage_neuro.train import Held

DT = 1 * b2.ms
"""A time step: the time of one hop."""
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


class Builder:
    """Makes Brian2 objects on one clock and keeps them for the network.

    In its `with` block Brian2 generates code for `target`; the user's preference comes back after it. What
    Brian2 remembers of codes that it translated before is dropped: it would keep half a MiB of each engine.
    Where an error or Ctrl-C ends the block, it does not complain of the objects that no network ever gets.
    """

    def __init__(self, target: str = "numpy", rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.clock = b2.Clock(DT)
        self.objects: list[b2.BrianObject] = []
        self._target = target

    def __enter__(self) -> Builder:
        self._before = b2.prefs.codegen.target
        b2.prefs.codegen.target = self._target
        make_statements.__wrapped__._cache.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        b2.prefs.codegen.target = self._before
        if error is not None:
            b2.BrianLogger.suppress_name("unused_brian_object")

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
    ) -> b2.Synapses:
        """Synapses that run code for every event of the source, in the same time step."""
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
        self.objects.append(synapses)
        return synapses


def take_weights(pathway: b2.SynapticPathway, weights: b2.NeuronGroup) -> None:
    """Let synapses have weights: `index` of a synapse names its own."""
    for variable in {"V", "G", "B"} & set(weights.variables):
        pathway.variables.add_reference(variable, weights, variable, index="index")


def on_event(group: b2.NeuronGroup, event: str, when: str, order: int = 0, code: str | None = None) -> None:
    """Try an event in a slot of the schedule, and run code for the neurons that have it right after."""
    group.set_event_schedule(event, when, order)
    if code:
        group.run_on_event(event, code, when, order + 1)


def connect_all(synapses: b2.Synapses) -> None:
    """Connect every pair; by number, as Brian2 generates code where it is told none."""
    i, j = np.indices((synapses.source.N, synapses.target.N))
    synapses.connect(i=i.ravel(), j=j.ravel())


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


class Shift:
    """The exponent of Shift, found by neurons: one a level, of which the highest that is reached counts.

    Level k is the smallest whole number whose logarithm rounds to k: sqrt(2) * 2**(k - 1) is irrational, so a
    number reaches level k when its square is above 2**(2 k - 1).
    """

    def __init__(
        self,
        build: Builder,
        source: b2.NeuronGroup,
        variable: str,
        bound: int,
        held: Held,
    ) -> None:
        rules = build.rules
        name = f"{source.name}_{variable}"
        above = range(1, (bound * bound).bit_length() // 2 + 1)
        slots, event = {"D": ("error", "returned"), "G": ("gradient", "gradient")}[variable]
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
        count = f"above_post += int({magnitude(variable + '_pre')} >= level_post)"
        connect_all(build.synapses(source, levels, count, event, (f"{slots}_levels", 0)))
        rise = "reached_post += 1; peak_post += gain_pre"
        connect_all(build.synapses(levels, self.group, rise, "reached", (f"{slots}_peak", 1)))

    @property
    def held(self) -> Held:
        exponent = int(self.group.exponent[0])
        if not self.is_held or exponent < 0:
            return self.start
        return Held(exponent, int(self.group.below[0]))
