"""What needs a GPU, in one go: agreement with the numpy engine, speed, then epochs of a paper run.

    python -m experiments.benchmarks.gpu --minutes 10

writes its record after every part, and goes on with the run where it stands; `wage-neuro train --resume` does
so too, on any engine and to the same bits. `--device cpu --scale width=1/32,epochs=2` tries it without a GPU.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.agreement import MODES, NETWORKS, RECORDED, Cell, batches, supports_of
from experiments.commands.presets import BEST, EXPERIMENTS, Job, Means, Scale, do, jobs
from experiments.engines import make_engine
from experiments.runs import run_folder
from experiments.runs.compare import first_difference
from experiments.runs.training import Report, Run
from wage_neuro import Network, NumpyEngine, Rules, initial_state
from wage_neuro.errors import WageError

RESULT = Path("experiments/results/gpu.json")
PARTS = ("agreement", "speed", "train")
BYTES = {
    "64FC-32FC": Network.parse("64FC-32FC", (30,), classes=5),
    "32C3-MP2-64C3-MP2-32FC": Network.parse(
        "32C3-MP2-64C3-MP2-32FC", (8, 8, 3), classes=5, signed_input=True
    ),
    "32C3N-32C2N-MP2-32FCN": Network.parse("32C3N-32C2N-MP2-32FCN", (4, 4, 3), classes=5, signed_input=True),
}
"""Small networks that the fused kernels hold."""
FULL_STEPS = 3
PAPER = {
    f"{mode}, batch 128": replace(MODES[mode], batch=128) for mode in ("paper", "sharp softmax, momentum")
}


@dataclass(frozen=True)
class Full:
    """A network at full width, and the rules it is compared with; it is timed with the first of them."""

    network: Network
    modes: dict[str, Rules]


FULL = {
    "mlp": Full(Network.parse("256FC", (28, 28, 1), classes=10), PAPER),
    "lenet": Full(Network.parse("lenet", (28, 28, 1), classes=10), PAPER),
    "vgg": Full(Network.parse("vgg", (32, 32, 3), classes=10, signed_input=True), PAPER),
    "vgg, errors of 12 bits": Full(
        Network.parse("vgg", (32, 32, 3), classes=10, bits="288C", signed_input=True), PAPER
    ),
    "vgg, normalised": Full(
        Network.parse(BEST.network, (32, 32, 3), classes=10, bits=BEST.bits, signed_input=True),
        {"small batches": BEST.rules},
    ),
}
"""The paper's networks, and the best of ours."""


