"""Binary spikes for chips without graded ones: an activation is sent bit by bit, in Brian2.

A neuron spikes while what is left of its code reaches a threshold that halves every time step, and is reset
by subtraction: one bit-plane a step, the most significant first. The receiver doubles its sum every step, so
after the last plane it holds the integer network's own product. The input of a network with signed codes
takes one plane more: two's complement, whose first plane counts as negative.
"""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np

from mappings.binary_spikes.planes import planes_of
from mappings.engines.brian2 import brian2 as b2
from mappings.engines.brian2.equations import (
    ACTIVATE,
    ENTER,
    VISIBLE,
    activation_constants,
    model_of,
    pool_code,
    synapses_of,
    visible_constants,
    windows_of,
    z_unit_of,
)
from mappings.engines.brian2.objects import Builder, Stepper, link_windows, on_event, take_weights
from wage_neuro.kinds import Kind
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.support import Support
from wage_neuro.train import State

TAKES = Support(
    who="an answer in binary spikes",
    kinds=frozenset({Kind.DENSE, Kind.CONV, Kind.MAX_POOL, Kind.AVERAGE_POOL}),
)

LOAD = """
left = A + int(A < 0) * modulus
threshold = first
"""
"""Of a negative code, its two's complement."""

DOUBLE = """
doubled = 2 * Z * (1 - 2 * negative * int(phase == after_first))
Z = doubled
"""
"""The first plane of two's complement is negative."""


class BitSerial:
    """A trained network that answers with binary spikes alone, in Brian2.

    Parameters
    ----------
    slots : int
        Images that are answered side by side.

    Attributes
    ----------
    planes : time steps for which the input and each hidden layer send
    starts : time step at which each of them begins; the last entry is the latency, in steps, of the logits
    """

    def __init__(self, network: Network, state: State, slots: int = 1) -> None:
        TAKES.check(network)
        self.network, self.slots = network, slots
        self.planes = planes_of(network)
        self.starts = (0, *accumulate(self.planes))
        self.products: list[b2.NeuronGroup] = []
        with Builder() as self._build:
            self.samples = self._build.group(slots, model_of(("phase",)), "samples", {})
            self.samples.run_regularly("phase += 1", when="start")
            self.samples.phase = self.starts[-1]  # nothing is on its way
            signed, n = int(network.signed_input), math.prod(network.input_shape)
            self.senders = [self._sender(0, n, ("grey",), (), ENTER, signed_input=signed)]
            for layer in network.layers:
                self._connect(layer, state.S[layer.index])
                if not layer.is_last:
                    self._activate(layer)
            self.stepper = Stepper(self._build)

    def _sender(
        self, band: int, n: int, own: tuple[str, ...], linked: tuple[str, ...], code: str, **constants: int
    ) -> b2.NeuronGroup:
        """Neurons that get their code A when their time has come, and send it bit by bit."""
        group = self._build.group(
            self.slots * n,
            model_of((*own, "A", "left", "threshold"), ("phase", *linked)),
            f"neurons{band}",
            {"load": f"phase == {self.starts[band]}", "spike": "threshold > 0 and left >= threshold"},
            **activation_constants(self.network.bits),
            first=2 ** (self.planes[band] - 1),
            modulus=2 ** self.planes[band],
            **constants,
        )
        group.phase = self._phase(n)
        on_event(group, "load", "groups", 0, code + LOAD)
        on_event(group, "spike", "thresholds")
        group.run_on_event("spike", "left -= threshold", "end")
        group.run_regularly("threshold = threshold // 2", when="end", order=2)
        return group

    def _phase(self, n: int) -> object:
        return b2.linked_var(self.samples, "phase", index=np.repeat(np.arange(self.slots), n))

    def _connect(self, layer: Layer, S: np.ndarray) -> None:
        i, n = layer.index, math.prod(layer.z_shape)
        start, stop = self.starts[i], self.starts[i + 1]
        products = self._build.group(
            self.slots * n,
            model_of(("Z",), ("phase",)),
            f"products{i}",
            {"clear": f"phase == {start}", "more": f"phase > {start} and phase < {stop}"},
            after_first=start + 1,
            negative=int(i == 0 and self.network.signed_input),
        )
        products.phase = self._phase(n)
        on_event(products, "clear", "start", 2, "Z = 0")
        on_event(products, "more", "start", 2, DOUBLE)
        weights = self._build.group(
            layer.n_weights, model_of(("S", "V", "changed")), f"weights{i}", {"changed": "changed != 0"},
            **visible_constants(layer.bits),
        )  # fmt: skip
        weights.S[:], weights.changed = S.ravel(), 1
        on_event(weights, "changed", "start", 2, VISIBLE)
        pre, post, weight = synapses_of(layer)
        slot = np.arange(self.slots)[:, None]
        forward = self._build.synapses(self.senders[-1], products, "Z_post += V", "spike", ("synapses", 0))
        take_weights(forward.spike, weights)
        forward.connect(i=(pre + slot * math.prod(layer.in_shape)).ravel(), j=(post + slot * n).ravel())
        forward.index[:] = np.tile(weight, self.slots)
        self.products.append(products)

    def _activate(self, layer: Layer) -> None:
        places = len(windows_of(layer))
        own, linked = ("z", "winner", "active", "open"), tuple(f"z{p}" for p in range(places))
        n, z_unit = math.prod(layer.out_shape), z_unit_of(layer)
        neurons = self._sender(
            layer.index + 1, n, own, linked, pool_code(layer.pool, places) + ACTIVATE, z_unit=z_unit
        )
        link_windows(neurons, self.products[-1], layer, self.slots)
        self.senders.append(neurons)

    def answer(self, images: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Answer (n, ...) uint8 images.

        Returns
        -------
        logits : (n, classes) int64
        spikes : for the input and each hidden layer (n, planes, neurons) bool, in the order sent
        """
        self.network.check_images(images)
        n, slots = len(images), self.slots
        logits = np.empty((n, self.network.classes), np.int64)
        spikes = [
            np.zeros((n, planes, group.N // slots), bool)
            for planes, group in zip(self.planes, self.senders, strict=True)
        ]
        for first in range(0, n, slots):
            part = slice(first, min(first + slots, n))
            self._answer(images[part], logits[part], [train[part] for train in spikes])
        return logits, spikes

    def _answer(self, images: np.ndarray, logits: np.ndarray, spikes: list[np.ndarray]) -> None:
        n = len(images)
        self.senders[0].grey[: images.size] = images.ravel()
        self.samples.phase[:n] = -1
        for t in range(self.starts[-1]):
            self.stepper.advance()
            band = int(np.searchsorted(self.starts, t, side="right")) - 1
            sent = np.zeros(self.senders[band].N, bool)
            sent[self.senders[band].spikes] = True
            spikes[band][:, t - self.starts[band]] = sent.reshape(self.slots, -1)[:n]
        logits[:] = np.asarray(self.products[-1].Z[:]).reshape(self.slots, -1)[:n]
