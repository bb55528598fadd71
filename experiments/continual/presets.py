"""Settings by name: those of the marks in the table, and the published protocol of a long stream.

Chosen on 5,000 training images held out, with other seeds than those of the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.continual.settings import of_method
from experiments.continual.study import Config

CONV = "16C5-MP2-32C5-MP2-128FC"
CHIP = {"eta": "8, 4@76%, 2@91%"}
"""Ternary updates of 8-bit stored weights, as the hardware's learning engine has them."""
WIDE = {"bits": "28C8", "update": "wide", "eta": "128, 64@76%, 32@91%"}
"""Stored weights of 12 bits that may move by more than a step."""
LONG = {
    "stream": "permuted-mnist", "scenario": "domain", "tasks": 1000, "method": "naive", "bits": "28C8",
    "update": "wide", "stored_range": "paper", "eta": "16", "margin": 6, "measured": 1, "probes": 0,
}  # fmt: skip
SPLIT = {"stream": "split-mnist", "scenario": "class"}
FASHION = {"stream": "split-fmnist"}
PERMUTED = {
    "stream": "permuted-mnist", "scenario": "domain", "memory": 16000, "memory_bits": 1, "recalled": 3,
    "eta": "8, 4@50%, 2@75%, 1@90%",
}  # fmt: skip
KB153 = {"memory": 1600, "memory_bits": 1, "recalled": 3}
SUMS = {"method": "discriminant", "network": "2000FC"}
MB1_5 = {"memory": 8000, "memory_bits": 2}


@dataclass(frozen=True)
class Preset:
    """Settings of `experiments.continual.study.Config`, and what they are for."""

    what: str
    settings: Mapping[str, Any]


PRESETS = {
    "split-mnist-153k": Preset("SplitMNIST, 153 KiB", {**SPLIT, **WIDE, **KB153, "augment": "crop1"}),
    "split-mnist-153k-conv": Preset(
        "convolutional", {**SPLIT, **WIDE, **KB153, "network": CONV, "augment": "crop1"}
    ),
    "split-mnist-153k-chip": Preset(
        "the same, ternary updates of 8 bits", {**SPLIT, **CHIP, **KB153, "augment": "crop1"}
    ),
    "split-mnist-1.5m": Preset(
        "SplitMNIST, 1.5 MB", {**SPLIT, **WIDE, **MB1_5, "recalled": 7, "augment": "crop1"}
    ),
    "split-mnist-1.5m-chip": Preset(
        "the same, ternary updates of 8 bits", {**SPLIT, **CHIP, **MB1_5, "recalled": 7, "augment": "crop1"}
    ),
    "split-mnist-1.5m-conv": Preset(
        "convolutional", {**SPLIT, **WIDE, **MB1_5, "recalled": 3, "network": CONV, "augment": "crop1"}
    ),
    "split-fmnist-1.5m": Preset("SplitFMNIST, 1.5 MB", {**SPLIT, **FASHION, **WIDE, **MB1_5, "recalled": 7}),
    "split-fmnist-1.5m-chip": Preset(
        "the same, ternary updates of 8 bits", {**SPLIT, **FASHION, **CHIP, **MB1_5, "recalled": 7}
    ),
    "split-fmnist-1.5m-conv": Preset(
        "convolutional", {**SPLIT, **FASHION, **WIDE, **MB1_5, "recalled": 7, "network": CONV}
    ),
    "split-mnist-discriminant": Preset("SplitMNIST, no memory of samples", {**SPLIT, **SUMS}),
    "split-fmnist-discriminant": Preset("SplitFMNIST, the same", {**SPLIT, **FASHION, **SUMS}),
    "permuted-mnist": Preset("PermutedMNIST, 1.5 MB, ternary updates", PERMUTED),
    "permuted-mnist-wide": Preset(
        "the same, weights of 12 bits, 1000-1000", {**PERMUTED, **WIDE, "network": "1000FC-1000FC"}
    ),
    "long": Preset("1,000 permutations, no memory, 784-100-10", {**LONG, "network": "100FC"}),
    "long-wide": Preset("the same with 784-2000-10", {**LONG, "network": "2000FC"}),
}


def config_of(name: str) -> Config:
    """The run that a preset is.

    >>> config_of("long").tasks
    1000
    """
    settings = PRESETS[name].settings
    given = {"method": "replay", "consolidation": 0, **settings}
    return Config(**{**of_method(given), **given})
