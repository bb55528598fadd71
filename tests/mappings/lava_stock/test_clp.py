"""lava-nc's continually learning prototypes as we wire them: what they tell apart, name, and call unknown."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lava", reason="lava-nc is not installed")

from mappings.lava_stock.clp import LENGTH, UNKNOWN, learn_and_answer, of_one_length
from wage_neuro.errors import DataError
from wage_neuro.prototypes import Prototypes


def test_novelty_error_and_answer_on_a_small_stream():
    """Two samples nothing is like, one that resembles the first and is another class; then one is unknown."""
    x = np.zeros((4, 12), np.int8)
    x[0, :4], x[1, 4:8], x[3, 8:] = 100, 100, 100
    x[2, :4] = 100, 100, 20, 20
    labels = np.array([0, 1, 2])
    found = learn_and_answer(x[:3], labels, x[[2, 1, 0, 3]])
    assert found.labels.tolist() == [2, 1, 0, UNKNOWN]
    # what it does not know allots a prototype even when it is only asked
    assert found.prototypes == (3, 4)
    ours = Prototypes.empty(4, 12, np.int8, seed=0)
    ours.learn(of_one_length(x[:3]).astype(np.int8), labels)
    answers = ours.logits(of_one_length(x[[2, 1, 0]]).astype(np.int8), 3).argmax(axis=1)
    assert answers.tolist() == found.labels[:3].tolist()
    assert ours.count == 3


def test_samples_of_one_length():
    x = np.array([[3, 4, 0], [0, 100, 0], [1, 0, 0]], np.int8)
    assert of_one_length(x).tolist() == [[76, 101, 0], [0, LENGTH, 0], [LENGTH, 0, 0]]
    with pytest.raises(DataError, match="a sample without any feature"):
        of_one_length(np.zeros((1, 3), np.int8))
