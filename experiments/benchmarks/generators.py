"""What the generators of the rules cost on a processor, side by side: drawing alone, and learning.

`python -m experiments.benchmarks.generators --output experiments/results/generators.json`: seconds of
processor time, each generator in turn, of which the lower quartile is kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from experiments import datasets
from experiments.runs import run_folder
from mappings.engines.compiled import CompiledEngine
from wage_neuro import Network, Rules
from wage_neuro.kernels import native
from wage_neuro.random_bits import GENERATORS, UPDATE, bits16

STRICT = Rules(batch=1, shift="held", update="ternary", loss="one-sided", margin=3)
CASES = {
    "LeNet, batch 128": ("32C5-MP2-64C5-MP2-512FC", Rules(batch=128), 256),
    "784-512-10, one sample at a time": ("512FC", STRICT, 600),
}
"""Network, rules, samples that are timed."""
NUMBERS = 401_408  # weights of 784-512


def in_turn(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return seconds of processor time of each work."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            began = time.process_time()
            work()
            took[name].append(time.process_time() - began)
    return {name: sorted(times)[len(times) // 4] for name, times in took.items()}


def measure(images: np.ndarray, labels: np.ndarray, numbers: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return seconds for each work by generator: of so many numbers, and of an update's samples.

    Networks are warmed up with the images, so that what is timed is no first sample.
    """
    stream, groups = (1, UPDATE, 1, 1), -(-numbers // 128)
    found = {
        "numbers drawn by numpy": in_turn(
            {name: partial(bits16, stream, 0, numbers, name) for name in GENERATORS}, rounds
        ),
        "numbers drawn by the compiled kernels": in_turn(
            {name: partial(native.philox, stream, 0, groups, name) for name in GENERATORS}, rounds
        ),
    }
    for case, (text, rules, samples) in CASES.items():
        network, works = Network.parse(text, images.shape[1:], 10), {}
        for name in GENERATORS:
            engine = CompiledEngine(network, replace(rules, generator=name))
            engine.train(images, labels, 3)
            works[name] = partial(engine.train, images[:samples], labels[:samples], 3)
        found[case] = in_turn(works, rounds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True)
    output = parser.parse_args().output
    run_folder.check_writable(output)
    data = datasets.load("mnist")
    first = slice(0, 23 * 128)
    found = measure(data.train_images[first], data.train_labels[first], NUMBERS, rounds=9)
    for case, seconds in found.items():
        print(f"{case}: {seconds['philox4x64'] / seconds['philox4x32']:.2f} x faster with philox4x32")
    record = {
        "command": run_folder.this_command(),
        "numbers": NUMBERS,
        "cases": {name: {"network": text, "samples": n} for name, (text, _, n) in CASES.items()},
        "seconds of processor time": found,
        "instruction set": native.instruction_set(),
        "versions": run_folder.versions(),
    }
    run_folder.write_json(output, record)


if __name__ == "__main__":
    main()
