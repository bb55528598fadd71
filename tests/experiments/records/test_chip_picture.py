"""The map shows the cores in use, every message between them, and the same as SVG."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from experiments.commands.chip_map import Report
from experiments.records import chip_geometry as geometry
from experiments.records.chip_picture import LINES, arcs
from experiments.records.readme import RESULTS
from mappings.chips.placement import HOST

MAPS = sorted((RESULTS / "chip").glob("mnist-*/*.json"))


def placed(name: str) -> Report:
    return Report.from_json(json.loads((RESULTS / "chip" / f"{name}.json").read_text()))


@pytest.fixture(scope="module")
def learning() -> Report:
    return placed("mnist-512/map-loihi2-training")


@pytest.mark.parametrize("path", MAPS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_message_between_cores_is_in_a_line(path):
    report = Report.from_json(json.loads(path.read_text()))
    placement, cost = report.placement, report.cost
    edges, wanted = placement.edges, {}
    for link, source, target, n in zip(
        edges.link, edges.source, edges.target, cost.edge_messages, strict=True
    ):
        if HOST in (source, target) or placement.core[source] == placement.core[target] or not n:
            continue
        errors = link >= 0 and placement.links[link].role in ("loss", "feedback", "third factor")
        key = int(placement.core[source]), int(placement.core[target]), bool(errors)
        wanted[key] = wanted.get(key, 0.0) + n
    traffic = geometry.between_cores(placement, cost)
    found = zip(traffic.source, traffic.target, traffic.errors, traffic.messages, strict=True)
    assert {(int(a), int(b), bool(e)): n for a, b, e, n in found} == pytest.approx(wanted)
    assert (np.diff(traffic.messages) <= 0).all()


def test_only_learning_sends_errors(learning):
    assert geometry.between_cores(learning.placement, learning.cost).errors.any()
    answering = placed("mnist-512/map-loihi2-inference")
    assert not geometry.between_cores(answering.placement, answering.cost).errors.any()


def test_many_cores_are_summed_by_layer():
    report = placed("cifar-10-vgg/map-loihi2-inference")
    placement, cost = report.placement, report.cost
    assert len(geometry.between_cores(placement, cost).messages) > LINES
    layers = geometry.between_populations(placement, cost)
    assert (layers.target == layers.source + 1).all()  # a chain
    assert len(layers.source) == len(placement.populations) - 2


def test_the_window_holds_the_cores_in_use_and_little_more(learning):
    placement = learning.placement
    window = geometry.Window.of(placement)
    assert window.holds(*placement.xy(placement.core)).all()
    assert (window.left, window.top, window.right, window.bottom) == (0, 0, 7, 2)
    assert len(geometry.shown_cores(placement, window)) == 14
    far = replace(placement, core=np.full_like(placement.core, placement.chip.cores - 1))
    window = geometry.Window.of(far)
    assert window.holds(*far.xy(far.core)).all()
    assert (window.width, window.height) == (2, 2)


def test_an_arc_leans_to_the_left_and_stays_in_its_row():
    there, back = arcs(np.array([[0.0, 0.0], [9.0, 0.0]]), np.array([[9.0, 0.0], [0.0, 0.0]]), 0.46)
    assert np.allclose(there[[0, -1]], [[0, 0], [9, 0]])
    assert np.allclose(back[[0, -1]], [[9, 0], [0, 0]])
    assert (there[1:-1, 1] < 0).all()
    assert (back[1:-1, 1] > 0).all()
    assert np.abs([there, back])[..., 1].max() < 0.5


def test_the_svg_says_what_the_picture_says(learning, tmp_path):
    learning.draw(tmp_path / "map.png")
    root = ET.parse(tmp_path / "map.svg").getroot()
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert learning.title in words
    assert {"0", "1", "2", "3", "4", "5"} <= set(words)  # the cores
    assert {"activations", "errors", "messages between cores, 14 pairs, wider for more"} <= set(words)


def test_roles_differ_without_colour():
    looks = {geometry.HATCH.get(role) for role in geometry.LIGHTNESS}
    assert len(looks) == len(geometry.LIGHTNESS)
