"""The cut between chips: every core has one place, no chip more than it holds, and fewer axons cross."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from mappings.chips import parts
from mappings.chips.chip import Chip
from mappings.chips.parts import axons_between_chips, cut_between_chips
from mappings.chips.placement import HOST, Use, place
from wage_neuro import Network
from wage_neuro.errors import EngineError

needs_metis = pytest.mark.skipif(
    find_spec("pymetis") is None, reason='no pymetis: pip install "wage-neuro[chips]"'
)
LOIHI = Chip.load("loihi2")
NARROW = replace(LOIHI, cores=3, core_neurons=300)
NETWORKS = [("32C3-32C3-MP2-64C3-MP2-128FC", (32, 32, 3)), ("600FC-600FC-600FC", (28, 28, 1))]


def counted(placement):
    """Axons between chips, one edge after another."""
    total = 0
    edges = placement.edges
    for source, target, count in zip(edges.source, edges.target, edges.count, strict=True):
        if HOST not in (source, target):
            chips = {int(placement.core[piece]) // placement.chip.cores for piece in (source, target)}
            total += int(count) * (len(chips) == 2)
    return total


@needs_metis
@pytest.mark.parametrize(("name", "shape"), NETWORKS)
@pytest.mark.parametrize("training", [False, True])
def test_cut(name, shape, training):
    if training and "C" in name:
        shape = (16, 16, 3)
    before = place(Network.parse(name, shape, 10), NARROW, Use(training=training))
    assert before.chips > 1
    after = cut_between_chips(before)
    assert (after.chips, after.cores) == (before.chips, before.cores)
    assert max(Counter((np.unique(after.core) // NARROW.cores).tolist()).values()) <= NARROW.cores
    # the same pieces share a core
    assert len(set(zip(before.core.tolist(), after.core.tolist(), strict=True))) == before.cores
    assert axons_between_chips(after) == counted(after) <= counted(before) == axons_between_chips(before)
    x, y = after.xy(after.core)
    assert len(set(zip(x.tolist(), y.tolist(), strict=True))) <= after.cores
    for resource, used in after.core_resources.items():
        assert used.max() <= after.limit(resource)
        assert used.sum() == before.core_resources[resource].sum()


@needs_metis
def test_fewer_axons_of_the_vgg_leave_their_chip():
    before = place(Network.parse("vgg", (32, 32, 3), 10), LOIHI, Use())
    after = cut_between_chips(before)
    assert before.chips == after.chips == 6
    assert axons_between_chips(after) < 0.7 * axons_between_chips(before)


def test_one_chip_needs_no_cut(monkeypatch):
    monkeypatch.setattr(parts, "import_module", lambda name: 1 / 0)
    one = place(Network.parse("64FC", (28, 28, 1), 10), LOIHI, Use())
    assert cut_between_chips(one) is one


def test_without_metis(monkeypatch):
    def gone(name):
        raise ImportError("No module named 'pymetis'")

    monkeypatch.setattr(parts, "import_module", gone)
    several = place(Network.parse(*NETWORKS[1], 10), NARROW, Use())
    with pytest.raises(EngineError) as error:
        cut_between_chips(several)
    assert str(error.value) == (
        "cut of chips: No module named 'pymetis'; it needs pip install \"wage-neuro[chips]\""
    )


@needs_metis
def test_a_chip_that_gets_too_much_passes_cores_on():
    placement = place(Network.parse(*NETWORKS[1], 10), NARROW, Use())
    found = parts._numbered(np.zeros(placement.cores, int), placement)
    assert len(set(found.tolist())) == placement.cores
    assert max(Counter((found // NARROW.cores).tolist()).values()) <= NARROW.cores
