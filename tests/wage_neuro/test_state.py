"""What a network keeps beside its weights, as the rules have it."""

from __future__ import annotations

import numpy as np
import pytest

from wage_neuro import Network, Rules, initial_state
from wage_neuro.errors import SettingError
from wage_neuro.state import Held, as_ruled, consolidated, kept_of

NET = Network.parse("4FC", (6,), 3)
KEEPS = {
    "importance": Rules(batch=1, shift="held", update="ternary", consolidation=3),
    "momentum": Rules(momentum=3),
}
REFUSALS = {
    "importance": r"^consolidation=0: the state has synapses of importance, want 1 or more$",
    "momentum": r"^momentum=0: the state has weights in motion, want 1 or more$",
}


@pytest.mark.parametrize("name", KEEPS)
def test_what_a_rule_keeps_begins_new_and_stays(name):
    begin = initial_state(NET)
    assert getattr(begin, name) is None
    state = as_ruled(NET, begin, KEEPS[name])
    kept = getattr(state, name)
    assert [each.shape[-2:] for each in kept] == [(6, 4), (4, 3)]
    assert not any(each.any() for each in kept)
    marked = state.having(**{name: [each + 1 for each in kept]})
    assert all(
        np.array_equal(a, b)
        for a, b in zip(
            kept_of(NET, marked, KEEPS[name], name), marked and getattr(marked, name), strict=True
        )
    )
    assert getattr(as_ruled(NET, marked, KEEPS[name]), name)[0].all()
    with pytest.raises(SettingError, match=REFUSALS[name]):
        as_ruled(NET, marked, Rules())
    other = ({*KEEPS} - {name}).pop()
    assert getattr(state, other) is None


def test_a_state_with_others_of_each_layer():
    begin = initial_state(NET)
    made = begin.having(error_held=(Held(3), Held(5, 1)), S=[S + 1 for S in begin.S])
    assert made.error_held == (Held(3), Held(5, 1))
    assert all(np.array_equal(a, b + 1) for a, b in zip(made.S, begin.S, strict=True))
    assert begin.error_held == (Held(), Held())
    with pytest.raises(ValueError, match="zip"):
        begin.having(error_held=(Held(3),))


def test_what_keeps_no_importance_cannot_be_consolidated():
    with pytest.raises(SettingError, match=r"^consolidation=0: no importance is kept, want 1 or more$"):
        consolidated(NET, initial_state(NET), 10, Rules())