def agreement(device: str, seeds: int, full: bool) -> Iterator[Cell]:
    """Compare the torch engine on a device with numpy's after every step."""
    for name, one in FULL.items() if full else ():
        for mode, rules in one.modes.items():
            yield _cell(name, mode, one.network, rules, device, 1, FULL_STEPS)
    takes = supports_of("torch")
    for name, network in (*BYTES.items(), *((name, NETWORKS[name]) for name in RECORDED)):
        for mode, rules in MODES.items():
            if not takes.refusal(network, rules):
                yield _cell(name, mode, network, rules, device, seeds, max(6, 48 // rules.batch))


def _cell(name: str, mode: str, network: Network, rules: Rules, device: str, seeds: int, steps: int) -> Cell:
    changed: list[int] = []
    difference: str | None = None
    for seed in range(seeds):
        oracle = NumpyEngine(network, rules, seed=seed)
        begin = oracle.state
        with make_engine("torch", network, rules, begin, device=device) as other:
            found = first_difference({"numpy": oracle, "torch": other}, batches(network, rules, steps, seed))
        if found and not difference:
            difference = f"seed {seed}, {found}"
        changed.append(sum(int((a != b).sum()) for a, b in zip(begin.S, oracle.state.S, strict=True)))
    return Cell(name, mode, f"torch, {device}", seeds, steps, network.n_weights, min(changed), difference)


def speed(device: str, seconds: float) -> Iterator[dict[str, Any]]:
    """Images a second of training, images already in this process's memory."""
    for name, one in FULL.items():
        network, rules = one.network, next(iter(one.modes.values()))
        rng, size = np.random.default_rng(0), rules.batch
        images = rng.integers(0, 256, (size, *network.input_shape), np.uint8)
        with make_engine("torch", network, rules, initial_state(network), device=device) as engine:
            seen, spent, calls = 0, 0.0, 1
            while spent < seconds:
                x, y = np.tile(images, (calls, 1, 1, 1)), rng.integers(0, 10, size * calls)
                began = time.monotonic()
                engine.train(x, y, 3)
                if calls > 1:  # the first ones compile
                    seen, spent = seen + len(x), spent + time.monotonic() - began
                calls = min(2 * calls, 64)
        yield {"network": name, "batch": size, "images": seen, "images_per_s": round(seen / spent)}


def train(job: Job, means: Means, until: float) -> list[dict[str, Any]]:
    """Train a run from where it stands until a moment of `time.monotonic`; return its metrics so far."""
    curve: list[dict[str, Any]] = []

    def look(run: Run, seen: Report) -> None:
        run.stop_wanted |= time.monotonic() > until
        curve[:] = run.progress.curve
        if not seen.samples:  # an epoch has ended
            print(
                f"epoch {seen.epoch} of {seen.epochs}, {seen.samples_per_s:,.0f} images/s,"
                f" training error {seen.train_error:.2%}, test error {seen.last_error:.2%}",
                flush=True,
            )

    do(job, means, look)
    return curve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are asked for; 1 if a bit differs."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="joined by commas (default: %(default)s)")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10, help="for all parts (default: %(default)s)")
    parser.add_argument(
        "--seeds", type=int, default=1, help="of each small comparison (default: %(default)s)"
    )
    parser.add_argument("--small", action="store_true", help="no full-size networks in the comparison")
    parser.add_argument("--experiment", default="cifar10-vgg", choices=list(EXPERIMENTS))
    parser.add_argument("--scale", default="", help="such as width=1/8,epochs=30 (default: the paper's)")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/gpu"), help="of runs (default: %(default)s)"
    )
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON record (default: %(default)s)")
    given = parser.parse_args(arguments)
    until, parts = time.monotonic() + 60 * given.minutes, given.parts.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"--parts {given.parts}: want {', '.join(PARTS)}")
    try:
        return _run(given, parts, until)
    except WageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(given: argparse.Namespace, parts: list[str], until: float) -> int:
    run_folder.check_writable(given.output)
    record = json.loads(given.output.read_text()) if given.output.exists() else {}

    def keep(part: str, rows: list[dict[str, Any]]) -> None:
        record[part] = {"versions": run_folder.versions(), "rows": rows}
        run_folder.write_json(given.output, record)

    wrong = 0
    if "agreement" in parts:
        cells = []
        for cell in agreement(given.device, given.seeds, not given.small):
            cells.append(asdict(cell))
            wrong += cell.difference is not None
            print(f"{cell.network}, {cell.mode}: {cell.difference or 'equal'}", flush=True)
        keep("agreement", cells)
    if "speed" in parts:
        rows = []
        for row in speed(given.device, seconds=3):
            rows.append(row)
            print(f"{row['network']}: {row['images_per_s']:,} images/s", flush=True)
        keep("speed", rows)
    if "train" in parts:
        scale = Scale.parse(given.scale) if given.scale else Scale()
        job = jobs(given.experiment, scale, [0], given.folder, list(EXPERIMENTS[given.experiment])[:1])[0]
        command = shlex.join(["python", "-m", "experiments.benchmarks.gpu", *sys.argv[1:]])
        means = Means("torch", given.device, data_dir=given.data_dir, command=command)
        keep("train", train(job, means, until))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
