"""The raster's values are those that Brian2's neurons send, at the same time steps; the picture is drawn."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.commands import raster
from experiments.runs.training import Run
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules
from wage_neuro.train import Held

NETWORK = Network((Conv(4, 3), MaxPool(2), Flatten(), Dense(12), Dense(5)), (6, 6, 1))


@pytest.mark.parametrize("shift", ["batch", "held"])
def test_is_what_brian2_sends(shift, sparse_images, assert_same_arrays):
    b2 = pytest.importorskip("brian2", reason="brian2 is an optional extra")
    from mappings.engines.brian2.engine import Brian2Engine

    rules = Rules(batch=1, shift=shift)
    images, labels = sparse_images(31, (6, 6, 1), 5)
    oracle = NumpyEngine(NETWORK, rules)
    oracle.train(images[:30], labels[:30], 3)
    activity = raster.record(NETWORK, oracle.state, rules, images[30], int(labels[30]))
    with Brian2Engine(NETWORK, rules, state=oracle.state) as engine:
        simulation, stepper = engine.simulation, engine.simulation.stepper
        sent = {(volley.step, volley.band, volley.is_error): None for volley in activity.volleys}
        groups = [simulation.inputs, *(part.neurons for part in simulation.layers)]
        advance = stepper.advance

        def and_look() -> None:
            advance()
            step = int(stepper.clock.timestep[:].item()) - 1
            for band, group in enumerate(groups):
                for event, name in (("activation", "A"), ("error", "E")):
                    if event in group.events:
                        space = group.variables[f"_{event}space"].get_value()
                        values = np.zeros(group.N, int)
                        spikes = space[: space[-1]]
                        values[spikes] = np.asarray(getattr(group, name)[:])[spikes]
                        if len(spikes):
                            sent[step, band, event == "error"] = values

        stepper.advance = and_look
        logits = engine.train(images[30:], labels[30:], 0)
    assert_same_arrays(activity.logits, logits[0], "logits")
    assert b2.defaultclock.t == 0 * b2.second
    assert activity.steps == 2 * len(NETWORK.layers) + 1
    for volley in activity.volleys:
        values = sent.pop((volley.step, volley.band, volley.is_error))
        if volley.band == len(NETWORK.layers) and not volley.is_error:
            continue  # the read-out looks at the last layer's products: it sends no spikes forward
        assert values is not None, f"step {volley.step}, band {volley.band}"
        assert_same_arrays(volley.values.ravel(), values, f"step {volley.step}, band {volley.band}")
    assert sent == {}


def test_nothing_held_yet_sends_no_error(sparse_images):
    rules = Rules(batch=4, shift="held")
    images, labels = sparse_images(1, (6, 6, 1), 5)
    state = NumpyEngine(NETWORK, rules).state
    assert state.error_held[0] == Held()
    activity = raster.record(NETWORK, state, rules, images[0], int(labels[0]))
    assert [v.is_error for v in activity.volleys] == [False] * 4 + [True] * 3
    assert not any(v.values.any() for v in activity.volleys if v.is_error)
    assert activity.no_error == "no exponent\nis held yet"


def test_a_sample_that_the_margin_skips_says_so(sparse_images):
    """Of 40 samples that a trained network gets right, some lead by an eighth of the target, some do not."""
    rules = Rules(batch=4, margin=1)
    images, labels = sparse_images(40, (6, 6, 1), 5)
    engine = NumpyEngine(NETWORK, rules)
    for _ in range(30):
        engine.train(images, labels, 2)
    activities = [
        raster.record(NETWORK, engine.state, rules, image, label)
        for image, label in zip(images, labels.tolist(), strict=True)
    ]
    for activity in activities:
        silent = not any(v.values.any() for v in activity.volleys if v.is_error)
        assert activity.no_error == ("the right output\nleads by the margin" if silent else "")
    assert {bool(activity.no_error) for activity in activities} == {True, False}


def test_a_large_layer_shows_the_strongest_of_each_group():
    values = np.zeros((1, raster.ROWS, 3), int)
    values[0, 5, 0], values[0, 4, 0], values[0, 299, 2] = -9, 3, 7
    rows = raster._rows(values)
    assert len(rows) == raster.ROWS
    assert (rows[1], rows[-1], np.count_nonzero(rows)) == (-9, 7, 2)


@pytest.fixture
def folder(helpers, tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    helpers.fit(Run.start(replace(helpers.small(), epochs=1), path))
    return path


def test_the_command(folder, wage_neuro, tmp_path):
    from matplotlib.image import imread

    ended = wage_neuro("raster", folder, "--sample", 7, "--output", tmp_path / "seven.png")
    assert (ended.code, ended.err) == (0, "")
    picture = imread(tmp_path / "seven.png")
    assert min(picture.shape[:2]) > 500
    red, blue, green = picture[..., 0], picture[..., 2], picture[..., 1]
    assert ((green > red + 0.2) & (green > blue + 0.2)).any(), "no activation is drawn"
    assert (red > blue + 0.4).any(), "no positive error is drawn"
    assert (blue > red + 0.4).any(), "no negative error is drawn"


def test_the_values_make_the_same_picture(folder, wage_neuro, tmp_path):
    words = ("raster", folder, "--sample", 7, "--output", tmp_path / "a.png", "--values", tmp_path / "a.json")
    ended = wage_neuro(*words)
    assert (ended.code, ended.err) == (0, "")
    kept = json.loads((tmp_path / "a.json").read_text())
    raster.draw(tmp_path / "b.png", raster.Activity.from_json(kept), kept["title"])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    values = kept["volleys"][-2]["values"]  # of a dense layer
    values[0] = 99 if values[0] <= 0 else -99
    raster.draw(tmp_path / "b.png", raster.Activity.from_json(kept), kept["title"])
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("sample", [-1, 100_000])
def test_a_sample_that_does_not_exist(folder, wage_neuro, sample, tmp_path):
    ended = wage_neuro("raster", folder, "--sample", sample, "--output", tmp_path / "none.png")
    assert ended.code == 1
    assert ended.err.startswith(f"wage-neuro: --sample {sample}: want 0..")
    assert not (tmp_path / "none.png").exists()
