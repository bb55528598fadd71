"""What run folders, records and studies hold, field by field: what is read is checked against these.

Fields that nothing reads may be there too.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Annotated, Any, TypedDict, TypeVar

from wage_neuro.errors import CheckpointError
from wage_neuro.typed import Count, Share, built

C = TypeVar("C")

Number = Annotated[float, (-1e15, 1e15)]
Counts = list[Count]


class ActivityForm(TypedDict):
    """Counts a sample, of each layer."""

    spikes: list[Number]
    errors: list[Number]
    updates: list[Number]


class _Epoch(TypedDict):
    epoch: Count
    samples: Count
    train_error: Share
    error: Share
    accuracy: Share
    seconds: Number


class Epoch(_Epoch, total=False):
    """A row of a learning curve."""

    activity: ActivityForm


class _TrainingConfig(TypedDict):
    data: str
    bits: str
    rules: dict[str, Any]


class TrainingConfig(_TrainingConfig, total=False):
    """Settings of a training run, as far as pictures and tables read them."""

    augment: str
    seed: Count


class TrainingRecord(TypedDict):
    """record.json of a training run."""

    config: TrainingConfig
    engine: str
    network: str
    measured_on: str
    accuracy_last: Share
    accuracy_best: Share
    curve: list[Epoch]


class ExperimentEpoch(TypedDict):
    """A row of the curve of an experiment's run."""

    error: Share


class _ExperimentConfig(TypedDict):
    data: str
    seed: Count


class ExperimentRecord(TypedDict):
    """A record of one of the paper's experiments."""

    experiment: str
    setting: str
    scale: str
    network: str
    measured_on: str
    config: _ExperimentConfig
    accuracy_last: Share
    accuracy_best: Share
    curve: list[ExperimentEpoch]


class SavedConfig(TypedDict, total=False):
    """Settings that a checkpoint may name, of a run or of an imported network."""

    data: str
    augment: str
    eta: str


class _Accuracy(TypedDict, total=False):
    accuracy: Share


class SavedProgress(TypedDict, total=False):
    """How far a checkpoint may say that it is."""

    epoch: Count
    place: Count
    curve: list[_Accuracy]


class Extra(TypedDict, total=False):
    """What a checkpoint may carry beside the network."""

    config: SavedConfig
    progress: SavedProgress
    stream: dict[str, Any]
    data_sha256: str | list[str]


def config_of(cls: type[C], values: dict[str, Any], newer: Collection[str]) -> C:
    """Build the settings of a run out of JSON, which may lack those that are `newer` than the run.

    Raises
    ------
    CheckpointError
        If others are missing, or some are not known.
    """
    known = {each.name for each in fields(cls)}  # type: ignore[arg-type]
    if not known - set(newer) <= set(values) <= known:
        raise CheckpointError(f"run settings {', '.join(sorted(values))}: want {', '.join(sorted(known))}")
    return built(cls, values, "config")


# --- continual learning ------------------------------------------------------------------------------


class Measured(TypedDict):
    """Accuracy on a task after another one, None before the first."""

    trained: Count | None
    tested: Count
    accuracy: Share


class Probe(TypedDict):
    """Accuracy over the tasks so far at a place of the stream."""

    samples: Count
    accuracy: Share


class _StreamConfig(TypedDict):
    stream: str
    scenario: str
    method: str
    memory: Count
    passes: Count


class StreamConfig(_StreamConfig, total=False):
    """Settings of a continual run, as far as pictures and tables read them."""

    metaplasticity: Count
    consolidation: Count


_StreamRun = TypedDict(
    "_StreamRun",
    {
        "config": StreamConfig,
        "tasks": list[str],
        "task id": str,
        "task boundaries": str,
        "measured_on": str,
        "network": str,
        "samples": Annotated[int, (1, 2**53)],
        "samples_learned": Annotated[int, (1, 2**53)],
        "task_samples": Counts,
        "memory_bytes": Count,
        "train_seconds": Number,
        "ACC": Number,
    },
)


class StreamRun(_StreamRun, total=False):
    """The row of a record that says what a run was; some engines count no updates."""

    weight_updates: Count


STREAM_ROWS: dict[str, Any] = {"run": StreamRun, "accuracy": Measured, "probe": Probe}


# --- transfer ----------------------------------------------------------------------------------------


class TransferHead(TypedDict):
    """The row of a record that says what a study is."""

    config: dict[str, Any]
    network: str
    measured_on: str
    training_images: Count
    classes: Annotated[int, (1, 2**31)]
    data_sha256: str
    engine: str


class TransferCell(TypedDict):
    """What the checkpoint of a learner says besides."""

    cell: dict[str, Any]
    seen: Count


class TransferRow(TypedDict):
    """The row of a record of one learner."""

    seed: Count
    examples: str
    learner: str
    accuracy: Share
