"""What the processes of all WAGE layers have in common: ports, state, one behavioural model."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.variable import Var

from processes.alone import ONLINE, Alone, Stream, fitted, require_one_lane, stream_of
from processes.ports import DirectIn, given
from processes.quick import PyQuickModel
from wage_neuro import layers
from wage_neuro.activity import FIELDS
from wage_neuro.control import LayerControl
from wage_neuro.errors import SettingError
from wage_neuro.kernels.layerwise import layer_at_work
from wage_neuro.layers import Layer, initial_weights, no_importance
from wage_neuro.learner import Site
from wage_neuro.neurocore import UNKNOWN
from wage_neuro.rules import UPDATES, Rules
from wage_neuro.schedule import Schedule
from wage_neuro.specs import assert_never
from wage_neuro.state import Held, LayerState

LEARNED = ("S", "error_held", "gradient_held", "update_step", "importance")
"""Vars that hold all that learning changes."""
ERROR_MAX = 2**31 - 1
SHOW, TAKE = 1, 2  # of the Var window


def _shared(shape: tuple[int, ...]) -> np.ndarray:
    """Array that a program shares with the Processes that are forked later."""
    size = int(np.prod(shape)) * np.dtype(np.int64).itemsize
    return np.frombuffer(mmap.mmap(-1, size), np.int64).reshape(shape)


def held_to_var(held: Held) -> np.ndarray:
    """Held -> (2,) int32 for a Var."""
    return np.array([UNKNOWN if held.exponent is None else held.exponent, held.below], np.int32)


def held_from_var(value: np.ndarray) -> Held:
    """(2,) Var -> Held.

    >>> held_from_var(held_to_var(Held(7, 3)))
    Held(exponent=7, below=3)
    """
    exponent, below = (int(v) for v in value)
    return Held(None if exponent == UNKNOWN else exponent, below)


@dataclass(frozen=True, kw_only=True)
class LayerSettings:
    """What a layer's Process is told beside the layer.

    Parameters
    ----------
    rules : how it learns
    clock : when messages come: a `Stream`, one a port and step, or the `Schedule` of a `LavaEngine`'s batches
    learned : what `learned()` of another graph has returned, to go on from there
    log2_eta : step size, as the Var
    signed_in : whether activation codes may be below 0
    error_bound : largest error that may arrive
    kernels : 'auto', 'numpy' or 'compiled', what the behavioural model computes with
    """

    rules: Rules = ONLINE
    clock: Schedule | Stream = Stream()  # noqa: RUF009 - frozen
    lanes: int = 1
    classes: int = 0
    seed: int = 0
    learned: Mapping[str, np.ndarray] | None = None
    log2_eta: int = 3
    signed_in: bool = False
    error_bound: int = 2**31 - 1
    kernels: str = "auto"
    name: str | None = None


class WageLayer(Alone):
    """One WAGE layer: weights, pooling, activation, error and update.

    Ports (integers; one time step a hop)
    -------------------------------------
    a_in : in_shape, activation codes, k_A bits
    a_out : out_shape, activation codes, k_A bits; of a hidden layer
    z_out : out_shape, products Z, 32 bits; of the last layer
    e_in : out_shape, error sums V^T E of the layer above, or errors of a loss, 32 bits
    e_out : in_shape, error sums for the layer below, 32 bits; the layer of index 0 sends zeros
    With direct feedback, e_in of a hidden layer and e_out of the last have (classes,) error codes. In a graph
    that takes `lanes` samples a time step, each shape has them as its first axis.

    Vars
    ----
    S : stored weights, k_G bits, weight_shape
    error_held, gradient_held : (exponent or -1, samples below it)
    learning : 1 learns, 0 answers only
    log2_eta : step size
    frozen : 1 keeps the weights as they are, while errors pass
    hold : samples below a held exponent before it steps down
    update : place in `rules.UPDATES` of the update form
    feedback : 1 sends the error on, 0 does not, and what is below learns nothing
    update_step : updates done; names the random bits. Of a `Stream`, time steps since the first error
    watch : count the activity of every so many update steps, and of all answers; 0 counts nothing
    counts : what was counted, see `wage_neuro.activity.FIELDS`
    importance : (2, *weight_shape) bits of importance and steps of each synapse, see
        `wage_neuro.layers.no_importance`; (1,) where the rules keep none
    task_updates : set to the updates of a task that has ended, makes importance of its steps in the next step
    window : set by `learned` and `go_on_from`

    The structural model wants `proc_params["limits"]`, of `processes.widths.limits`, and a `Schedule`; its
    rules stay as they are. Set a Var that several of its parts have with `processes.part.set_everywhere`.
    """

    def __init__(self, layer: Layer, settings: LayerSettings) -> None:
        rules, lanes, classes = settings.rules, settings.lanes, settings.classes
        alone = stream_of(settings.clock)
        if alone:
            require_one_lane(lanes)
            require_online(layer, rules)
        told = {name: each for name, each in vars(settings).items() if name not in ("learned", "log2_eta")}
        told |= {"schedule": told.pop("clock"), "name": settings.name or f"layer {layer.index} {layer}"}
        super().__init__(layer=layer, **told)
        axis = () if alone else (lanes,)
        direct = rules.feedback == "direct"
        self.a_in = InPort(shape=(*axis, *layer.in_shape))
        self.a_out = OutPort(shape=(*axis, *layer.out_shape))
        self.z_out = OutPort(shape=(*axis, *layer.out_shape))
        self.e_in = InPort(shape=(*axis, classes) if direct else (*axis, *layer.out_shape))
        self.e_out = OutPort(shape=(*axis, classes) if direct else (*axis, *layer.in_shape))
        first = {
            "S": initial_weights(layer, settings.seed),
            "error_held": held_to_var(Held()),
            "gradient_held": held_to_var(Held()),
            "update_step": np.array([alone.first_step if alone else 0]),
            "importance": no_importance(layer, rules) if rules.consolidation else np.zeros(1, np.int32),
            **(settings.learned or {}),
        }
        for name_of_var in LEARNED:
            value = np.asarray(first[name_of_var])
            setattr(self, name_of_var, Var(shape=value.shape, init=value))
        if self.S.shape != layer.weight_shape:
            raise SettingError(
                f"{self.name}: stored weights of shape {self.S.shape}: want {layer.weight_shape}"
            )
        self.learning = Var(shape=(1,), init=1)
        self.log2_eta = Var(shape=(1,), init=settings.log2_eta)
        self.frozen = Var(shape=(1,), init=0)
        self.hold = Var(shape=(1,), init=rules.hold)
        self.update = Var(shape=(1,), init=UPDATES.index(rules.update))
        self.feedback = Var(shape=(1,), init=1)
        self.watch = Var(shape=(1,), init=0)
        self.counts = Var(shape=(len(FIELDS),), init=0)
        self.task_updates = Var(shape=(1,), init=0)
        self.window = Var(shape=(1,), init=0)
        shapes = {name: getattr(self, name).shape for name in LEARNED} if alone else {}
        self.proc_params["seen"] = {name: _shared(shape) for name, shape in shapes.items()}

    def learned(self) -> dict[str, np.ndarray]:
        """Return what it has learned, of a graph of one's own that waits between two runs.

        To build another graph that goes on to the same bits, let the samples in flight leave before: run as
        many time steps of zeros as its samples are on their way. `Var.get` has the same numbers, one a
        message.
        """
        self._ask_at_window(SHOW)
        return {name: seen.copy() for name, seen in self.proc_params["seen"].items()}

    def go_on_from(self, learned: Mapping[str, np.ndarray]) -> None:
        """Put what `learned` has returned in the place of what it has learned, between two runs."""
        for name, seen in self.proc_params["seen"].items():
            seen[...] = learned[name]
        self._ask_at_window(TAKE)

    def _ask_at_window(self, what: int) -> None:
        self.window.set(np.array([what]))
        self.window.get()  # which waits until it is done; Lava confirms a set before the model looks at it

    def wanted(self) -> dict[str, str]:
        """In a graph of one's own, an input and an error."""
        if not stream_of(self.proc_params["schedule"]):
            return {}
        errors = "a layer learns from a loss, or the layer above; one that only answers is frozen"
        return {"a_in": "it wants a message every time step", "e_in": errors}


