"""Makes the chip reports of the README anew: trains the networks, then maps them. `make maps` runs it.

`experiments/results/chip/` gets a folder a network. A network that is there already is not trained again.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from experiments import datasets
from experiments.records.readme import RESULTS

SMALL = "20x20.npz"
"""MNIST cut to its middle, so that the layers are those of which energy and time were measured on a chip."""

RUNS = {
    "mnist-512": "train --mode onchip --network 512FC --data mnist",
    "mnist-512-direct": "train --mode onchip --network 512FC --data mnist --feedback direct",
    "mnist-400": f"train --mode onchip --network 400FC --data {SMALL}",
    "mnist-lenet": "train --network lenet --data mnist --engine numpy --epochs 1",
    "split-mnist-replay": "continual split-mnist --memory 2000 --augment crop1 --new-shift 2"
    " --eta 8,4@76%,2@91%",
    "split-mnist-prototypes": "continual split-mnist --method prototypes --memory 2000 --network F"
    " --margin 1/8 --bits 2788",
}
BOTH, LOIHI2 = ("loihi1", "loihi2"), ("loihi2",)
MAPS: dict[str, dict[str, tuple[str, ...]]] = {
    "mnist-512": {"inference": BOTH, "training": BOTH},
    "mnist-512-direct": {"training": LOIHI2},
    "mnist-400": {"inference": BOTH, "training": BOTH},
    "mnist-lenet": {"inference": BOTH},
    "split-mnist-replay": {"training": LOIHI2},
    "split-mnist-prototypes": {"training": LOIHI2},
    "cifar-10-vgg": {"inference": BOTH},
}
"""Chips that each network is mapped onto, by mode."""


def main() -> None:
    """Train what is not there, in the folder `runs/maps`, and write every report."""
    runs = Path("runs/maps").absolute()
    runs.mkdir(parents=True, exist_ok=True)
    _write_small(runs / SMALL)
    for name, words in RUNS.items():
        if not (runs / name).exists():
            engine = () if "--engine" in words or "prototypes" in words else ("--engine", "compiled")
            _command(*words.replace(SMALL, str(runs / SMALL)).split(), *engine, "--run", str(runs / name))
    for name, modes in MAPS.items():
        network = ("--network", "vgg", "--data", "cifar-10") if name not in RUNS else (str(runs / name),)
        for mode, chips in modes.items():
            for chip in chips:
                where = ("--chip", chip, "--mode", mode, "--output", str(RESULTS / "chip" / name))
                _command("map", *network, *where, may_fail=True)


def _command(*words: str, may_fail: bool = False) -> None:
    """Run a command of wage-neuro; `map` ends with 1 where a network does not fit, its report written."""
    done = subprocess.run([sys.executable, "-m", "experiments.cli", *words], check=False)
    if done.returncode and not (may_fail and done.returncode == 1):
        raise SystemExit(f"wage-neuro {' '.join(words)}: ended with {done.returncode}")


def _write_small(path: Path) -> None:
    data, middle = datasets.load("mnist"), slice(4, 24)
    images = {
        f"{part}_images": getattr(data, f"{part}_images")[:, middle, middle] for part in ("train", "test")
    }
    np.savez(path, **images, train_labels=data.train_labels, test_labels=data.test_labels)


if __name__ == "__main__":
    main()
