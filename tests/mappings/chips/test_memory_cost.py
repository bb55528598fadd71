"""What a memory beside the network costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mappings.chips.chip import Chip
from mappings.chips.memory_cost import MemoryCost
from wage_neuro.memory import MemoryForm, Reservoir

LOIHI2 = Chip.load("loihi2")


@pytest.mark.parametrize(
    ("form", "recalled", "a_sample", "beside"),
    [({}, 1, 10, 0), ({"bits": 2}, 3, 4, 0), ({"bits": 1, "keep": "balanced"}, 7, 3, 90)],
)
def test_bytes_that_move_are_those_of_the_run(form, recalled, a_sample, beside):
    memory, labels = Reservoir.empty(20, (3, 3, 1), 10, seed=4, form=MemoryForm(**form)), np.arange(500) % 3
    kept = (memory.interleave(np.zeros((500, 3, 3, 1), np.uint8), labels, 1, recalled).kept >= 0).sum()
    cost = MemoryCost.of(memory, LOIHI2, 8, labels, recalled)
    assert (cost.samples, cost.bytes, cost.read) == (20, 20 * a_sample + beside, recalled * a_sample)
    assert cost.written == pytest.approx(a_sample * kept / 500)
    assert 20 < kept < 200
    assert memory.seen == 500


def test_cores_that_images_would_fill_as_synapses():
    memory = Reservoir.empty(2000, (28, 28, 1), 10, seed=0)
    # 12 lists of 64 synapses of 8 bits and one of 16, each with 10 bits of header in words of 64
    bits = 2000 * (12 * 576 + 192)
    stream = np.zeros(60_000, int)
    assert MemoryCost.of(memory, LOIHI2, 8, stream).synapse_cores == -(-bits // LOIHI2.core_memory) == 10
    few_axons = replace(LOIHI2, axons_in=100)
    assert MemoryCost.of(memory, few_axons, 8, stream).synapse_cores == 20
    one_bit = Reservoir.empty(2000, (28, 28, 1), 10, seed=0, form=MemoryForm(bits=1))
    assert MemoryCost.of(one_bit, LOIHI2, 8, stream).synapse_cores < 5
