"""Runs by patterns with real numbers: same data as the integers', exact resume, damaged files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra wage-neuro[torch]")

from experiments.commands.presets import EXPERIMENTS, Means, Scale, do, do_all, jobs
from experiments.runs.training import Run
from experiments.studies.float_run import FloatRun
from mappings.engines.torch import floats as float_torch
from wage_neuro.errors import CheckpointError


def _arrays(run):
    return run.saved.state.arrays


@pytest.mark.parametrize(("bits", "eta"), [("28ff", "8"), ("vanilla", "1/8, 1/64@2")])
def test_resume_gives_the_same_bits(bits, eta, helpers, tmp_path, assert_same_arrays):
    config = helpers.small(bits=bits, eta=eta, augment="crop1")
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = helpers.fit(FloatRun.start(config, tmp_path / "whole"))
    helpers.fit(FloatRun.start(config, tmp_path / "parts"), stop=(1, 96))
    parts = FloatRun.resume(tmp_path / "parts")
    assert (parts.progress.epoch, parts.progress.batch > 0) == (1, True)
    helpers.fit(parts)
    assert helpers.without_seconds(parts.progress.curve) == helpers.without_seconds(whole.progress.curve)
    for name, array in _arrays(whole).items():
        assert_same_arrays(array, _arrays(parts)[name], name)
    assert whole.progress.curve[-1]["error"] < 0.8  # it learns
    assert (tmp_path / "whole" / "curve.png").stat().st_size > 10_000


def test_the_data_is_that_of_the_integers(helpers, tmp_path, monkeypatch, assert_same_arrays):
    """Both engines are given the same images in the same order, and begin with the same weights."""
    seen: dict[str, list] = {"integers": [], "real": []}

    def watch(kind, run):
        engine = run.engine("numpy")
        train = engine.train

        def recorded(images, labels, control):
            seen[kind].append((images, labels, control))
            return train(images, labels, control)

        monkeypatch.setattr(engine, "train", recorded)
        run.fit(engine)

    config = helpers.small(epochs=2, augment="crop1")
    for kind, run_class, bits in (("integers", Run, "2888"), ("real", FloatRun, "28f8")):
        (tmp_path / kind).mkdir()
        run = run_class.start(replace(config, bits=bits), tmp_path / kind)
        if kind == "integers":
            begin = run.saved.state.S
        else:
            for i, S in enumerate(begin):
                assert_same_arrays((S / 128).astype(np.float32), _arrays(run)[f"W{i}"], f"layer {i}")
        watch(kind, run)
    one, other = (
        [np.concatenate([call[place] for call in calls]) for place in (0, 1)] for calls in seen.values()
    )
    assert len(one[0]) == 2 * 384
    for a, b in zip(one, other, strict=True):
        assert_same_arrays(a, b, "data")


def test_a_sweep_of_patterns(helpers, tmp_path, monkeypatch):
    """Integers and real numbers side by side; what is finished is not run again."""
    small = helpers.small(epochs=1)
    monkeypatch.setitem(EXPERIMENTS, "small", {bits: replace(small, bits=bits) for bits in ("2888", "28ff")})
    work = jobs("small", Scale(), [0], tmp_path)
    assert [job.kind for job in work] == [Run, FloatRun]
    assert do_all(work, Means(), lambda job, ended: None)
    assert [job.record()["engine"] for job in work] == ["numpy", "torch float32"]
    assert work[1].record()["config"]["bits"] == "28ff"
    assert work[1].record()["versions"]["torch"]
    monkeypatch.setattr(float_torch.FloatEngine, "train", None)
    assert do(work[1], Means())


@pytest.fixture
def finished(helpers, tmp_path):
    helpers.fit(FloatRun.start(helpers.small(bits="28ff", epochs=1), tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(format="float-2"), "checkpoint format 'float-2'; this version reads 'float-1'$"),
        (lambda h: h.update(pattern="28xx"), "damaged checkpoint .*pattern '28xx': want"),
        (lambda h: h.update(pattern="vanilla"), "damaged checkpoint .*want those of vanilla"),
        (lambda h: h.update(network="F-6FC-10FC"), "damaged checkpoint .*want those of 28ff"),
        (lambda h: h.__delitem__("seed"), "damaged checkpoint .seed: is missing"),
        (lambda h: h.update(step=-1), "damaged checkpoint .step=-1: want 0"),
    ],
)
def test_a_damaged_checkpoint(change, message, finished, helpers):
    helpers.tamper(finished / "checkpoint.npz", change)
    with pytest.raises(CheckpointError, match=message):
        FloatRun.resume(finished)


def test_the_integers_command_says_what_it_is(finished, wage_neuro):
    ended = wage_neuro("evaluate", finished)
    assert ended.err.endswith("checkpoint format 'float-1'; this version reads 1\n")
    assert json.loads((finished / "metrics.jsonl").read_text())["accuracy"] > 0
