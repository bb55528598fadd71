"""Chain: several cores, each with some of a network's layers; the host carries spikes up and errors down.

Every core has random bits of its own, whose names do not tell cores apart, so the bits are those of one core.
One core at a time is at work: a chain is for networks that no single core has the memory for, not for speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mappings.hardware.rtl.driver import LEARNS, Bus, Driver
from mappings.hardware.rtl.shape import WHO, LayerShape
from wage_neuro.control import Control
from wage_neuro.errors import SettingError
from wage_neuro.train import State


def split(shapes: Sequence[LayerShape], cores: int) -> list[tuple[LayerShape, ...]]:
    """Return the layers of each core: of all cuts the one whose fullest core has the fewest bits of weights.

    Raises
    ------
    SettingError
        If there are not as many layers, or if the rules leave no way from core to core.
    """
    depth, rules = len(shapes), shapes[0].rules
    if not 1 <= cores <= depth:
        raise SettingError(f"cores={cores}: want 1..{depth}, a layer or more on each")
    if cores > 1:
        rules.require(f"{WHO} on several cores", pipelined=(False,), feedback=("transposed", "random"))
    bits = [shape.words * shape.lanes * shape.s_bits for shape in shapes]
    # best[i]: fullest core and cuts of the first i layers, on as many cores as the loop has reached
    best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, (0,))}
    for _ in range(cores):
        best = {
            end: min(
                (max(full, sum(bits[begin:end])), (*cuts, end))
                for begin, (full, cuts) in best.items()
                if begin < end
            )
            for end in range(1, depth + 1)
            if any(begin < end for begin in best)
        }
    return [tuple(shapes[a:b]) for a, b in pairwise(best[depth][1])]


class Chain:
    """Drivers of cores in a row, in the place of one; the first has the network's inputs.

    Parameters
    ----------
    buses : of the cores
    parts : layers of each, as of `split`
    """

    def __init__(self, buses: Sequence[Bus], parts: Sequence[Sequence[LayerShape]]) -> None:
        self.drivers = [Driver(bus, part) for bus, part in zip(buses, parts, strict=True)]
        self.samples = 0

    @property
    def cycles(self) -> int:
        """Clock cycles of all cores so far, where they are known."""
        return sum(driver.bus.cycles for driver in self.drivers)

    @property
    def sample_cycles(self) -> int:
        """Cycles in which one of the cores had a sample; the host's way between them is not in it."""
        return sum(driver.sample_cycles for driver in self.drivers)

    def learn(self, x: np.ndarray, label: int) -> np.ndarray:
        """Learn a sample, and return the logits it had before."""
        *lower, last = self.drivers
        for driver in lower:
            x = driver.pass_up(x, LEARNS)
        logits = last.learn(x, label)
        self.samples += 1
        for driver, above in zip(reversed(lower), reversed(self.drivers), strict=False):
            driver.hear(above.error_below())
        return logits

    def answer(self, x: np.ndarray) -> np.ndarray:
        """Return the (classes,) int64 logits of (n_in,) input codes."""
        *lower, last = self.drivers
        for driver in lower:
            x = driver.pass_up(x, 0)
        self.samples += 1
        return last.answer(x)

    def learn_all(self, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Learn (n, n_in) samples one after another; returns their (n, classes) logits."""
        return self._gathered([self.learn(a, label) for a, label in zip(x, labels.tolist(), strict=True)])

    def answer_all(self, x: np.ndarray) -> np.ndarray:
        """Return the (n, classes) logits of (n, n_in) samples."""
        return self._gathered([self.answer(a) for a in x])

    def _gathered(self, logits: list[np.ndarray]) -> np.ndarray:
        return np.array(logits, np.int64).reshape(-1, len(self.drivers[-1].logit_addresses))

    def set_control(self, control: int | Control) -> None:
        """Write step size and hold of each layer."""
        for driver in self.drivers:
            driver.set_control(control)

    def write_state(self, state: State) -> None:
        """Load each core's part."""
        for driver in self.drivers:
            driver.write_state(state)

    def read_state(self) -> State:
        """Read the parts back, and join them."""
        parts = [driver.read_state() for driver in self.drivers]
        return State.of(
            [S for part in parts for S in part.S],
            seed=parts[0].seed,
            step=parts[0].step,
            error_held=[held for part in parts for held in part.error_held],
            gradient_held=[held for part in parts for held in part.gradient_held],
        )

    def close(self) -> None:
        """Free what the buses hold."""
        for driver in self.drivers:
            driver.bus.close()
