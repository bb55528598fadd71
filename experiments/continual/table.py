"""The table of continual learning, made from the committed records."""

from __future__ import annotations

from pathlib import Path

from experiments.continual import records
from experiments.continual.records import Record

FLOAT = {
    ("split-mnist", "class", "naive", 0): "19.7",
    ("split-mnist", "class", "replay", 200): "74.8",
    ("split-mnist", "class", "replay", 1000): "90.0",
    ("split-mnist", "class", "replay", 2000): "92.3; 1 + 1: 94.1",
    ("split-mnist", "class", "replay-logits", 2000): "95.0",
    ("split-mnist", "class", "joint", 0): "96.6",
    ("split-mnist", "class", "features", 0): "95.8 (ridge)",
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


def continual_table(folder: Path) -> str:
    """A row a record in `folder`/continual: means over the seeds, float baselines, what it needed."""
    found = [records.read(path) for path in sorted((folder / "continual").glob("*.jsonl"))]
    lines = [
        "| stream | method | hidden layers | seeds | ACC, % | forgetting | float ACC | memory"
        " | weights changed a sample |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join(lines + [_row(r) for r in found if r.runs[0]["measured_on"] == "test"])


def _row(record: Record) -> str:
    head, config = record.runs[0], record.runs[0]["config"]
    also = f", {config['augment']}" if config["augment"] != "none" else ""
    also += f", new_shift {config['new_shift']}" if config.get("new_shift") else ""
    forgotten = record.mean_and_spread("forgetting") if "forgetting" in head else ""
    key = tuple(config[name] for name in ("stream", "scenario", "method", "memory"))
    float_acc = FLOAT.get(key, "") if record.is_whole else ""
    learned = sum(run["samples_learned"] for run in record.runs)
    changed = "not counted"
    if all("weight_updates" in run for run in record.runs):
        changed = f"{sum(run['weight_updates'] for run in record.runs) / learned:,.0f}"
    return (
        f"| {record.stream} | {record.method}{also} | {config['network']} | {len(record.runs)}"
        f" | **{record.mean_and_spread('ACC')}** | {forgotten} | {float_acc}"
        f" | {head['memory_bytes'] / 1024:,.0f} KiB | {changed} |"
    )
