"""When each message of a batch arrives, in time steps: one step a hop.

A batch of M * lanes samples enters as M micro-steps. Layer i gets micro-step j forward at step j + i and
its error at step j + 2 L - i; the read-out sits at j + L. A batch takes M + 2 L steps when it is learned
and M + L when it is only answered; weights change in the learning phase of the last step.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Time steps of one batch; M micro-steps through L layers.

    >>> s = Schedule(layers=2, micro_steps=1)
    >>> s.steps(learning=True), s.steps(learning=False)
    (5, 3)
    >>> [s.forward(1, t) for t in range(5)], [s.error(1, t) for t in range(5)]
    ([None, 0, None, None, None], [None, None, None, 0, None])
    """

    layers: int
    micro_steps: int

    def steps(self, learning: bool) -> int:
        """Steps from the first sample in to the last message out."""
        return self.micro_steps + self.layers * (2 if learning else 1)

    def forward(self, layer: int, t: int) -> int | None:
        """Micro-step that arrives at a layer (the read-out is layer L) at step t of a batch."""
        return self._micro_step(t - layer)

    def error(self, layer: int, t: int) -> int | None:
        """Micro-step whose error arrives at a layer at step t of a batch."""
        return self._micro_step(t - 2 * self.layers + layer)

    def _micro_step(self, j: int) -> int | None:
        return j if 0 <= j < self.micro_steps else None
