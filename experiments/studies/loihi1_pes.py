"""Run by the Python of an environment with nengo-loihi 1.1.0 (Python 3.9): GIVEN.npz -> one line of JSON.

A layer of synapses that learns by PES, the delta rule of nengo-loihi's emulator of Loihi 1. An output is a
pair of compartments, whose errors have opposite signs, as nengo-loihi builds it; its answer is the difference
of their currents. A sample takes a learning epoch, 4 steps: its spikes arrive in the second, which answers,
and again in the fourth, in which the rule sees traces and errors. It imports nothing of wage-neuro.
"""

from __future__ import annotations

import json
import sys
import time

import nengo_loihi
import numpy as np
from nengo_loihi.block import Axon, LoihiBlock, Synapse
from nengo_loihi.builder import Model
from nengo_loihi.builder.discretize import discretize_model
from nengo_loihi.emulator import EmulatorInterface
from nengo_loihi.inputs import SpikeInput

EPOCH = 4  # steps of nengo-loihi's learning epoch
TAU = 1  # steps in which a trace falls to 1/e: the sample before leaves 2 % of its own
ERROR_MAX = 127
NEVER = 2**22


class Layer:
    """Synapses of n axons to (on, off) compartments of each class, in an emulator of its own."""

    def __init__(self, n: int, classes: int, magnitude: float, seed: int) -> None:
        self.classes, self.t = classes, 0
        block, self.synapse = LoihiBlock(2 * classes, "answers"), Synapse(n)
        cells = block.compartment
        cells.configure_relu()
        cells.decay_u[:] = cells.decay_v[:] = cells.refract_delay[:] = 1
        cells.scale_u = cells.scale_v = False
        self.synapse.set_weights(np.ones((n, 2 * classes)))
        self.synapse.set_learning(tracing_tau=TAU)
        block.add_synapse(self.synapse)
        self.source, model = SpikeInput(n), Model()
        axon = Axon(n)
        axon.target = self.synapse
        self.source.add_axon(axon)
        model.add_input(self.source)
        model.add_block(block)
        model.pes_error_scale = 1.0
        discretize_model(model)
        for weights in self.synapse.weights:
            weights[:] = 0
        self.synapse.tracing_mag = magnitude  # as nengo-loihi rounds away what it was given
        cells.vmin, cells.vmax = -NEVER, NEVER
        cells.bias[:], cells.vth[:] = 0, NEVER
        cfg = self.synapse.synapse_cfg
        self.unit = 2 ** (cfg.real_weight_exp + cfg.shift_bits)
        self.emulator = EmulatorInterface(model, seed=seed)

    def answer(self, lit: np.ndarray, target: np.ndarray | None = None, scale: float = 0.0) -> np.ndarray:
        """Logits of a sample; with a target it is learned too."""
        self.source.add_spikes(self.t + 1, lit)  # a spike arrives a step later
        self.source.add_spikes(self.t + 3, lit)
        self.emulator.run_steps(2)
        current = self.emulator.compartment.current / self.unit
        logits = current[: self.classes] - current[self.classes :]
        error = np.zeros(self.classes)
        if target is not None:
            error = np.clip(np.rint(scale * (logits - target)), -ERROR_MAX, ERROR_MAX)
        self.emulator.host2chip([], [(self.synapse, self.t, error)])
        self.emulator.run_steps(2)
        self.t += EPOCH
        return logits


def main() -> None:
    """Learn the samples of a file, answer its questions."""
    given = np.load(sys.argv[1])
    layer = Layer(given["x"].shape[1], int(given["classes"]), float(given["magnitude"]), int(given["seed"]))
    began, top = time.process_time(), float(given["target"])
    for spikes, label in zip(given["x"], given["labels"]):
        target = np.zeros(layer.classes)
        target[label] = top
        layer.answer(np.flatnonzero(spikes), target, ERROR_MAX / top)
    seconds = time.process_time() - began
    logits = [layer.answer(np.flatnonzero(spikes)).astype(int).tolist() for spikes in given["asked"]]
    weights = np.concatenate([w.reshape(-1) for w in layer.synapse.weights]) / layer.unit
    print(
        json.dumps(
            {
                "logits": logits,
                "largest_weight": int(np.abs(weights).max()),
                "whole": bool((weights == np.rint(weights)).all()),
                "ms_a_sample": round(1e3 * seconds / max(1, len(given["labels"])), 2),
                "runs_in": "nengo-loihi " + nengo_loihi.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
