"""The torch engine timed on whatever device is here: `python -m experiments.benchmarks.bench_torch`.

Needs a Python with PyTorch. Ratios as in `bench.py`: pairs timed in turn, the median reported.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from experiments.benchmarks.bench import BATCH, Row, images, pairwise, show, timed
from experiments.benchmarks.bench_worker import torch_form
from experiments.runs.run_folder import check_writable, versions, write_json
from mappings.engines.torch.engine import TorchEngine, TorchOptions, find_device
from wage_neuro import Network, NumpyEngine, Rules

RESULT = Path("experiments/results/bench-torch.json")
CIFAR_RATE = 20_000  # training images a second on one modern GPU


def device_name(engine: TorchEngine) -> str:
    """What the engine works on."""
    import torch

    if engine.device.type == "cuda":
        return torch.cuda.get_device_name(engine.device)
    return f"processor, {torch.get_num_threads()} threads"


def lenet(device: str | None, batches: int, pairs: int) -> list[Row]:
    """LeNet against the numpy engine, and on a processor against float training."""
    import torch

    network, rules = Network.parse("lenet", (28, 28, 1), 10), Rules(batch=BATCH)
    x, y = images(batches)
    engine, other = (
        TorchEngine(network, rules, options=TorchOptions(device=device)),
        NumpyEngine(network, rules),
    )
    against: list[tuple[str, Callable[[], object]]] = [("numpy engine", lambda: other.train(x, y, 3))]
    if engine.device.type == "cpu":
        about, learn = torch_form("eager", network, BATCH, torch.get_num_threads())
        against.append((about["name"], lambda: learn(len(x))))
    rows = []
    for name, call in against:
        ratio, ours, _ = pairwise(lambda: engine.train(x, y, 3), call, pairs)
        what = f"torch engine, LeNet, {device_name(engine)}"
        rows.append(Row(what, len(x) / ours, "samples/s", name, ratio, "", True))
    return rows


def cifar_vgg(device: str | None, repeats: int) -> Row:
    """The paper's CIFAR-10 net: training images a second."""
    network = Network.parse("vgg", (32, 32, 3), 10, signed_input=True)
    engine = TorchEngine(network, Rules(batch=BATCH), options=TorchOptions(device=device))
    on_gpu = engine.device.type == "cuda"
    n = BATCH * (40 if on_gpu else 1)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8), rng.integers(0, 10, n)
    timed(lambda: engine.train(x, y, 3))
    rate = n / statistics.median(timed(lambda: engine.train(x, y, 3)) for _ in range(repeats))
    return Row(
        f"torch engine, CIFAR-10 VGG, {device_name(engine)}",
        rate,
        "images/s",
        "" if on_gpu else "no accelerator here",
        None,
        f">= {CIFAR_RATE:,} images/s" if on_gpu else "",
        rate >= CIFAR_RATE or not on_gpu,
    )


def main() -> int:
    """Print the table, write its record, and say whether the bar is met."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.bench_torch", description=__doc__)
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    parser.add_argument("--pairs", type=int, default=15, help="pairs a row (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON record (default: %(default)s)")
    options = parser.parse_args()
    find_device(options.device)
    check_writable(options.output)
    rows = [*lenet(options.device, 4, options.pairs), cifar_vgg(options.device, min(3, options.pairs))]
    show(rows)
    record = {"versions": versions(), "rows": [asdict(row) for row in rows]}
    write_json(options.output, record)
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
