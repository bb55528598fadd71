"""The comparators themselves: two different answers must not pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wage_neuro import Dense, Network, initial_state
from wage_neuro.train import Held

NETWORK = Network((Dense(3),), (4,))


def test_names_the_first_difference(assert_same_arrays):
    one = np.zeros((2, 3), int)
    other = one.copy()
    other[1, 2] = 5
    with pytest.raises(AssertionError, match=r"weights: 1 of 6 differ, first at \(1, 2\): 0 and 5"):
        assert_same_arrays(one, other, "weights")


@pytest.mark.parametrize("what", ["S", "error_held", "gradient_held", "step"])
def test_every_part_of_a_state_is_compared(assert_same_state, what):
    state = initial_state(NETWORK)
    assert_same_state(state, initial_state(NETWORK))
    changed = {"S": (state.S[0] + 1,), "error_held": (Held(3, 1),), "gradient_held": (Held(3, 1),), "step": 1}
    other = replace(state, step=1) if what == "step" else state.having(**{what: changed[what]})
    with pytest.raises(AssertionError):
        assert_same_state(state, other)
