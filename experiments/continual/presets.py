"""Settings by name: those of the marks in the table, and the published protocol of a long stream.

Chosen on 5,000 training images held out, with other seeds than those of the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONV = "16C5-MP2-32C5-MP2-128FC"
CHIP = {"eta": "8, 4@76%, 2@91%"}
"""Ternary updates of 8-bit stored weights, as the hardware's learning engine has them."""
WIDE = {"bits": "28C8", "update": "wide", "eta": "128, 64@76%, 32@91%"}
"""Stored weights of 12 bits that may move by more than a step."""
LONG = {
    "stream": "permuted-mnist", "scenario": "domain", "tasks": 1000, "method": "naive", "bits": "28C8",
    "update": "wide", "stored_range": "paper", "eta": "16", "margin": 6, "measured": 1, "probes": 0,
}  # fmt: skip
KB153 = {"memory": 1600, "memory_bits": 1, "recalled": 3}
MB1_5 = {"memory": 8000, "memory_bits": 2}


@dataclass(frozen=True)
class Preset:
    """Settings of `experiments.continual.study.Config`, and what they are for."""

    what: str
    settings: Mapping[str, Any]


def _split(what: str, stream: str, **settings: Any) -> Preset:
    return Preset(what, {"stream": stream, **settings})


PRESETS = {
    "long": Preset("1,000 permutations, no memory, 784-100-10", {**LONG, "network": "100FC"}),
    "long-wide": Preset("the same with 784-2000-10", {**LONG, "network": "2000FC"}),
}
