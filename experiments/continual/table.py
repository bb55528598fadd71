"""The table of continual learning, made from the committed records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from experiments.continual import records
from experiments.continual.methods import METHODS, Method, ReadOut
from experiments.continual.metrics import NEWEST, NEWEST_ACC
from experiments.continual.pictures import Point, in_bits
from experiments.continual.presets import config_of
from experiments.continual.records import Record
from experiments.records.names import mean_and_spread, table
from experiments.runs.forms import Number
from wage_neuro.bits import Bits
from wage_neuro.typed import Count, read_json

FLOAT = {
    ("split-mnist", "class", "naive", 0): "19.7",
    ("split-mnist", "class", "replay", 200): "74.8",
    ("split-mnist", "class", "replay", 1000): "90.0",
    ("split-mnist", "class", "replay", 2000): "92.3; 1 + 1: 94.1",
    ("split-mnist", "class", "replay-logits", 2000): "95.0",
    ("split-mnist", "class", "joint", 0): "96.6",
    ("split-mnist", "class", "features", 0): "95.8 (ridge)",
    ("split-mnist", "class", "discriminant", 0): "95.8 (ridge, 2,000)",
    ("split-fmnist", "class", "discriminant", 0): "86.3 (ridge, 2,000)",
    ("split-fmnist", "class", "naive", 0): "19.9",
    ("split-fmnist", "class", "replay", 2000): "81.5",
    ("split-fmnist", "class", "replay-logits", 2000): "83.5",
    ("split-fmnist", "class", "joint", 0): "84.4",
    ("permuted-mnist", "domain", "naive", 0): "74.6",
    ("permuted-mnist", "domain", "replay", 2000): "95.2",
    ("permuted-mnist", "domain", "consolidation", 0): "93.2 (EWC)",
    ("permuted-mnist", "domain", "joint", 0): "96.5",
}
"""ACC, %, of 784-400-400-10 in float32 by plain SGD: one pass, batch 10 new + 10 recalled, no augmentation,
constant rate chosen on validation images, seeds 0 to 2, 10 tasks of permuted-mnist."""


FLOATS = "continual-floats.json"


def floats(folder: Path) -> list[Point]:
    """Float networks that replay on SplitMNIST, class-incremental, with their bytes of memory."""
    found = [
        Point(
            memory * (784 + 1), [float(acc.partition(";")[0])], "float, 400FC-400FC; 8 bits a pixel, 10 + 10"
        )
        for (stream, _, method, memory), acc in FLOAT.items()
        if (stream, method) == ("split-mnist", "replay")
    ]
    for row in _read_floats(folder):
        config = config_of(row["preset"])
        if config.stream == "split-mnist":
            form = f"{in_bits(vars(config))} a pixel, 10 + {10 * config.recalled}"
            found.append(Point(row["memory_bytes"], row["ACC"], f"float, {config.network}; {form}"))
    return found


def _read_floats(folder: Path) -> list[dict[str, Any]]:
    path = folder / FLOATS
    return read_json(path, list[FloatRow], "record of float networks") if path.exists() else []


class FloatRow(TypedDict):
    """A preset in floats, as `experiments.studies.continual_floats` writes it."""

    preset: str
    memory_bytes: Count
    ACC: list[Number]


def continual_table(folder: Path) -> str:
    """A row a record in `folder`/continual: means over the seeds, float baselines, what it needed."""
    found = [records.read(path) for path in sorted((folder / "continual").glob("*.jsonl"))]
    same = {_learned(vars(config_of(row["preset"]))): row for row in _read_floats(folder)}
    heads = (
        "stream | method | hidden layers | updates | seeds | ACC, % | forgetting | float ACC | memory"
        " | weights changed a sample"
    )
    return table(heads, [_row(r, same) for r in found if r.runs[0]["measured_on"] == "test"])


def _learned(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a float network shares with ours: the stream, the method, its memory, the layers."""
    shared = ("stream", "scenario", "tasks", "task_images", "method", "memory", "augment", "network")
    return *(config.get(name) for name in shared), config.get("memory_bits", 8), config.get("recalled", 1)


def _row(record: Record, floats: Mapping[tuple[Any, ...], Mapping[str, Any]]) -> tuple[object, ...]:
    head, config = record.runs[0], record.runs[0]["config"]
    also = f", {in_bits(config)} a pixel" if config.get("memory_bits", 8) != 8 else ""
    also += f", 1 + {config['recalled']}" if config.get("recalled", 1) != 1 else ""
    also += f", {config['augment']}" if config["augment"] != "none" else ""
    also += f", new_shift {config['new_shift']}" if config.get("new_shift") else ""
    forgotten = record.mean_and_spread("forgetting") if "forgetting" in head else ""
    float_acc = ""
    if found := floats.get(_learned(config)):
        float_acc = mean_and_spread(found["ACC"])
    elif record.is_whole and config.get("memory_bits", 8) == 8 and config.get("recalled", 1) == 1:
        key = tuple(config[name] for name in ("stream", "scenario", "method", "memory"))
        float_acc = FLOAT.get(key, "")
    learned = sum(run["samples_learned"] for run in record.runs)
    changed = "not counted"
    if all("weight_updates" in run for run in record.runs):
        changed = f"{sum(run['weight_updates'] for run in record.runs) / learned:,.0f}"
    acc = f"**{record.mean_and_spread('ACC')}**"
    if NEWEST_ACC in head:
        acc += f"; newest {NEWEST}: **{record.mean_and_spread(NEWEST_ACC)}**"
    what = record.stream, record.method + also, config["network"], _updates(config), len(record.runs)
    return *what, acc, forgotten, float_acc, f"{head['memory_bytes'] / 1024:,.0f} KiB", changed


def _updates(config: Mapping[str, Any]) -> str:
    """How the weights move: the updates, and bits of a stored weight; of a read-out none does."""
    if issubclass(METHODS.get(config["method"], Method), ReadOut):
        return "none"
    return f"{config['update']}, {Bits.parse(config['bits']).k_G} bits"
