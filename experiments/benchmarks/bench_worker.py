"""One kind of training in a process of its own, timed on request: what `bench_kernels.py` starts.

    python -m experiments.benchmarks.bench_worker KIND NETWORK SHAPE BATCH THREADS

It says what it is as one line of JSON; then, for every number of samples that it reads, the seconds of wall
and of processor time that learning them took, its children's too. Kinds: an engine's name, or PyTorch in one
of `FORMS`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wage_neuro import Network, Rules
from wage_neuro.kernels.numpy_kernels import set_threads
from wage_neuro.layers import Layer

FORMS = {
    "eager": (),
    "channels-last": ("channels_last",),
    "bfloat16": ("bfloat16",),
    "channels-last, bfloat16": ("channels_last", "bfloat16"),
    "compiled": ("compile",),
    "compiled, channels-last, bfloat16": ("compile", "channels_last", "bfloat16"),
}
"""What PyTorch offers for training faster on a processor, alone and together."""
TORCH = "PyTorch "
SAMPLES = 12_800
"""Different samples that are learned in turn."""

Learn = Callable[[int], object]


def samples(network: Network, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images as sparse as MNIST's (about one pixel in five) or, of colours, dense; with labels."""
    rng = np.random.default_rng(0)
    shape = (n, *network.input_shape)
    images = rng.integers(1, 256, shape, np.uint8)
    if network.input_shape[-1] == 1:
        images *= rng.random(shape, np.float32) < 0.19
    return images, rng.integers(0, network.classes, n)


def rules_of(batch: int) -> Rules:
    """The paper's for a batch, on-chip learning for one sample at a time."""
    return (
        Rules(batch=batch) if batch > 1 else Rules(batch=1, shift="held", update="ternary", loss="one-sided")
    )


def engine(name: str, network: Network, batch: int, n: int) -> tuple[dict[str, str], Learn]:
    """An engine of ours at work on n samples in turn."""
    from experiments.commands.engine_report import blas_kernel
    from experiments.engines import make_engine
    from wage_neuro import initial_state

    images, labels = samples(network, n)
    built = make_engine(name, network, rules_of(batch), initial_state(network))
    place = 0

    def learn(count: int) -> None:
        nonlocal place
        for _ in range(0, count, min(count, n)):
            place = 0 if place + min(count, n) > n else place
            part = slice(place, place + min(count, n))
            built.train(images[part], labels[part], 3 if batch > 1 else 0)
            place = part.stop

    about = {"name": f"{name} engine", "BLAS": blas_kernel()}
    if name == "compiled":
        about["instruction set"] = built.net.isa  # type: ignore[attr-defined]
    return about, learn


def torch_layers(network: Network, nn: Any) -> list[Any]:
    """The same network of PyTorch's layers."""

    def of(layer: Layer) -> list[Any]:
        n_out = layer.weight_shape[-1]
        if layer.window:
            made = [nn.Conv2d(layer.in_shape[2], n_out, *layer.window, layer.padding[0])]
            made += [nn.MaxPool2d(layer.pool.size, layer.pool.step)] if layer.pool else []
            return [*made, nn.ReLU()]
        made = [] if layer.index and len(network.layers[layer.index - 1].out_shape) == 1 else [nn.Flatten()]
        made.append(nn.Linear(layer.fan_in, n_out))
        return made if layer.is_last else [*made, nn.ReLU()]

    return [part for layer in network.layers for part in of(layer)]


def torch_form(form: str, network: Network, batch: int, threads: int) -> tuple[dict[str, str], Learn]:
    """Training in float32 or bfloat16 by SGD and cross-entropy."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    options = FORMS[form]
    net = nn.Sequential(*torch_layers(network, nn))
    h, w, c = network.input_shape
    x, y = torch.rand(batch, c, h, w), torch.randint(0, network.classes, (batch,))
    if "channels_last" in options:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    sgd, loss = torch.optim.SGD(net.parameters(), 0.01), nn.CrossEntropyLoss()

    def forward() -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in options):
            return loss(net(x), y)

    step = torch.compile(forward) if "compile" in options else forward

    def learn(count: int) -> None:
        for _ in range(count // batch):
            sgd.zero_grad()
            step().backward()
            sgd.step()

    return {"name": f"{TORCH}{torch.__version__.split('+')[0]}, {form}"}, learn


def children_seconds() -> float:
    """Processor time of all that this process has started, and that is still there."""
    ticks, stats = os.sysconf("SC_CLK_TCK"), {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            stats[int(entry.parent.name)] = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
    family, new = {os.getpid()}, {os.getpid()}
    while new:
        new = {pid for pid, fields in stats.items() if int(fields[1]) in new} - family
        family |= new
    return sum(int(stats[pid][k]) for pid in family - {os.getpid()} for k in (11, 12)) / ticks


def timed(learn: Learn, count: int) -> tuple[float, float]:
    """Seconds of wall and of processor time that learning so many samples takes."""
    children, wall, processor = children_seconds(), time.perf_counter(), time.process_time()
    learn(count)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return wall, processor + children_seconds() - children


def main() -> None:
    kind, text, shape, batch, threads = sys.argv[1:]
    network = Network.parse(text, tuple(map(int, shape.split("x"))), 10, signed_input=shape.endswith("x3"))
    set_threads(int(threads))
    if kind.startswith(TORCH):
        about, learn = torch_form(kind.removeprefix(TORCH), network, int(batch), int(threads))
    else:
        about, learn = engine(kind, network, int(batch), max(SAMPLES, 8 * int(batch)))
    learn(int(batch))
    print(json.dumps({**about, "threads": threads}), flush=True)
    for line in sys.stdin:
        print(*timed(learn, int(line)), flush=True)


if __name__ == "__main__":
    main()
