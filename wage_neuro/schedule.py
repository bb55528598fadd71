"""When each message of a batch arrives, in time steps: one step a hop.

A batch of M * lanes samples enters as M micro-steps. Layer i gets micro-step j forward at step j + i; the
read-out sits at j + L. The error comes down the layers and reaches layer i at step j + 2 L - i; direct
feedback takes it from the last layer, at j + L + 1, to all others at j + L + 2. Weights that learn once a
batch change in the learning phase of its last step.
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
    >>> Schedule(layers=5, micro_steps=1).steps(learning=True)
    11
    >>> Schedule(layers=5, micro_steps=1, direct=True).steps(learning=True)
    8
    """

    layers: int
    micro_steps: int
    direct: bool = False

    def steps(self, learning: bool) -> int:
        """Steps from the first sample in to the last message out."""
        last = self.error_delay(0) if learning else self.layers
        return self.micro_steps + last

    def error_delay(self, layer: int) -> int:
        """Steps from a sample's entry to the arrival of its error at a layer."""
        if self.direct:
            return self.layers + (1 if layer == self.layers - 1 else 2)
        return 2 * self.layers - layer

    def forward(self, layer: int, t: int) -> int | None:
        """Micro-step that arrives at a layer (the read-out is layer L) at step t of a batch."""
        return self._micro_step(t - layer)

    def error(self, layer: int, t: int) -> int | None:
        """Micro-step whose error arrives at a layer at step t of a batch."""
        return self._micro_step(t - self.error_delay(layer))

    def _micro_step(self, j: int) -> int | None:
        return j if 0 <= j < self.micro_steps else None
