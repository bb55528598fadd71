"""The comparison itself: a difference is told with its engines, step, layer and place."""

from __future__ import annotations

import re

import pytest

from experiments.benchmarks.agreement import MODES, NETWORKS
from wage_neuro import NumpyEngine


class Wrong(NumpyEngine):
    """The numpy engine, but for one stored weight, or one logit, from some update on."""

    name = "wrong"
    what = "weight"

    def learn(self, images, labels, control):
        logits = super().learn(images, labels, control)
        if self.what == "logit":
            logits[40, 2] += 1
        else:
            S = [each.copy() for each in self.state.S]
            S[1][3, 2] ^= 1
            self._learner.go_on_from(self.state.having(S=S))
        return logits


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "weight",
            "numpy and wrong, after step 5: stored weights of layer 1: 1 of 120 differ, first at (3, 2): ",
        ),
        (
            "logit",
            "numpy and wrong, step 2, last layer: logits in training: 1 of 480 differ, first at (40, 2): ",
        ),
    ],
)
def test_a_difference_is_named(what, message, assert_agree, monkeypatch):
    monkeypatch.setattr(Wrong, "what", what)
    with pytest.raises(AssertionError, match=f"^{re.escape(message)}"):
        assert_agree(Wrong, NETWORKS["dense"], MODES["paper"])
