"""Binary spikes in Lava: a trained network, one bit-plane a time step."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from lava.proc.io.source import RingBuffer as Source

from mappings.binary_spikes.planes import planes_of
from mappings.engines.lava.graph import Graph
from mappings.engines.lava.shared_memory import shared_array
from processes.bit_serial.process import WageBitSerial
from wage_neuro.network import Network
from wage_neuro.train import State


def answer(network: Network, state: State, images: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Answer (n, ...) uint8 images side by side in one run of Lava.

    Returns
    -------
    logits : (n, classes) int64
    spikes : for the input and each hidden layer (n, planes, neurons) bool, in the order sent
    """
    network.check_images(images)
    planes, n = planes_of(network), len(images)
    starts = (0, *accumulate(planes))
    sent = np.zeros((n, *network.input_shape, starts[-1]), np.int32)
    codes = network.encode(images).astype(np.int32) % (1 << planes[0])
    for p in range(planes[0]):
        sent[..., p] = codes >> (planes[0] - 1 - p) & 1
    below, trains, layers = Source(data=sent).s_out, [np.moveaxis(sent, -1, 0)], []
    for layer in network.layers:
        signed = network.signed_input and layer.index == 0
        trains.append(shared_array((starts[-1], n, *layer.out_shape), np.bool_))
        process = WageBitSerial(layer, state.S[layer.index], signed, starts, trains[-1])
        below.reshape(process.s_in.shape).connect(process.s_in)
        below = process.s_out
        layers.append(process)
    graph = Graph(layers[0])
    try:
        graph.run(starts[-1])
        logits = graph.ask(layers[-1].Z.get).astype(np.int64)
    finally:
        graph.close()
    spikes = [
        np.moveaxis(train[start : start + width].reshape(width, n, -1), 0, 1).astype(bool)
        for train, start, width in zip(trains, starts, planes, strict=False)
    ]
    return logits, spikes
