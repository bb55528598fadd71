"""Run by the Python of an environment with nengo-loihi 1.1.0 (Python 3.9): GIVEN.npz N -> one line of JSON.

A two-layer network in nengo-loihi's emulator of Loihi 1, block by block. Loihi 1 has binary spikes, so an
input code of 7 bits is 7 axons, one a bit, and a hidden code is 127 threshold compartments, one a level, as
in our NIR. Weights and thresholds are set by hand, as nengo-loihi rounds those that it is given.
The logits are the current that arrives at the last compartments. It imports nothing of wage-neuro.
"""

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
from nengo_loihi.probe import LoihiProbe

BITS, LEVELS, GAP, FIRST = 7, 127, 4, 2  # steps between samples, and of the first
SCALE = 64  # of a weight, in Loihi's units of current
NEVER = 2**22
COMPARTMENTS = 256  # of a block: what fits its synapse memory


def integrator(n: int, name: str) -> LoihiBlock:
    """Compartments that forget current and voltage after a step."""
    block = LoihiBlock(n, name)
    cells = block.compartment
    cells.configure_relu()
    cells.decay_u[:] = cells.decay_v[:] = cells.refract_delay[:] = 1
    cells.scale_u = cells.scale_v = False
    return block


def synapse(W: np.ndarray, block: LoihiBlock, axon: Axon) -> None:
    """Connect an axon's inputs, all to all."""
    made = Synapse(len(W))
    made.set_weights(W.astype(float))
    block.add_synapse(made)
    axon.target = made


def set_exactly(made: Synapse, W: np.ndarray) -> None:
    """Give a discretized synapse the whole-number weights W, times SCALE."""
    for i, (weights, index) in enumerate(zip(made.weights, made.indices)):
        np.asarray(weights).reshape(-1)[:] = SCALE * W[i][np.asarray(index).reshape(-1)]


def main() -> None:
    given, n = np.load(sys.argv[1]), int(sys.argv[2])
    x = given["x"][:n].astype(int)
    V = [given["V0"].astype(int), given["V1"].astype(int)]
    z_shift, (n_in, hidden), classes = int(given["z_shift0"]), V[0].shape, V[1].shape[1]
    # least Z of each code: above (k - 1/2) 2**z_shift, or at it where k is even
    least = np.array([(2 * k - 1) * 2 ** (z_shift - 1) + k % 2 for k in range(1, LEVELS + 1)])
    planes = np.concatenate([V[0][:, None] * 2**b for b in range(BITS)], axis=1).reshape(n_in * BITS, hidden)
    model, source = Model(), SpikeInput(n_in * BITS)
    for i, codes in enumerate(x):
        lit = [j * BITS + b for j in range(n_in) for b in range(BITS) if codes[j] >> b & 1]
        source.add_spikes(FIRST + GAP * i, lit, permanent=True)
    model.add_input(source)
    out = integrator(classes, "out")
    model.add_block(out)
    blocks = []
    each = max(1, COMPARTMENTS // hidden)
    for first in range(0, LEVELS, each):
        levels = least[first : first + each]
        block = integrator(hidden * len(levels), f"levels {first}")
        axon = Axon(n_in * BITS)
        synapse(np.tile(planes, (1, len(levels))), block, axon)
        source.add_axon(axon)
        up = Axon(block.n_neurons)
        synapse(np.tile(V[1], (len(levels), 1)), out, up)
        up.set_compartment_axon_map(np.arange(block.n_neurons))
        block.add_axon(up)
        model.add_block(block)
        blocks.append((block, levels))
    probe = LoihiProbe(target=out, key="current")
    model.add_probe(probe)
    discretize_model(model)
    for block, levels in blocks:
        set_exactly(block.synapses[0], np.tile(planes, (1, len(levels))))
        block.compartment.vth[:] = SCALE * (np.repeat(levels, hidden) - 1)
    for made in out.synapses:
        set_exactly(made, np.tile(V[1], (made.n_axons // hidden, 1)))
    for block in [out, *(block for block, _ in blocks)]:
        block.compartment.vmin, block.compartment.vmax = -NEVER, NEVER
        block.compartment.bias[:] = 0
    out.compartment.vth[:] = NEVER
    began = time.process_time()
    with EmulatorInterface(model) as emulator:
        emulator.run_steps(GAP * n + FIRST + GAP)
        current = np.asarray(emulator.collect_probe_output(probe))
    # spikes of step t make the levels spike in t + 1; their current is there, and seen, in the next row
    logits = current[FIRST + 1 :: GAP][:n] / SCALE
    used = {k: [int(v) for v in pair] for k, pair in blocks[0][0].utilization().items()}
    print(
        json.dumps(
            {
                "logits": logits.astype(int).tolist(),
                "whole": bool((logits == np.rint(logits)).all()),
                "blocks": len(blocks) + 1,
                "compartments": sum(block.n_neurons for block, _ in blocks) + classes,
                "block_uses_of": used,
                "cpu_seconds": round(time.process_time() - began, 1),
                "runs_in": "nengo-loihi " + nengo_loihi.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
