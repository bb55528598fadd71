"""The comparison with lava-nc's prototypes: both sides get the same features of the same images."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lava", reason="lava-nc is not installed")

from experiments.studies import clp
from mappings.lava_stock.clp import UNKNOWN, Answers, of_one_length


def test_both_sides_see_the_same(monkeypatch):
    seen = []

    def silent(x, labels, asked):
        seen.append((x, labels, asked))
        return Answers(np.where(np.arange(len(asked)) % 2, UNKNOWN, 0), (7, 9))

    monkeypatch.setattr(clp, "learn_and_answer", silent)
    record = clp.run(clp.Config(networks=("F", "30FC"), learned=12, asked=6))
    sides = [(row["features"], row["side"]) for row in record["rows"]]
    assert sides == [
        (network, side)
        for network in ("F", "30FC")
        for side in ("lava-nc proc/clp", "ours, same lengths", "ours")
    ]
    for network, (x, labels, asked) in zip((64, 30), seen, strict=True):
        assert (x.shape, asked.shape) == ((60, network), (30, network))
        assert [set(part) for part in labels.reshape(5, 12)] == [{2 * t, 2 * t + 1} for t in range(5)]
        lengths = np.sqrt((of_one_length(x).astype(float) ** 2).sum(axis=1))
        assert np.abs(lengths - 126).max() < 4
    lava, ours, _ = record["rows"][:3]
    assert (lava["prototypes after learning"], lava["prototypes after answering"]) == (7, 9)
    assert (lava["no answer"], lava["asked"], ours["no answer"]) == (15, 30, 0)
    assert lava["accuracy"] < 20
    assert ours["accuracy"] > 70
    assert 10 <= ours["prototypes after learning"] < 60
