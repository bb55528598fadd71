"""Commands that are killed and whose disks fail: how to start one, how to go on, what must come out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments import datasets
from experiments.campaign.commands import run
from experiments.runs.run_folder import CHECKPOINT
from wage_neuro import checkpoint
from wage_neuro.errors import DataError
from wage_neuro.kernels.build import LIBRARY

PASSING = {"seconds", "train_seconds", "versions", "command", "samples_per_s"}
"""What a record says of one machine and one day."""

MODULES = {"lava": "lava", "brian2": "brian2", "torch": "torch"}
"""Modules that an engine needs."""


@dataclass(frozen=True)
class Subject:
    """One command.

    Attributes
    ----------
    words : of the command, in a fresh folder
    resume : words that go on where `begun` exists; else `words` are said again
    result : what must be equal to that of a run which nothing stopped, from its folder
    given : commands whose results it starts from
    """

    name: str
    words: str
    result: Callable[[Path], dict[str, Any]]
    resume: str = ""
    begun: str = ""
    given: tuple[str, ...] = ()

    def prepare(self, folder: Path) -> Path:
        """Make the folder and what the command starts from."""
        folder.mkdir(parents=True)
        for words in self.given:
            ended = run(words.split(), folder)
            if ended.code:
                raise RuntimeError(f"wage-neuro {words}: {ended.err}")
        return folder

    def next_words(self, folder: Path) -> list[str]:
        """Words that start it, or go on with it."""
        return (self.resume if self.begun and (folder / self.begun).exists() else self.words).split()


def lasting(value: Any) -> Any:
    """A record without what differs from run to run.

    >>> lasting({"a": [{"seconds": 3, "b": 1}], "versions": {}})
    {'a': [{'b': 1}]}
    """
    if isinstance(value, dict):
        return {key: lasting(item) for key, item in value.items() if key not in PASSING}
    return [lasting(item) for item in value] if isinstance(value, list) else value


def trained(folder: Path) -> dict[str, Any]:
    """Bytes of every stored weight, held exponents, and the curve."""
    state = checkpoint.load(folder / "out" / CHECKPOINT).state
    record = json.loads((folder / "out/record.json").read_text())
    return {
        "weights": [S.tobytes() for S in state.S],
        "held": [state.error_held, state.gradient_held, state.step],
        "curve": lasting(record["curve"]),
    }


def records(folder: Path) -> dict[str, Any]:
    """Every record in a folder of runs."""
    found = {}
    for path in sorted((folder / "out").rglob("record.json*")):
        rows = (
            [json.loads(line) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" else None
        )
        found[str(path.relative_to(folder))] = lasting(rows or json.loads(path.read_text()))
    return found


def exported(folder: Path) -> dict[str, Any]:
    """The file's bytes."""
    return {"file": hashlib.sha256((folder / "exported").read_bytes()).hexdigest()}


TRAIN = "train --data digits --network 4C3-MP2-24FC --batch 32 --epochs 3 --seed 1 --run out --engine"
SMALL = "train --data digits --network 8FC --batch 64 --train-images 128 --epochs 1 --run out --engine"
ONCHIP = "train --mode onchip --data digits --network 16FC --train-images 200 --epochs 2 --run out --engine"
CONTINUAL = (
    "continual split-digits --network 24FC --memory 60 --task-images 100 --test-images 50 --seeds 2 --run out"
)
SWEEP = "experiment mnist-lenet --scale epochs=2,width=1/16,images=256 --seeds 2 --folder out"


def subjects() -> list[Subject]:
    """Every subject whose engine and data are here."""
    trainings = (
        ("train", TRAIN, ("numpy", "torch", "lava")),
        ("train", SMALL, ("brian2",)),
        ("train on chip", ONCHIP, ("compiled", "lava")),
    )
    begun = f"out/{CHECKPOINT}"
    found = [
        Subject(f"{what}, {e}", f"{words} {e}", trained, f"train --resume out --engine {e}", begun)
        for what, words, engines in trainings
        for e in engines
        if is_here(e)
    ]
    found.append(Subject("continual", CONTINUAL, records, "continual --resume out", "out/study.json"))
    if _has("mnist"):
        found.append(Subject("sweep", SWEEP, records))
        found.append(Subject("sweep, 2 jobs", f"{SWEEP} --jobs 2", records))
    for form in ("nir", "nir-if", "netx", "packed", "program"):
        words = f"export out --to {form} --output exported"
        found.append(Subject(f"export, {form}", words, exported, given=(f"{SMALL} numpy",)))
    return found


def is_here(engine: str) -> bool:
    """Whether what an engine needs is installed, or built."""
    if engine == "compiled":
        return LIBRARY.exists()
    return engine not in MODULES or find_spec(MODULES[engine]) is not None


def _has(name: str) -> bool:
    try:
        datasets.load(name, download=False)
    except DataError:
        return False
    return True