def require_online(layer: Layer, rules: Rules) -> None:
    """Raise SettingError unless a layer can learn one sample a time step without an end."""
    rules.require("a layer that stands alone", shift=("held",), feedback=("transposed", "random"))
    if rules.samples_an_update != 1:
        raise SettingError(
            f"batch={rules.batch}: a layer that stands alone learns each sample by itself, want 1"
        )
    if not layer.quantized:
        raise SettingError(f"layer {layer}: want a quantized one, to stand alone")


class PyWageLayerModelFixed(PyQuickModel):
    """Behavioural model of a WAGE layer: receive, call `wage_neuro`, send. It owns no arithmetic.

    Subclasses say which Process they implement.
    """

    a_in: PyInPort = LavaPyType(DirectIn, np.int16, precision=16)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int16, precision=16)
    z_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=32)
    e_in: PyInPort = LavaPyType(DirectIn, np.int32, precision=32)
    e_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=32)
    S: np.ndarray = LavaPyType(np.ndarray, np.int16, precision=16)
    error_held: np.ndarray = LavaPyType(np.ndarray, np.int32)
    gradient_held: np.ndarray = LavaPyType(np.ndarray, np.int32)
    learning: np.ndarray = LavaPyType(np.ndarray, np.int32)
    log2_eta: np.ndarray = LavaPyType(np.ndarray, np.int32)
    frozen: np.ndarray = LavaPyType(np.ndarray, np.int32)
    hold: np.ndarray = LavaPyType(np.ndarray, np.int32)
    update_step: np.ndarray = LavaPyType(np.ndarray, np.int64)
    watch: np.ndarray = LavaPyType(np.ndarray, np.int32)
    counts: np.ndarray = LavaPyType(np.ndarray, np.int64)
    update: np.ndarray = LavaPyType(np.ndarray, np.int32)
    feedback: np.ndarray = LavaPyType(np.ndarray, np.int32)
    importance: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=16)
    task_updates: np.ndarray = LavaPyType(np.ndarray, np.int64)
    window: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.layer: Layer = proc_params["layer"]
        self.rules: Rules = proc_params["rules"]
        clock: Schedule | Stream = proc_params["schedule"]
        self.clock = clock
        self.work = layer_at_work(
            Site(*(proc_params[name] for name in Site._fields)),
            proc_params["lanes"],
            kernels=proc_params["kernels"],
            in_flight=_most_in_flight(self.layer, clock),
            signed_in=proc_params["signed_in"],
            error_bound=proc_params["error_bound"],
        )
        self.t = 0  # step within the batch, or of the stream
        self.forward_message: np.ndarray | None = None
        self.error_message: np.ndarray | None = None
        self.learned = False  # whether an error has come since the last update
        self.first_step = 0  # update step of the batch's first sample

    def run_spk(self) -> None:
        """Send what the step before computed, then receive and compute."""
        self._send()
        if self.task_updates[0]:
            self._end_task()
        match self.clock:
            case Stream():
                self._meet_stream(self.clock)
            case Schedule():
                self._meet_batch(self.clock)
            case _:
                assert_never(self.clock)

    def _meet_batch(self, clock: Schedule) -> None:
        if self.t == 0:
            self.first_step = int(self.update_step[0])
        micro = clock.forward(self.layer.index, self.t)
        if micro is not None:
            counts = self._counted(self.first_step + (micro if self.rules.pipelined else 0))
            self.forward_message = self.work.forward(self.a_in.recv(), bool(self.learning[0]), counts)
        if self.learning[0] and clock.error(self.layer.index, self.t) is not None:
            self._backward(self.e_in.recv())
        self.t = (self.t + 1) % clock.steps(bool(self.learning[0]))

    def _meet_stream(self, clock: Stream) -> None:
        """A sample and an error; those of steps without any are zeros."""
        name, layer, step = self.proc_params["name"], self.layer, int(self.update_step[0])
        top = layer.bits.activation_max
        low = -top if self.proc_params["signed_in"] else 0
        a = fitted(self.a_in.recv(), low, top, f"{name}: a_in")[None]
        e = fitted(self.e_in.recv(), -ERROR_MAX, ERROR_MAX, f"{name}: e_in")[None]
        self.forward_message = self.work.forward(a, True, self._counted(max(0, step)))
        self.t += 1
        if self.t > clock.delay and self.learning[0] and step >= 0:
            self._backward(e)
        elif self.t > clock.delay:
            self.work.forget()
        if not self.learned:
            self.update_step = self.update_step + 1

    def _backward(self, message: np.ndarray) -> None:
        step, sends = int(self.update_step[0]), bool(self.feedback[0])
        sent = self.work.error(message, self._control(), step, sends, self._counted(step))
        self.error_message = sent if sends or sent is None else np.zeros_like(sent)
        self.learned = True

    def lrn_guard(self) -> bool:
        """Learn in the learning phase of a batch's last step; pipelined, of every step with an error."""
        return self.learned and (self.rules.pipelined or bool(stream_of(self.clock)) or self.t == 0)

    def run_lrn(self) -> None:
        """Update the stored weights from the batch's gradient, and the held exponents."""
        step = int(self.update_step[0])
        self.work.update(self._control(), step, self._counted(step))
        self.update_step = self.update_step + 1
        self.learned, self.stale = False, True

    # --- Vars that others may read and set: their values lie in `work` while it runs ---

    def fetch(self) -> None:
        """Bring the Vars up to date."""
        learned = self.work.get()
        self.S = learned.S.astype(np.int16)
        self.error_held = held_to_var(learned.error_held)
        self.gradient_held = held_to_var(learned.gradient_held)
        if learned.importance is not None:
            self.importance = learned.importance.astype(np.int32)

    def on_var_update(self) -> None:
        """Go on from what has been set."""
        self._look_through_window()
        self.rules = replace(self.rules, update=chosen(UPDATES, self.update, "update"))
        self.work.follow(self.rules)
        importance = self.importance.astype(np.uint16) if self.rules.consolidation else None
        self.work.put(
            LayerState(
                S=self.S,
                error_held=held_from_var(self.error_held),
                gradient_held=held_from_var(self.gradient_held),
                importance=importance,
            )
        )

    def _look_through_window(self) -> None:
        """Show the Vars that learning changes, or take others, in memory shared with the program."""
        if self.window[0]:
            for name, seen in self.proc_params["seen"].items():
                var = getattr(self, name)
                here, there = (seen, var) if self.window[0] == SHOW else (var, seen)
                here[...] = there
            self.window[0] = 0

    def _end_task(self) -> None:
        learned = self.work.get()
        assert learned.importance is not None
        raised = layers.consolidate(learned.importance, int(self.task_updates[0]), self.rules)
        self.work.put(replace(learned, importance=raised))
        self.task_updates, self.stale = np.zeros(1, np.int64), True

    def _control(self) -> LayerControl:
        return LayerControl(None if self.frozen[0] else int(self.log2_eta[0]), int(self.hold[0]))

    def _counted(self, step: int) -> np.ndarray | None:
        """Where to count the activity of an update step; None when it is not counted."""
        every = int(self.watch[0])
        return self.counts if every and (step % every == 0 or not self.learning[0]) else None

    def _send(self) -> None:
        if stream_of(self.clock):
            self._send_always()
        if self.forward_message is not None:
            (self.z_out if self.layer.is_last else self.a_out).send(given(self.forward_message))
        if self.error_message is not None:
            self.e_out.send(given(self.error_message))
        self.forward_message = self.error_message = None

    def _send_always(self) -> None:
        """One message a port and step: zeros where there is nothing to tell."""
        a, e = self.forward_message, self.error_message
        layer = self.layer
        self.forward_message = np.zeros(layer.out_shape, np.int32) if a is None else a[0]
        self.error_message = np.zeros(layer.in_shape, np.int32) if e is None else e[0]


def _most_in_flight(layer: Layer, clock: Schedule | Stream) -> int:
    """Calls whose samples wait for their error at once, at most."""
    match clock:
        case Stream(delay):
            return delay + 1
        case Schedule():
            return min(clock.micro_steps, clock.error_delay(layer.index) - layer.index + 1)
        case _:
            assert_never(clock)


def chosen(names: tuple[str, ...], var: np.ndarray, what: str) -> str:
    """The rule that a Var names by its place."""
    place = int(var[0])
    if not 0 <= place < len(names):
        raise SettingError(f"{what}={place}: want {', '.join(f'{i} ({n})' for i, n in enumerate(names))}")
    return names[place]
