"""Network -> connected Lava Processes, and the engine that trains and answers in them.

One long-lived graph: image source -> a Process a WAGE layer -> read-out, errors the same way back; a memory
that replays stands behind the source. It is built once and serves the whole training and its evaluations;
learning is switched by a Var. A layer's Process
runs as one piece (behavioural), or as the parts of a neurocore (structural).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import numpy as np
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.proc.monitor.process import Monitor

from mappings.engines.lava.graph import Graph, in_turn
from mappings.engines.lava.shared_memory import shared_array
from processes.conv.process import WageConv
from processes.dense.process import WageDense
from processes.host import Host
from processes.layer_process import WageLayer, held_from_var, held_to_var
from processes.memory.process import Memory
from processes.part import set_everywhere, take_counts
from processes.readout.process import MAX_WINDOWS, ReadOut
from processes.source.process import ImageSource
from processes.steady.process import Steady
from processes.widths import Widths, limits, output_error_max, require_hold, unproven
from wage_neuro.activity import Activity, Watch
from wage_neuro.bits import code_dtype
from wage_neuro.control import Control, control_of
from wage_neuro.engine import Engine, EngineOptions, check_training_input
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.kinds import Kind
from wage_neuro.layers import Layer
from wage_neuro.memory import Replay, Reservoir, with_gaps
from wage_neuro.network import Network
from wage_neuro.rules import NEUTRAL, VALUES, Rules
from wage_neuro.schedule import Schedule
from wage_neuro.specs import Conv, Dense
from wage_neuro.state import as_ruled
from wage_neuro.support import Support
from wage_neuro.train import Batch, Held, State, initial_state

MESSAGE_BITS = 32
RING_BYTES = 32 << 20  # images on their way into the graph
_LAVA = Support(
    who="engine 'lava'",
    kinds=frozenset({Kind.DENSE, Kind.CONV, Kind.MAX_POOL, Kind.AVERAGE_POOL, Kind.PADDED_POOL}),
    rules={**VALUES, "momentum": (0,)},
    abilities=frozenset({"counts activity", "consolidates", "holds the memory"}),
)
MODELS = {
    "behavioural": _LAVA,
    "structural": replace(
        _LAVA,
        who="the structural model",
        rules={
            **VALUES,
            **NEUTRAL,
            "shift": ("held",),
            "update": ("ternary", "coincidence"),
            "feedback": ("transposed",),
        },
        one_by_one=True,
    ),
}
"""What each model of a layer's Process takes."""


@singledispatch
def process_of(spec: object) -> Callable[..., WageLayer]:
    """Return the Process class of a layer spec."""
    raise EngineError(f"layer {spec}: no Lava Process for it")


@process_of.register
def _(spec: Dense) -> Callable[..., WageLayer]:
    return WageDense


@process_of.register
def _(spec: Conv) -> Callable[..., WageLayer]:
    return WageConv


