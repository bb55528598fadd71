"""Records of continual runs, JSON lines: for each seed a row of what the run was, then one a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from experiments.continual import metrics
from experiments.records.names import mean_and_spread
from experiments.runs import calibration
from experiments.runs.forms import STREAM_ROWS
from wage_neuro.errors import DataError
from wage_neuro.fitting import as_frame
from wage_neuro.typed import checked, read_rows, reading

Row = dict[str, Any]


class _Row(TypedDict):
    kind: str


@dataclass(frozen=True)
class Record:
    """One setting, every seed.

    Attributes
    ----------
    runs : the rows of kind 'run', a seed each
    R : (seeds, T, T) accuracy on task j after task i, NaN where not measured; of joint training (seeds, 1, T)
    samples, anytime : (probes,), (seeds, probes) accuracy over the tasks so far against samples
    """

    runs: list[Row]
    R: np.ndarray
    samples: np.ndarray
    anytime: np.ndarray

    @property
    def tasks(self) -> list[str]:
        """Name of each task."""
        return self.runs[0]["tasks"]

    @property
    def title(self) -> str:
        """The setting in a few words."""
        config = self.runs[0]["config"]
        return f"{config['stream']}, {config['scenario']}-incremental, {self.method}"

    @property
    def method(self) -> str:
        """The method, its memory if it has one, and the bits by which it holds on to weights."""
        config = self.runs[0]["config"]
        words = [config["method"] + (f" {config['memory']:,}" if config["memory"] else "")]
        for name, method in (("metaplasticity", "metaplastic"), ("consolidation", "consolidation")):
            bits = config.get(name)  # records of before it was a setting have none
            if bits and config["method"] == method:
                words[0] += f" {bits}"
            elif bits:
                words.append(f"{name} {bits}")
        return ", ".join(words)

    @property
    def stream(self) -> str:
        """The stream and its scenario; of one that is not all of its data, its tasks."""
        head, config = self.runs[0], self.runs[0]["config"]
        words = f"{config['stream']}, {config['scenario']}"
        if self.is_whole:
            return words
        sizes, base = head["task_samples"], bool(config.get("base"))
        first = f"{sizes[0]:,} of {head['tasks'][0]}, then " if base else ""
        number = len(sizes) - base
        return f"{words}, {first}{number} task{'s' * (number > 1)} of {sizes[-1]:,}"

    @property
    def is_whole(self) -> bool:
        """Whether its tasks are all of the data, cut as usual."""
        config = self.runs[0]["config"]
        return config["tasks"] is None and not any(config.get(n) for n in ("task_images", "base", "shots"))

    @property
    def so_far(self) -> np.ndarray:
        """(seeds, T) mean accuracy over tasks 0..i after task i; (seeds, 1) over all of joint training."""
        T = self.R.shape[1]
        if T == 1:
            return self.R.mean(axis=2)
        return np.stack([np.nanmean(self.R[:, i, : i + 1], axis=1) for i in range(T)], axis=1)

    @property
    def all_measured(self) -> bool:
        """Whether every task was measured after every one."""
        return not np.isnan(self.R).any()

    @property
    def frame(self) -> Any:
        """A row a seed with its measures and its memory; a DataFrame where pandas is installed.

        The accuracies by pairs of tasks: `metrics.frame(record.R[seed], record.tasks)`.
        """
        names = (
            *("ACC", "forgetting", "BWT", "FWT", "average incremental accuracy"),
            *(*calibration.SHARES, "memory_bytes"),
        )
        return as_frame(
            [
                {
                    "seed": run["config"]["seed"],
                    "method": self.method,
                    **{n: run[n] for n in names if n in run},
                }
                for run in self.runs
            ]
        )

    def mean_and_spread(self, name: str) -> str:
        """A measure of `metrics`: mean over the seeds and standard deviation where there are several."""
        return mean_and_spread(run[name] for run in self.runs)


def read(path: Path) -> Record:
    """Read a record, or that of a run folder.

    Raises
    ------
    DataError
        If there is none, or it is no record of continual runs.
    """
    file = path / "record.jsonl" if path.is_dir() else path
    rows = read_rows(file, _Row, "record of continual runs", DataError)
    with reading(file, "record of continual runs", DataError):
        for i, row in enumerate(rows, start=1):
            if row["kind"] not in STREAM_ROWS:
                raise ValueError(f"line {i}.kind={row['kind']!r}: want {', '.join(STREAM_ROWS)}")
            checked(STREAM_ROWS[row["kind"]], row, f"line {i}")
        return record_of(rows)


def record_of(rows: Sequence[Row]) -> Record:
    """Gather the rows of every seed; ValueError if they are not as many as the runs say."""
    runs = [row for row in rows if row["kind"] == "run"]
    if not runs or not runs[0]["tasks"]:
        raise ValueError("no run in it, or one without tasks")
    T, seeds = len(runs[0]["tasks"]), len(runs)
    heads = [i for i, row in enumerate(rows) if row["kind"] == "run"]
    parts = [rows[a:b] for a, b in pairwise((*heads, len(rows)))]
    R = [metrics.matrix([row for row in part if row["kind"] == "accuracy"], T) for part in parts]
    probes = [row for row in rows if row["kind"] == "probe"]
    anytime = np.array([row["accuracy"] for row in probes]).reshape(seeds, -1)
    samples = np.array([row["samples"] for row in probes[: anytime.shape[1]]], int)
    record = Record(runs, np.stack(R), samples, anytime)
    for run, matrix in zip(runs, record.R, strict=True):
        if abs(run["ACC"] - 100 * metrics.final_accuracy(matrix)) > 0.001:
            raise ValueError(f"ACC {run['ACC']} is not that of its rows")
    return record
