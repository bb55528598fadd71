"""Prototypes, or a discriminant, on fixed features in one Lava graph: image source -> layers -> read-out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from mappings.engines.lava.engine import learned_of, process_of
from mappings.engines.lava.graph import Graph, in_turn
from mappings.engines.lava.shared_memory import shared_array
from processes.discriminant.process import DiscriminantReadOut
from processes.held_readout import HeldReadOut
from processes.part import set_everywhere, take_counts
from processes.prototypes.process import PrototypeReadOut
from processes.source.process import ImageSource
from wage_neuro.activity import Activity, Watch
from wage_neuro.control import Control
from wage_neuro.discriminant import ASKED, NOTHING, DiscriminantEngine
from wage_neuro.engine import Engine
from wage_neuro.network import Network
from wage_neuro.prototypes import PART, PrototypeEngine
from wage_neuro.rules import Rules
from wage_neuro.schedule import Schedule
from wage_neuro.train import State

RING = 8  # batches on their way into the graph


class LavaReadOutEngine(Engine):
    """A `wage_neuro.read_out.ReadOutEngine` inside Lava's CPU simulator, to the same bits.

    The layers below the last are Processes that only answer; the last layer's place has a HeldReadOut.
    `PART` samples a time step. It lives as long as a `LavaEngine`.
    """

    name = "lava"
    readout_of: ClassVar[type[HeldReadOut]]

    def __init__(self, network: Network, rules: Rules, state: State, held: Any) -> None:
        self.network, self.rules = network, rules
        self._state, self._start = state, held
        below = network.layers[:-1]
        self.schedule = Schedule(len(below), micro_steps=1)
        self._images = shared_array((RING, PART, *network.input_shape), np.uint8)
        self._labels = shared_array((RING, PART), np.int64)
        self._logits = shared_array((RING, PART, network.classes), np.int64)
        self._windows = [shared_array(array.shape, array.dtype.type) for array in held.arrays.values()]
        self.source = ImageSource(self.schedule, PART, self._images, self._labels, network.input_codes)
        self.layers = [
            process_of(layer.spec)(
                layer,
                classes=network.classes,
                rules=rules,
                clock=self.schedule,
                lanes=PART,
                seed=state.seed,
                learned=learned_of(layer, state, rules),
                signed_in=bool((network.input_codes < 0).any()) and not layer.index,
            )
            for layer in below
        ]
        features, shared = int(np.prod(network.layers[-1].in_shape)), (self._logits, self._windows)
        self.readout = self.readout_of(self.schedule, PART, features, held, shared)
        self._connect()
        self._batches = 0
        self._graph = Graph(self.source)
        for process in (self.source, *self.layers):
            self._set(process, "learning", 0)
        self.watch(0)

    def _connect(self) -> None:
        sender: Any = self.source
        receivers: list[Any] = [*self.layers, self.readout]
        for process in receivers:
            sender.a_out.reshape(process.a_in.shape).connect(process.a_in)
            sender = process
        self.source.y_out.connect(self.readout.y_in)

    def train(
        self, images: np.ndarray, labels: np.ndarray, log2_eta: int | Control, *, last: str = "refuse"
    ) -> np.ndarray:
        """Learn samples one after another, which fill no batches; see `learn` in numpy."""
        return self.learn(images, labels, log2_eta)

    @in_turn
    def learn(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        self.network.check_labels(labels, len(images))
        return self._play(images, labels)

    @in_turn
    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return (n, classes) int64 logits; nothing is learned."""
        return self._play(images, np.full(len(images), ASKED))

    def _play(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Send parts through the ring, the last one filled up with black images."""
        self.network.check_images(images)
        logits = np.empty((len(images), self.network.classes), np.int64)
        with self._graph.whole():
            for first in range(0, len(images), RING * PART):
                self._play_ring(images, labels, logits, first)
            self._watch.samples += len(images) if self._watch.every else 0
        return logits

    def _play_ring(self, images: np.ndarray, labels: np.ndarray, logits: np.ndarray, first: int) -> None:
        """Play what fits in the ring, from sample `first` on."""
        starts = range(first, min(len(images), first + RING * PART), PART)
        places = [(self._batches + i) % RING for i in range(len(starts))]
        for start, place in zip(starts, places, strict=True):
            n = len(labels[start : start + PART])
            self._images[place], self._labels[place] = 0, NOTHING
            self._images[place, :n] = images[start : start + n].reshape(n, *self.network.input_shape)
            self._labels[place, :n] = labels[start : start + n]
        self._graph.run(len(starts) * self.schedule.steps(learning=False))
        for start, place in zip(starts, places, strict=True):
            logits[start : start + PART] = self._logits[place, : len(logits) - start]
        self._batches += len(starts)

    @property
    @in_turn
    def held(self) -> Any:
        """What the read-out holds now; a copy."""
        self._set(self.readout, "read", 1)
        every, self._watch.every = self._watch.every, 0
        self._play(np.zeros((1, *self.network.input_shape), np.uint8), np.array([NOTHING]))
        self._watch.every = every
        arrays: dict[str, Any] = {
            name: window.copy() for name, window in zip(self._start.arrays, self._windows, strict=True)
        }
        return replace(self._start, **arrays, seen=self._graph.ask(lambda: int(self.readout.seen.get()[0])))

    @property
    @in_turn
    def state(self) -> State:
        """The layers below, which never change, and the number of samples learned."""
        return replace(self._state, step=self._graph.ask(lambda: int(self.readout.seen.get()[0])))

    @in_turn
    def watch(self, every: int) -> None:
        """Count everything, or nothing if 0."""
        self._watch = Watch(len(self.network.layers), every)
        for process in (*self.layers, self.readout):
            self._set(process, "watch", int(every > 0))
        self._take_counts()

    @in_turn
    def activity(self) -> Activity:
        """Return what the Processes counted since the last call."""
        self._watch.counts[...] = self._take_counts()
        return self._watch.take()

    def _take_counts(self) -> list[np.ndarray]:
        return self._graph.ask(lambda: [take_counts(process) for process in (*self.layers, self.readout)])

    def _set(self, process: Any, name: str, value: int) -> None:
        self._graph.ask(lambda: set_everywhere(process, name, value))

    def close(self) -> None:
        """Stop every Process of the graph; safe to call twice."""
        self._graph.close()


class LavaPrototypeEngine(LavaReadOutEngine):
    """`wage_neuro.prototypes.PrototypeEngine` there."""

    supports = replace(PrototypeEngine.supports, who="prototypes in Lava")
    readout_of = PrototypeReadOut


class LavaDiscriminantEngine(LavaReadOutEngine):
    """`wage_neuro.discriminant.DiscriminantEngine` there."""

    supports = replace(DiscriminantEngine.supports, who="a discriminant in Lava")
    readout_of = DiscriminantReadOut
