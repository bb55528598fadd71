"""What the read-out shares with the host; beside it Lava executes the files, and no dataclass could be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Host:
    """What the read-out shares with the host, and hears from it.

    Parameters
    ----------
    logits : (ring batches, batch, classes) int64 in memory shared with the host
    windows, importance : an array a RefPort, likewise
    learned : samples that the network has learned so far
    former : whether a memory tells former logits, or outputs that samples spare
    """

    logits: np.ndarray
    windows: Sequence[np.ndarray]
    importance: Sequence[np.ndarray] = ()
    learned: int = 0
    former: bool = False
