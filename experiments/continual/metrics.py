"""What a continual learner is judged by, from the matrix R: R[i, j] is the accuracy on task j after task i.

`R` is (T, T), NaN where nothing was measured, which is never so in its last row; means over tasks, in the
unit of R.

>>> R = np.array([[0.9, 0.1, 0.0], [0.5, 0.8, 0.0], [0.6, 0.4, 0.7]])
>>> round(final_accuracy(R), 4), round(forgetting(R), 4), round(backward_transfer(R), 4)
(0.5667, 0.35, -0.35)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wage_neuro.fitting import as_frame

NEWEST = 5
"""Tasks of a long stream that its published figure is the mean of."""
NEWEST_ACC = f"ACC of the newest {NEWEST}"


def final_accuracy(R: np.ndarray) -> float:
    """ACC: mean accuracy over all tasks after the last one.

    Source: Lopez-Paz and Ranzato, arXiv:1706.08840.
    """
    return float(R[-1].mean())


def forgetting(R: np.ndarray) -> float:
    """Best accuracy before the last task minus the final one; the last task is left out, 0 for one task.

    The final row is no candidate for the best: it would hide forgetting. Source: Chaudhry et al.,
    arXiv:1801.10112.
    """
    return float((np.nanmax(R[:-1, :-1], axis=0) - R[-1, :-1]).mean()) if len(R) > 1 else 0.0


def backward_transfer(R: np.ndarray) -> float:
    """BWT: final accuracy minus that just after learning. Source: Lopez-Paz and Ranzato, arXiv:1706.08840."""
    return float((R[-1] - R.diagonal())[:-1].mean()) if len(R) > 1 else 0.0


def forward_transfer(R: np.ndarray, untrained: np.ndarray) -> float:
    """FWT: accuracy on a task just before it is learned minus that of the (T,) `untrained` network.

    It says nothing in the class-incremental scenario, where a class cannot be named before it was seen.
    Source: Lopez-Paz and Ranzato, arXiv:1706.08840.
    """
    return float((R.diagonal(1) - untrained[1:]).mean()) if len(R) > 1 else 0.0


def incremental_accuracy(R: np.ndarray) -> float:
    """Mean over i of the accuracy on tasks 0..i after task i. Source: Rebuffi et al., arXiv:1611.07725."""
    return float(np.mean([R[i, : i + 1].mean() for i in range(len(R))]))


def newest_accuracy(R: np.ndarray) -> float:
    """Mean accuracy over the newest tasks after the last one. Source: arXiv:2605.30198."""
    return float(R[-1, -NEWEST:].mean())


def matrix(rows: Sequence[Mapping[str, Any]], T: int) -> np.ndarray:
    """R of so many tasks, of joint training (1, T), from rows of accuracy.

    Raises
    ------
    ValueError
        If a task is not there, or not measured at the end.

    >>> accuracies = enumerate([(None, 0, 0.1), (0, 0, 0.5)])
    >>> matrix([dict(zip(("trained", "tested", "accuracy"), row)) for _, row in accuracies], 1)
    array([[0.5]])
    """
    known = [row for row in rows if row["trained"] is not None]
    trained = sorted({row["trained"] for row in known})
    if not known or max(row["tested"] for row in known) >= T or trained[-1] >= T:
        raise ValueError(f"accuracies of other tasks than its {T}, or of none")
    R = np.full((len(trained), T), np.nan)
    for row in known:
        R[trained.index(row["trained"]), row["tested"]] = row["accuracy"]
    if np.isnan(R[-1]).any() or len(R) not in (1, T):
        raise ValueError(
            f"accuracies after {len(R)} of {T} tasks, {np.isnan(R[-1]).sum()} missing at the end"
        )
    return R


def summary(R: np.ndarray, untrained: np.ndarray | None = None) -> dict[str, float]:
    """Every measure by its name, %; FWT where an untrained network's accuracies are given."""
    values = {
        "ACC": final_accuracy(R),
        "forgetting": forgetting(R),
        "BWT": backward_transfer(R),
        **({} if np.isnan(np.tril(R)).any() else {"average incremental accuracy": incremental_accuracy(R)}),
        **({NEWEST_ACC: newest_accuracy(R)} if len(R) > 2 * NEWEST else {}),
        **({"FWT": forward_transfer(R, untrained)} if untrained is not None else {}),
    }
    return {name: round(100 * value, 3) for name, value in values.items()}


def frame(R: np.ndarray, tasks: Sequence[str] | None = None) -> Any:
    """A row a pair of tasks, trained and tested, with the accuracy; a DataFrame where pandas is installed.

    >>> rows = frame(np.array([[0.9, 0.1], [0.5, 0.8]]), ["0 1", "2 3"])
    >>> [dict(row) for row in (rows if isinstance(rows, list) else rows.to_dict("records"))][2]
    {'trained': '2 3', 'tested': '0 1', 'accuracy': 0.5}
    """
    names = tasks or [str(i) for i in range(R.shape[1])]
    trained = names if len(R) == len(names) else ["all"] * len(R)
    return as_frame(
        [
            {"trained": trained[i], "tested": name, "accuracy": float(R[i, j])}
            for i in range(len(R))
            for j, name in enumerate(names)
        ]
    )
