"""What a memory beside the network costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mappings.chips.chip import Chip
from mappings.chips.memory_cost import MemoryCost
from wage_neuro.memory import Reservoir

LOIHI2 = Chip.load("loihi2")


def test_bytes_that_move_are_those_of_the_run():
    memory = Reservoir.empty(20, (3, 3, 1), 10, seed=4)
    cost = MemoryCost.of(memory, LOIHI2, 8, 500)
    images = np.zeros((500, 3, 3, 1), np.uint8)
    kept = (memory.interleave(images, np.zeros(500, int), 1).kept >= 0).sum()
    assert (cost.samples, cost.bytes, cost.read) == (20, 200, 10)
    assert cost.written == pytest.approx(10 * kept / 500)


def test_cores_that_images_would_fill_as_synapses():
    memory = Reservoir.empty(2000, (28, 28, 1), 10, seed=0)
    # 12 lists of 64 synapses of 8 bits and one of 16, each with 10 bits of header in words of 64
    bits = 2000 * (12 * 576 + 192)
    assert MemoryCost.of(memory, LOIHI2, 8, 60_000).synapse_cores == -(-bits // LOIHI2.core_memory) == 10
    few_axons = replace(LOIHI2, axons_in=100)
    assert MemoryCost.of(memory, few_axons, 8, 60_000).synapse_cores == 20
