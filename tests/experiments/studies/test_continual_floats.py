"""Float networks on a preset's stream: what they share with the integers, and that they learn."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

from experiments.continual.presets import PRESETS, Preset, config_of
from experiments.continual.table import FLOATS, continual_table, floats
from experiments.studies import continual_floats
from wage_neuro.errors import SettingError
from wage_neuro.memory import MemoryForm, Reservoir
from wage_neuro.network import Network

SMALL = {"stream": "split-digits", "memory": 50, "memory_bits": 2, "recalled": 3, "network": "24FC"}


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(continual_floats, "LEARNED", tmp_path / "runs" / "learned.jsonl")
    monkeypatch.setitem(PRESETS, "long", Preset("small", SMALL))


def test_a_row_is_chosen_on_validation_images_and_learns(tmp_path, monkeypatch):
    monkeypatch.setattr(continual_floats, "RESULT", tmp_path / FLOATS)
    monkeypatch.setattr(continual_floats, "HELD_OUT", 300)
    (tmp_path / FLOATS).write_text('[{"preset": "split-mnist-153k", "memory_bytes": 1, "ACC": [9.0]}]')
    continual_floats.main(["long"], seeds=2, rates="0.001,0.3")
    kept, new = sorted(json.loads((tmp_path / FLOATS).read_text()), key=lambda row: len(row))
    assert kept["preset"] == "split-mnist-153k"
    assert new["rate"] == 0.3
    assert new["validation"]["0.3"] > new["validation"]["0.001"]
    assert (
        new["memory_bytes"] == Reservoir.empty(50, (8, 8, 1), 10, 0, form=MemoryForm(bits=2)).bytes == 50 * 17
    )
    assert len(new["ACC"]) == 2
    assert min(new["ACC"]) > 60
    assert [point.bytes for point in floats(tmp_path)][-1] == 1
    assert continual_table(tmp_path).count("\n") == 1  # no record is there yet


def test_a_stopped_study_goes_on_behind_the_last_network(tmp_path, monkeypatch):
    monkeypatch.setattr(continual_floats, "RESULT", tmp_path / FLOATS)
    monkeypatch.setattr(continual_floats, "HELD_OUT", 300)
    learn, calls = continual_floats.learn, []

    def stopped(config, tasks, rate):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append((config.seed, rate))
        return learn(config, tasks, rate)

    monkeypatch.setattr(continual_floats, "learn", stopped)
    with pytest.raises(KeyboardInterrupt):
        continual_floats.main(["long"], seeds=1, rates="0.1,0.3")
    assert not (tmp_path / FLOATS).exists()
    monkeypatch.setattr(
        continual_floats, "learn", lambda *words: calls.append(words[0].seed) or learn(*words)
    )
    continual_floats.main(["long"], seeds=1, rates="0.1,0.3")
    assert calls == [(10, 0.1), (10, 0.3), 0]
    (row,) = json.loads((tmp_path / FLOATS).read_text())
    continual_floats.main(["long"], seeds=1, rates="0.1,0.3")  # all is there
    assert json.loads((tmp_path / FLOATS).read_text()) == [row]
    assert len(calls) == 3


def test_what_is_solved_has_no_float_row():
    with pytest.raises(SettingError, match="preset 'split-mnist-discriminant': nothing in it learns by SGD"):
        continual_floats.main(["split-mnist-discriminant"])


def test_the_float_model_has_the_layers_of_ours():
    specs = Network.parse("4C3-MP2-8C3-MP2-16FC", (8, 12, 1), 5).specs
    model = continual_floats._model(specs, (8, 12, 1))
    assert model(continual_floats._input(np.zeros((7, 8, 12, 1), np.uint8))).shape == (7, 5)
    kinds = [type(layer).__name__ for layer in model]
    assert kinds == [
        "Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "MaxPool2d", "Flatten", "Linear", "ReLU", "Linear",
    ]  # fmt: skip


def test_without_a_memory_the_old_tasks_are_forgotten():
    config = config_of("long")
    tasks = continual_floats.open_tasks(config)
    naive = type(config)(stream="split-digits", method="naive", memory=0, network="24FC")
    assert continual_floats.learn(naive, tasks, 0.3).accuracy < 30
    assert continual_floats.learn(naive, tasks, 0.3).bytes == 0


def test_a_preset_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(continual_floats, "RESULT", tmp_path / FLOATS)
    with pytest.raises(SettingError, match=r"^preset 'magic': want split-mnist-153k, "):
        continual_floats.main(["magic"])
