"""What the processes of all WAGE layers have in common: ports, state, one behavioural model."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from wage_neuro import layers
from wage_neuro.activity import FIELDS, count_forward
from wage_neuro.control import LayerControl
from wage_neuro.layers import Layer
from wage_neuro.neurocore import UNKNOWN
from wage_neuro.rules import Rules
from wage_neuro.schedule import Schedule
from wage_neuro.train import Held, learn, next_held, pass_error, receive_error


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


class WageLayer(AbstractProcess):
    """One WAGE layer: weights, pooling, activation, error and update. `lanes` samples a time step.

    Ports (integers; one time step a hop)
    -------------------------------------
    a_in : (lanes, *in_shape) activation codes, k_A bits
    a_out : (lanes, *out_shape) activation codes, k_A bits; of a hidden layer
    z_out : (lanes, *out_shape) products Z, 32 bits; of the last layer
    e_in : (lanes, *out_shape) error sums V^T E of the layer above, 32 bits; with direct feedback
        (lanes, classes) error codes of the last layer
    e_out : (lanes, *in_shape) error sums for the layer below, 32 bits; with direct feedback (lanes, classes)
        error codes, of the last layer only

    Vars
    ----
    S : stored weights, k_G bits, weight_shape
    error_held, gradient_held : (exponent or -1, samples below it)
    learning : 1 learns, 0 answers only
    log2_eta : step size
    frozen : 1 keeps the weights as they are, while errors pass
    hold : samples below a held exponent before it steps down
    update_step : updates done; names the random bits
    watch : count the activity of every so many update steps, and of all answers; 0 counts nothing
    counts : what was counted, see `wage_neuro.activity.FIELDS`
    importance : (2, *weight_shape) bits of importance and steps of each synapse, see
        `wage_neuro.layers.no_importance`; (1,) where the rules keep none
    task_updates : set to the updates of a task that has ended, makes importance of its steps in the next step

    The structural model wants `proc_params["limits"]`, of `processes.widths.limits`. Set a Var that several
    of its parts have with `processes.part.set_everywhere`.
    """

    def __init__(
        self,
        layer: Layer,
        classes: int,
        rules: Rules,
        schedule: Schedule,
        lanes: int,
        S: np.ndarray,
        error_held: Held,
        gradient_held: Held,
        seed: int,
        step: int,
        importance: np.ndarray | None = None,
    ) -> None:
        super().__init__(
            layer=layer,
            classes=classes,
            rules=rules,
            schedule=schedule,
            seed=seed,
            name=f"layer {layer.index} {layer}",
        )
        direct = rules.feedback == "direct"
        self.a_in = InPort(shape=(lanes, *layer.in_shape))
        self.a_out = OutPort(shape=(lanes, *layer.out_shape))
        self.z_out = OutPort(shape=(lanes, *layer.out_shape))
        self.e_in = InPort(shape=(lanes, classes) if direct else (lanes, *layer.out_shape))
        self.e_out = OutPort(shape=(lanes, classes) if direct else (lanes, *layer.in_shape))
        self.S = Var(shape=layer.weight_shape, init=S)
        self.error_held = Var(shape=(2,), init=held_to_var(error_held))
        self.gradient_held = Var(shape=(2,), init=held_to_var(gradient_held))
        self.learning = Var(shape=(1,), init=1)
        self.log2_eta = Var(shape=(1,), init=0)
        self.frozen = Var(shape=(1,), init=0)
        self.hold = Var(shape=(1,), init=rules.hold)
        self.update_step = Var(shape=(1,), init=step)
        self.watch = Var(shape=(1,), init=0)
        self.counts = Var(shape=(len(FIELDS),), init=0)
        self.importance = Var(
            shape=(1,) if importance is None else importance.shape,
            init=0 if importance is None else importance.astype(np.int32),
        )
        self.task_updates = Var(shape=(1,), init=0)


class PyWageLayerModelFixed(PyLoihiProcessModel):
    """Behavioural model of a WAGE layer: receive, call `wage_neuro`, send. It owns no arithmetic.

    Subclasses say which Process they implement.
    """

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int16, precision=16)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int16, precision=16)
    z_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=32)
    e_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=32)
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
    importance: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=16)
    task_updates: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.layer: Layer = proc_params["layer"]
        self.classes: int = proc_params["classes"]
        self.rules: Rules = proc_params["rules"]
        self.schedule: Schedule = proc_params["schedule"]
        self.seed: int = proc_params["seed"]
        self.t = 0  # step within the batch
        self.forward_message: np.ndarray | None = None
        self.error_message: np.ndarray | None = None
        self.in_flight: deque[layers.Kept] = deque()
        self.G: np.ndarray | None = None
        self.error_peak: int | None = None  # of the batch so far; None before its first error
        self.first_step = 0  # update step of the batch's first sample
        self.V: np.ndarray | None = None

    def run_spk(self) -> None:
        """Send what the step before computed, then receive and compute."""
        self._send()
        if self.task_updates[0]:
            self._end_task()
        if self.t == 0:
            self.first_step = int(self.update_step[0])
        micro = self.schedule.forward(self.layer.index, self.t)
        if micro is not None:
            self._forward(self.a_in.recv(), micro)
        if self.learning[0]:
            micro = self.schedule.error(self.layer.index, self.t)
            if micro is not None:
                self._backward(self.e_in.recv())
        self.t = (self.t + 1) % self.schedule.steps(bool(self.learning[0]))

    def lrn_guard(self) -> bool:
        """Learn in the learning phase of a batch's last step; pipelined, of every step with an error."""
        return self.error_peak is not None and (self.rules.pipelined or self.t == 0)

    def run_lrn(self) -> None:
        """Update the stored weights from the batch's gradient, and the held exponents."""
        samples, rules, control = self.rules.samples_an_update, self.rules, self._control()
        assert self.error_peak is not None
        held = next_held(held_from_var(self.error_held), self.error_peak, samples, rules, control.hold)
        self.error_held = held_to_var(held)
        gradient_held, importance = held_from_var(self.gradient_held), self._importance()
        S, held = learn(
            self.layer,
            self.S,
            self.G,
            gradient_held,
            samples,
            control,
            rules,
            self._seed_step(),
            self._counted(int(self.update_step[0])),
            importance,
        )
        self.gradient_held = held_to_var(held)
        if importance is not None:
            self.importance = importance.astype(np.int32)
        if S is not self.S:
            self.S, self.V = S, None
        self.update_step = self.update_step + 1
        self.G, self.error_peak = None, None

    def _importance(self) -> np.ndarray | None:
        return self.importance.astype(np.uint16) if self.rules.consolidation else None

    def _end_task(self) -> None:
        importance = self._importance()
        assert importance is not None
        raised = layers.consolidate(importance, int(self.task_updates[0]), self.rules)
        self.importance, self.task_updates = raised.astype(np.int32), np.zeros(1, np.int64)

    def _control(self) -> LayerControl:
        return LayerControl(None if self.frozen[0] else int(self.log2_eta[0]), int(self.hold[0]))

    def _seed_step(self) -> tuple[int, int]:
        return self.seed, int(self.update_step[0])

    def _counted(self, step: int) -> np.ndarray | None:
        """Where to count the activity of an update step; None when it is not counted."""
        every = int(self.watch[0])
        return self.counts if every and (step % every == 0 or not self.learning[0]) else None

    def _send(self) -> None:
        if self.forward_message is not None:
            (self.z_out if self.layer.is_last else self.a_out).send(self.forward_message)
        if self.error_message is not None:
            self.e_out.send(self.error_message)
        self.forward_message = self.error_message = None

    def _visible_weights(self) -> np.ndarray:
        if self.V is None:
            self.V = layers.visible_weights(self.layer, self.S)
        return self.V

    def _forward(self, a_in: np.ndarray, micro: int) -> None:
        self.forward_message, kept = layers.forward(self.layer, self._visible_weights(), a_in)
        if self.learning[0]:
            self.in_flight.append(kept)
        counts = self._counted(self.first_step + (micro if self.rules.pipelined else 0))
        if counts is not None:
            count_forward(counts, self.layer, self._visible_weights(), a_in, self.forward_message)

    def _backward(self, message: np.ndarray) -> None:
        layer, rules, kept = self.layer, self.rules, self.in_flight.popleft()
        counts = self._counted(int(self.update_step[0]))
        E, peak = receive_error(
            layer, message, kept, held_from_var(self.error_held), self.classes, rules, self.seed, counts
        )
        self.error_peak = max(self.error_peak or 0, peak)
        G, self.error_message = pass_error(
            layer,
            self._visible_weights(),
            kept,
            E,
            self.classes,
            self._control(),
            rules,
            self._seed_step(),
            counts,
        )
        if G is not None:
            self.G = G if self.G is None else np.add(self.G, G, dtype=np.float64)