def learned_of(
    layer: Layer, state: State, rules: Rules, importance: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """What a layer's Process begins with, of a network's state."""
    i = layer.index
    learned = {
        "S": state.S[i],
        "error_held": held_to_var(state.error_held[i]),
        "gradient_held": held_to_var(state.gradient_held[i]),
        "update_step": np.array([state.step]),
    }
    return learned if importance is None else {**learned, "importance": importance.astype(np.int32)}


@dataclass(frozen=True, kw_only=True)
class LavaOptions(EngineOptions):
    """How a network stands in Lava's simulator.

    Parameters
    ----------
    lanes : int
        Samples a time step; divides the batch. `lanes = batch` (default) is the fast simulation, lanes = 1
        the chip's way. More than one time step a batch needs shift='held'.
    model : 'behavioural' or 'structural'
        One Process a layer, or the parts of a neurocore: one sample a time step and an update, ternary or
        coincidence updates, held exponents. The bits are the same.
    widths : Widths, optional
        Declared widths of the structural model. What the worst case may exceed is listed in `unproven`, and
        saturates.
    strict : bool
        A value past its width is an EngineError that names it, and does not saturate.
    replay : Replay, optional
        A memory that is a Process of the graph; then it learns by `train_new`, and `train` is refused.
    kernels : 'auto', 'numpy' or 'compiled'
        What the behavioural models compute with: the compiled kernels where they are there and know a layer,
        and numpy; or one of them only.
    channels : 'auto', or one of `channels.CHANNELS`
        How the Processes exchange messages.
    start : bool
        Whether the graph starts at once; `LavaEngine.build` leaves that to `start`.
    """

    lanes: int | None = None
    model: str = "behavioural"
    widths: Widths | None = None
    strict: bool = False
    replay: Replay | None = None
    kernels: str = "auto"
    channels: str = "auto"
    start: bool = True


class LavaEngine(Engine):
    """Trains a network inside Lava's CPU simulator, bit-identical to the numpy engine.

    Parameters
    ----------
    state : State, optional
        Where to go on from; otherwise the initial state of `seed`.
    options : LavaOptions, optional

    Raises
    ------
    SettingError, EngineError
        If lanes do not divide the batch, a message would not fit 32 bits, or the structural model has no
        part for what is asked.

    It holds operating-system processes: use it in a `with` block, or call `close()`. Forgotten, or at the end
    of the program, they are killed. Threads may share an engine and wait for each other; a process that is
    forked may not.
    """

    name = "lava"
    supports = _LAVA
    Options = LavaOptions

    def __init__(
        self,
        network: Network,
        rules: Rules | None = None,
        seed: int = 0,
        state: State | None = None,
        options: LavaOptions | None = None,
    ) -> None:
        self.options = options = options or LavaOptions()
        super().__init__(network, rules, options)
        self.replay, self.model, lanes = options.replay, options.model, options.lanes
        self.lanes = lanes if lanes is not None else 1 if self.rules.pipelined else self.rules.batch
        _check(network, self.rules, self.lanes, self._keeps_logits)
        if self.replay:
            _check_replay(network, self.rules, self.replay)
        if self.model == "behavioural" and (options.widths is not None or options.strict):
            raise SettingError(
                f"widths or strict with model={self.model!r}: only the structural one has widths"
            )
        self.unproven: list[str] = []
        if self.model == "structural":
            former = self._keeps_logits
            self.unproven = unproven(network, self.rules, options.widths, former)
            self._limits = limits(network, self.rules, options.widths or Widths(), options.strict, former)
        state = state or initial_state(network, seed)
        self.seed, self._step = state.seed, state.step
        direct = self.rules.feedback == "direct"
        self.schedule = Schedule(len(network.layers), self.rules.batch // self.lanes, direct)
        self._build(state)
        self._batches = 0  # played so far; the Processes count the same
        self._state: State | None = state
        structural = self.model == "structural"
        self._graph = Graph(self.source, structural=structural, channels=options.channels, start=False)
        self._settings: dict[tuple[AbstractProcess, str], int] = {}  # Vars as they stand
        if options.start:
            self.start()

    @classmethod
    def build(
        cls,
        network: Network,
        rules: Rules | None = None,
        seed: int = 0,
        state: State | None = None,
        options: LavaOptions | None = None,
    ) -> LavaEngine:
        """As the constructor, but the graph does not start: see `attach` and `start`."""
        return cls(network, rules, seed, state, replace(options or LavaOptions(), start=False))

    def attach(self, monitor: Monitor, target: OutPort | Var, steps: int) -> None:
        """Let one of Lava's Monitors see a port, or a Var, of a Process for so many time steps.

        In time steps in which the port is silent it sees zeros, and each message one step late. `layers`,
        `source` and `readout` are the Processes of the graph; `read` returns what was seen.

        Raises
        ------
        EngineError
            If the graph has started.
        """
        if self._graph.started:
            raise EngineError("attach: the graph has started, so nothing can be connected any more")
        if isinstance(target, OutPort):
            steady = Steady(target.shape, name=f"{target.process.name} {target.name}")
            target.connect(steady.a_in)
            target = steady.a_out
        monitor.probe(target, steps)

    def start(self) -> None:
        """Let the Processes begin; once, after `build`."""
        self._graph.start()
        self.watch(0)

    @in_turn
    def read(self, monitor: Monitor) -> np.ndarray:
        """Return what an attached Monitor has seen, (steps, *shape)."""
        seen: dict[str, dict[str, np.ndarray]] = self._graph.ask(monitor.get_data)
        ((array,),) = (list(of_process.values()) for of_process in seen.values())
        return array

    @classmethod
    def supports_of(cls, **options: Any) -> Support:
        model = options.get("model") or "behavioural"
        if model not in MODELS:
            raise SettingError(f"model={model!r}: want {' or '.join(MODELS)}")
        return MODELS[model]

    # --- the graph ---

    def _build(self, state: State) -> None:
        network, batch = self.network, self.rules.batch
        slots = max(1, min(64, RING_BYTES // (batch * int(np.prod(network.input_shape)))))
        self._images = shared_array((slots, batch, *network.input_shape), np.uint8)
        self._labels = shared_array((slots, batch), np.int64)
        self._logits = shared_array((slots, batch, network.classes), np.int64)
        held = [self.replay.memory.images, self.replay.memory.labels] if self.replay else []
        shapes = [layer.weight_shape for layer in network.layers] + [array.shape for array in held]
        self._windows = [shared_array(shape, np.int16) for shape in shapes]
        importance = [each.importance for each in as_ruled(network, state, self.rules).layers]
        self._importance = [shared_array(held.shape, np.int32) for held in importance if held is not None]

        # a memory holds the images as they are, and encodes what it sends
        codes = np.arange(256) if self.replay else network.input_codes
        self.source = ImageSource(self.schedule, self.lanes, self._images, self._labels, codes)
        self.memories = (
            [Memory(self.schedule, self.lanes, self.replay, network.input_codes, network.classes)]
            if self.replay
            else []
        )
        self.layers = [
            process_of(layer.spec)(
                layer,
                classes=network.classes,
                rules=self.rules,
                clock=self.schedule,
                lanes=self.lanes,
                seed=state.seed,
                learned=learned_of(layer, state, self.rules, importance[layer.index]),
                signed_in=bool((network.input_codes < 0).any()) and not layer.index,
                error_bound=_arriving(network, layer, self.rules, self._keeps_logits),
                kernels=self.options.kernels,
            )
            for layer in network.layers
        ]
        if self.model == "structural":
            for process, declared in zip(self.layers, self._limits, strict=True):
                process.proc_params["limits"] = declared
        self.readout = ReadOut(
            network.layers[-1],
            self.rules,
            self.schedule,
            self.lanes,
            Host(
                logits=self._logits,
                windows=self._windows,
                importance=self._importance,
                learned=state.step * self.rules.samples_an_update,
                former=self.replay is not None and self.replay.memory.tells,
            ),
        )
        self._connect()

    def _connect(self) -> None:
        sender = self.source
        for memory in self.memories:
            sender.a_out.connect(memory.a_in)
            sender.y_out.connect(memory.y_in)
            sender = memory
            if memory.proc_params["replay"].memory.tells:
                memory.f_out.connect(self.readout.f_in)
            if self._keeps_logits:
                self.readout.z_out.connect(memory.z_in)
        sender.a_out.reshape(self.layers[0].a_in.shape).connect(self.layers[0].a_in)
        sender.y_out.connect(self.readout.y_in)
        for below, above in zip(self.layers[:-1], self.layers[1:], strict=True):
            # the shapes differ where the network flattens
            below.a_out.reshape(above.a_in.shape).connect(above.a_in)
            if not self.schedule.direct:
                above.e_out.reshape(below.e_in.shape).connect(below.e_in)
        if self.schedule.direct:
            for hidden in self.layers[:-1]:
                self.layers[-1].e_out.connect(hidden.e_in)
        self.layers[-1].z_out.connect(self.readout.z_in)
        self.readout.e_out.connect(self.layers[-1].e_in)
        seen = [layer.S for layer in self.layers]
        seen += [var for memory in self.memories for var in (memory.images, memory.labels)]
        for i, var in enumerate(seen):
            getattr(self.readout, f"s{i}").connect_var(var)
        for i, layer in enumerate(self.layers if self._importance else ()):
            getattr(self.readout, f"i{i}").connect_var(layer.importance)

    # --- what a user calls ---

    @in_turn
    def learn(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        if self.replay:
            raise SettingError("train with a memory in the graph: want train_new, it recalls by itself")
        return self._train(images, labels, control)

    @in_turn
    def train_new(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        """Learn new samples, and those that the memory recalls; see `wage_neuro.engine.Engine`."""
        if not self.replay:
            raise SettingError("train_new without a memory in the graph: want train, or replay=Replay(...)")
        step = self.replay.step
        if len(images) % step or len(images) != len(labels):
            raise SettingError(f"{len(images)} new samples, {len(labels)} labels: want a multiple of {step}")
        images, labels = with_gaps(images, labels, step, self.replay.recalled)
        check_training_input(self.network, self.rules, Batch(images, labels), control)
        return self._train(images, labels, control)

    def _train(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        controls = control_of(control).of_layers(len(self.layers), self.rules)
        if self.model == "structural":
            for limit, layer in zip(self._limits, controls, strict=True):
                require_hold(limit, layer.hold)
        with self._graph.whole():
            for process, layer in zip(self.layers, controls, strict=True):
                self._set(process, "frozen", int(layer.log2_eta is None))
                if layer.log2_eta is not None:
                    self._set(process, "log2_eta", layer.log2_eta)
                self._set(process, "hold", layer.hold)
            logits = self._play(images, labels, learning=True)
            steps = len(images) // self.rules.samples_an_update
            counted = sum(self._watch.wants(step) for step in range(self._step, self._step + steps))
            self._watch.samples += counted * self.rules.samples_an_update
            self._step += steps
            self._state = None
        return logits

    @in_turn
    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return (n, classes) logits; nothing is learned. The last batch is filled up with zeros."""
        self.network.check_images(images)
        n, batch = len(images), self.rules.batch
        missing = -n % batch
        if missing:
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)])
        with self._graph.whole():
            self._watch.samples += n if self._watch.every else 0
            return self._play(images, np.zeros(n + missing, np.int64), learning=False)[:n]

    @in_turn
    def watch(self, every: int) -> None:
        """Count the activity; a prediction counts what the black images that fill its last batch do, too."""
        self._watch = Watch(len(self.layers), every)
        self._set_all("watch", every)
        self._take_counts()

    @in_turn
    def activity(self) -> Activity:
        """Return what the Processes counted since the last call."""
        self._watch.counts[...] = self._take_counts()
        return self._watch.take()

    def _take_counts(self) -> list[np.ndarray]:
        return self._graph.ask(lambda: [take_counts(process) for process in self.layers])

    @property
    @in_turn
    def state(self) -> State:
        """Weights through the RefPorts, held exponents through their Vars."""
        if self._state is not None:
            return self._state
        with self._graph.whole():
            self._look()
            dtype = code_dtype(self.network.bits.k_G)
            error_held, gradient_held = self._graph.ask(self._held)
            self._state = State.of(
                [S.astype(dtype) for S in self._windows[: len(self.layers)]],
                seed=self.seed,
                step=self._step,
                error_held=error_held,
                gradient_held=gradient_held,
                importance=[held.astype(np.uint16) for held in self._importance] or None,
            )
        return self._state

    @in_turn
    def consolidate(self, updates: int) -> None:
        """Let every layer hold on to what moved most in the last `updates`."""
        if not self.rules.consolidation:
            raise SettingError("consolidation=0: no importance is kept, want 1 or more")
        self._graph.ask(lambda: [layer.task_updates.set(np.array([updates])) for layer in self.layers])
        self._state = None

    @in_turn
    def read_memory(self) -> Reservoir:
        """Return what the memory of the graph holds, through its RefPorts."""
        if not self.replay:
            raise SettingError("read_memory: this graph has none; want replay=Replay(...)")
        with self._graph.whole():
            self._look()
        before, memory = self.replay.memory, self.memories[0]
        windows = dict(zip(("images", "labels"), self._windows[len(self.layers) :], strict=True))
        names = [name for name in ("seen", *before.arrays) if name not in windows]
        held = self._graph.ask(lambda: {name: getattr(memory, name).get() for name in names}) | windows
        arrays = {name: held[name].astype(array.dtype) for name, array in before.arrays.items()}
        return before.holding(arrays, int(held["seen"][0]))

    @property
    def _keeps_logits(self) -> bool:
        return self.replay is not None and self.replay.memory.logits is not None

    def _look(self) -> None:
        """Let the read-out copy what the others hold; it does so after an answer."""
        self._graph.ask(lambda: self.readout.read.set(np.array([1])))
        self._set_all("watch", 0)
        self._play(np.zeros_like(self._images[0]), np.zeros_like(self._labels[0]), learning=False)
        self._set_all("watch", self._watch.every)

    def _held(self) -> tuple[tuple[Held, ...], tuple[Held, ...]]:
        """Held exponents of errors and of gradients."""
        return (
            tuple(held_from_var(process.error_held.get()) for process in self.layers),
            tuple(held_from_var(process.gradient_held.get()) for process in self.layers),
        )

    def close(self) -> None:
        """Stop every Process of the graph; safe to call twice."""
        self._graph.close()

    # --- running the graph ---

    def _play(self, images: np.ndarray, labels: np.ndarray, learning: bool) -> np.ndarray:
        """Send whole batches through the ring; return their logits."""
        self._set_all("learning", int(learning))
        batch, slots = self.rules.batch, len(self._images)
        images = images.reshape(-1, batch, *self.network.input_shape)
        labels = labels.reshape(-1, batch)
        logits = np.empty((*labels.shape, self.network.classes), np.int64)
        for first in range(0, len(images), slots):
            part = slice(first, min(first + slots, len(images)))
            places = (self._batches + np.arange(part.stop - part.start)) % slots
            self._images[places], self._labels[places] = images[part], labels[part]
            self._graph.run(len(places) * self.schedule.steps(learning))
            logits[part] = self._logits[places]
            self._batches += len(places)
        return logits.reshape(-1, self.network.classes)

    def _set_all(self, name: str, value: int) -> None:
        """Set a Var of every Process that has it."""
        for process in (self.source, *self.memories, *self.layers, self.readout):
            self._set(process, name, value)

    def _set(self, process: AbstractProcess, name: str, value: int) -> None:
        """Set a Var of a Process, or of its parts, when it does not stand there already."""
        if self._settings.get((process, name)) != value:
            self._graph.ask(lambda: set_everywhere(process, name, value))
            self._settings[process, name] = value


def _check(network: Network, rules: Rules, lanes: int, former: bool) -> None:
    if isinstance(lanes, bool) or not isinstance(lanes, int) or lanes < 1 or rules.batch % lanes:
        raise SettingError(f"lanes={lanes}: want a divisor of the batch, {rules.batch}")
    if rules.shift == "batch" and lanes != rules.batch:
        raise SettingError(
            f"lanes={lanes} with shift='batch': its maximum is over the whole batch, so lanes must be"
            f" {rules.batch}"
            " (shift='held' takes any divisor)"
        )
    if rules.pipelined and lanes != 1:
        raise SettingError(f"lanes={lanes} with pipelined: one sample a time step, so lanes must be 1")
    most = MAX_WINDOWS - 2  # two are a memory's
    if len(network.layers) > most:
        raise EngineError(f"{len(network.layers)} layers: the Lava read-out takes {most} at most")
    for layer in network.layers:
        widest = max(layer.d_bound, output_error_max(layer, former) if layer.is_last else layer.z_bound)
        if widest >= 1 << (MESSAGE_BITS - 1):
            raise EngineError(
                f"layer {layer.index} {layer} with bits {network.bits}: a sum may reach {widest}, past the"
                f" {MESSAGE_BITS}-bit messages of the Lava engine; use fewer bits or the numpy engine"
            )


def _arriving(network: Network, layer: Layer, rules: Rules, former: bool) -> int:
    """Largest error that may arrive at a layer."""
    if layer.is_last:
        return output_error_max(layer, former)
    if rules.feedback == "direct":
        return network.classes * max(layer.bits.error_max, 1)
    return network.layers[layer.index + 1].d_bound


def _check_replay(network: Network, rules: Rules, replay: Replay) -> None:
    shape = replay.memory.image_shape
    if replay.step < 1:
        raise SettingError(f"step={replay.step}: want 1 or more")
    if shape != network.input_shape:
        raise SettingError(f"a memory of images {shape}: want {network.input_shape}")
    if replay.memory.logits is not None and (rules.pipelined or rules.batch not in (1, replay.period)):
        raise SettingError(
            f"batch={rules.batch}{', pipelined' if rules.pipelined else ''} with a memory that keeps logits:"
            f" want 1 or {replay.period} and not pipelined, as it waits for the answers to a step's samples"
        )
