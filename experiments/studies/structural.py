"""Holds a run through Lava's structural models against the same through the behavioural ones.

`python -m experiments.studies.structural RUN OTHER_RUN --output FILE`; exit code 1 if a bit differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from experiments.runs import run_folder
from experiments.runs.run_folder import write_text
from wage_neuro.train import State

KEPT = ("accuracy_last", "train_seconds", "network", "weights", "data_sha256", "config", "versions")


def same(one: State, other: State) -> bool:
    """Whether two states have the same stored weights, exponents and step."""
    weights = all(np.array_equal(a, b) for a, b in zip(one.S, other.S, strict=True))
    rest = ("error_held", "gradient_held", "seed", "step")
    return weights and all(getattr(one, name) == getattr(other, name) for name in rest)


def compare(structural: Path, behavioural: Path) -> dict[str, Any]:
    """What two finished runs say of themselves, and whether they ended in the same bits."""
    states = [run_folder.load(run).state for run in (structural, behavioural)]
    records = [json.loads((run / "record.json").read_text()) for run in (structural, behavioural)]
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(S).tobytes() for S in states[0].S)).hexdigest()
    told = [{name: record[name] for name in KEPT} for record in records]
    return {
        "structural": told[0],
        "behavioural": told[1],
        "equal": same(*states) and records[0]["config"] == records[1]["config"],
        "samples": states[0].step,
        "weights_sha256": digest,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare a structural run with a behavioural one.")
    parser.add_argument("structural", type=Path)
    parser.add_argument("behavioural", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="where to write the record")
    options = parser.parse_args()
    found = compare(options.structural, options.behavioural)
    write_text(options.output, json.dumps(found, indent=1) + "\n")
    print(f"equal: {found['equal']}")
    return int(not found["equal"])


if __name__ == "__main__":
    sys.exit(main())
