"""Float networks on the streams of the presets, with the same memory: what the integers are compared with.

`python -m experiments.studies.continual_floats split-mnist-153k --seeds 3` learns a preset's stream by plain
SGD in float32: the same layers, one pass, the same bytes of memory and bits a pixel, the same number of
recalled samples for each new one, the same augmentation; ten new samples a step, softmax cross-entropy over
all outputs, a constant rate. The rate is the best of RATES on the preset's validation images with another
seed. Rows go to experiments/results/continual-floats.json, a preset at a time. Stopped and called again, it
goes on behind the last network that was learned to its end (runs/continual-floats.jsonl). It needs PyTorch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional
except ImportError as error:
    if __name__ != "__main__":
        raise
    sys.exit(f'continual_floats: {error}; it needs PyTorch: pip install "wage-neuro[torch]"')

from experiments.continual.methods import ReadOut
from experiments.continual.presets import PRESETS, config_of
from experiments.continual.streams import Stream, Task
from experiments.continual.study import Config, checksums_of, open_tasks, stream_of
from experiments.runs.forms import Number
from experiments.runs.run_folder import check_writable, versions, write_json, write_rows
from experiments.studies import alone
from wage_neuro.errors import SettingError
from wage_neuro.memory import MemoryForm, Reservoir
from wage_neuro.network import Network
from wage_neuro.specs import Conv, Dense, Flatten, MaxPool, Spec
from wage_neuro.typed import Count, read_rows

RESULT = Path("experiments/results/continual-floats.json")
LEARNED = Path("runs/continual-floats.jsonl")
"""A row each network learned."""
STEP = 10  # new samples
RATES = (0.03, 0.1, 0.3)
CHOOSING_SEED, HELD_OUT = 10, 5000
PREDICTED = 1000  # images at once


@dataclass(frozen=True)
class Outcome:
    """Accuracy over all tasks at the end, %, and bytes of the memory."""

    accuracy: float
    bytes: int


def learn(config: Config, tasks: Sequence[Task], rate: float) -> Outcome:
    """Go through a stream once: a step's new samples, with those that are recalled behind them."""
    torch.manual_seed(config.seed)
    torch.set_num_threads(1)
    stream = stream_of(config, tuple(tasks))
    shape = tasks[0].data.train_images.shape[1:]
    model = _model(Network.parse(config.network, shape, stream.outputs).specs, shape)
    memory, recalled = None, 0
    if config.kind.recalls:
        form = MemoryForm(bits=config.memory_bits, keep=config.keep)
        memory = Reservoir.empty(config.memory, shape, stream.outputs, config.seed, form)
        recalled = config.recalled
    for first in range(0, len(stream) - STEP + 1, STEP):
        images, labels = stream.samples(first, STEP)
        if memory:
            mixed = memory.interleave(images, labels, STEP, recalled)
            images, labels = mixed.images, mixed.labels
        place = first * (1 + recalled)
        images = config.augmentation.apply(images, config.seed, 0, slice(place, place + len(images)))
        loss = functional.cross_entropy(model(_input(images)), torch.from_numpy(labels))
        model.zero_grad()
        torch.autograd.backward(loss)
        with torch.no_grad():
            for weights in model.parameters():
                if weights.grad is not None:
                    weights -= rate * weights.grad
    return Outcome(_accuracy(model, stream), memory.bytes if memory else 0)


def learned(config: Config, rate: float, data_dir: Path | None) -> Outcome:
    """What `learn` comes to, or came to before with the same settings on the same data."""
    tasks = open_tasks(config, data_dir)
    what = {"config": asdict(config), "rate": rate, "data_sha256": checksums_of(tasks)}
    known = read_rows(LEARNED, _Learned, "record of float networks") if LEARNED.exists() else []
    for row in known:
        if row["what"] == what:
            return Outcome(row["accuracy"], row["bytes"])
    outcome = learn(config, tasks, rate)
    LEARNED.parent.mkdir(parents=True, exist_ok=True)
    write_rows(LEARNED, [*known, {"what": what, **asdict(outcome)}])
    return outcome


class _Learned(TypedDict):
    what: dict[str, Any]
    accuracy: Number
    bytes: Count


def _model(specs: Sequence[Spec], shape: tuple[int, ...]) -> nn.Sequential:
    """The same layers in floats; PyTorch draws weights and biases from +-1 / sqrt(fan in)."""
    layers: list[nn.Module] = []
    channels, size = shape[-1], shape[0] * shape[1]
    for spec in specs:
        match spec:
            case Conv():
                layers += [nn.Conv2d(channels, spec.channels, spec.kernel, padding="same"), nn.ReLU()]
                channels = spec.channels
            case MaxPool():
                layers.append(nn.MaxPool2d(spec.size))
                size //= spec.size**2
            case Flatten():
                layers.append(nn.Flatten())
                channels *= size
            case Dense():
                layers += [nn.Linear(channels, spec.units), nn.ReLU()]
                channels = spec.units
            case _:
                raise SettingError(f"{spec}: floats have none")
    return nn.Sequential(*layers[:-1])


def _input(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 255


def _accuracy(model: nn.Module, stream: Stream) -> float:
    found = []
    for task in stream.tasks:
        images, labels = task.test_samples()
        with torch.no_grad():
            parts = [model(_input(images[i : i + PREDICTED])) for i in range(0, len(images), PREDICTED)]
        found.append((stream.answers(task, torch.cat(parts).numpy()) == labels).mean())
    return 100 * float(np.mean(found))


def row(
    name: str, seeds: int, rates: Sequence[float] = RATES, data_dir: Path | None = None
) -> dict[str, Any]:
    """Choose the rate on validation images, then learn each seed and read the test images once."""
    config = replace(config_of(name), step=STEP)
    chosen = dict.fromkeys(rates, 0.0)
    if len(rates) > 1:
        held_out = replace(config, seed=CHOOSING_SEED, validation=HELD_OUT)
        chosen = {rate: learned(held_out, rate, data_dir).accuracy for rate in rates}
    rate = max(chosen, key=lambda each: chosen[each])
    found = []
    for seed in range(config.seed, config.seed + seeds):
        each = replace(config, seed=seed)
        found.append(learned(each, rate, data_dir))
        print(f"{name}, seed {seed}, rate {rate}: {found[-1].accuracy:.2f} %", flush=True)
    return {
        "preset": name,
        "network": config.network,
        "rate": rate,
        "validation": {str(each): round(value, 3) for each, value in chosen.items()},
        "memory_bytes": found[0].bytes,
        "ACC": [round(each.accuracy, 3) for each in found],
        "versions": versions(),
    }


def main(
    names: list[str], seeds: int = 3, rates: str = ",".join(map(str, RATES)), data_dir: Path | None = None
) -> None:
    """Learn presets in floats and write their rows; those of others stay."""
    check_writable(RESULT)
    for name in names:
        if name not in PRESETS:
            raise SettingError(f"preset {name!r}: want {', '.join(PRESETS)}")
        if issubclass(config_of(name).kind, ReadOut):
            raise SettingError(f"preset {name!r}: nothing in it learns by SGD; want one of another method")
    for name in names:
        new = row(name, seeds, [float(rate) for rate in rates.split(",")], data_dir)
        kept = json.loads(RESULT.read_text()) if RESULT.exists() else []
        write_json(
            RESULT, sorted([*(r for r in kept if r["preset"] != name), new], key=lambda r: r["preset"])
        )


if __name__ == "__main__":
    alone(main)
