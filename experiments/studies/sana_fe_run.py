"""Run by the Python of an environment with SANA-FE: ARCHITECTURE.yaml STEPS NETWORK.yaml... -> lines of JSON.

What SANA-FE counts of each network; then what its `reset()` keeps. It imports nothing of wage-neuro.
"""

import contextlib
import json
import sys
from importlib.metadata import version
from typing import Any

import sanafe


def counts(chip: "sanafe.SpikingChip", steps: int) -> dict[str, Any]:
    with contextlib.redirect_stdout(sys.stderr):
        done = chip.sim(steps, message_trace=True)
    sent = [message for step in done["message_trace"] for message in step]
    messages = [message for message in sent if not message["placeholder"]]  # of neurons that nobody hears
    return {
        "messages": len(messages),
        "hops_x": sum(abs(m["src_x"] - m["dest_x"]) for m in messages),
        "hops_y": sum(abs(m["src_y"] - m["dest_y"]) for m in messages),
        "hops": sum(m["hops"] for m in messages),
        "synaptic": sum(m["spikes"] for m in messages),
        "fired": done["neurons_fired"],
        "energy_pJ": {name: value * 1e12 for name, value in done["energy"].items()},
        "time_ns": done["sim_time"] * 1e9,
    }


def main() -> None:
    architecture = sanafe.load_arch(sys.argv[1])
    steps = int(sys.argv[2])
    for path in sys.argv[3:]:
        chip = sanafe.SpikingChip(architecture)
        chip.load(sanafe.load_net(path, architecture))
        first = counts(chip, steps)
        chip.reset()
        again = counts(chip, steps)
        kept = sorted(name for name in first if first[name] != again[name])
        print(json.dumps({**first, "differs_after_reset": kept, "runs_in": "SANA-FE " + version("sanafe")}))


if __name__ == "__main__":
    main()
