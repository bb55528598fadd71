"""Training in Python: `fit` with callbacks, `load`, and what both do without pandas."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import wage_neuro
from wage_neuro import Network, NumpyEngine, Rules, checkpoint, fitting
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import CheckpointError, SettingError
from wage_neuro.random_bits import permutation

NETWORK = Network.parse("16FC", (16,), classes=3)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 70)
    images = rng.integers(0, 60, (70, 16)).astype(np.uint8)
    images[np.arange(70), labels] = 255
    return images, labels


@pytest.fixture
def engine():
    with NumpyEngine(NETWORK, Rules(batch=16), seed=5) as engine:
        yield engine


def rows_of(metrics):
    return metrics if isinstance(metrics, list) else metrics.to_dict("records")


def test_fit_is_whole_batches_in_the_order_of_each_epoch(engine, data, assert_same_state):
    images, labels = data
    rows = rows_of(wage_neuro.fit(engine, images, labels, epochs=3, eta="8, 1@2", held_out=data))
    with NumpyEngine(NETWORK, Rules(batch=16), seed=5) as other:
        for epoch, log2_eta in enumerate((3, 3, 0)):
            order = permutation(5, epoch, 70)[:64]
            logits = other.train(images[order], labels[order], log2_eta)
            error = (other.predict(images).argmax(axis=1) != labels).sum() / 70
            row = rows[epoch]
            assert (row["epoch"], row["eta"], row["samples"]) == (epoch, 2.0**log2_eta, 64)
            assert row["train_error"] == (logits.argmax(axis=1) != labels[order]).sum() / 64
            assert (row["error"], row["accuracy"]) == (error, 1 - error)
    assert_same_state(engine.state, other.state)


def test_fit_in_two_parts_is_fit_in_one(engine, data, assert_same_state):
    for epochs in (1, 2):
        rows = rows_of(wage_neuro.fit(engine, *data, epochs=epochs, eta="8, 1@2"))
    assert [row["epoch"] for row in rows] == [1, 2]
    assert "error" not in rows[0]
    with NumpyEngine(NETWORK, Rules(batch=16), seed=5) as other:
        wage_neuro.fit(other, *data, epochs=3, eta="8, 1@2")
    assert_same_state(engine.state, other.state)


@pytest.mark.parametrize(("batch", "pipelined"), [(1, False), (16, True)])
def test_the_epoch_of_learners_of_single_samples(batch, pipelined, data):
    rules = Rules(batch=batch, shift="held", pipelined=pipelined)
    with NumpyEngine(NETWORK, rules) as engine:
        for epoch in range(3):
            assert [row["epoch"] for row in rows_of(wage_neuro.fit(engine, *data, epochs=1))] == [epoch]


def seen(*errors):
    return fitting.Seen(SimpleNamespace(), [{"error": error} for error in errors])


def test_stop_early_waits_for_its_patience():
    look = wage_neuro.stop_early(2)
    assert not look(seen(0.5))
    assert not look(seen(0.5, 0.4, 0.4))
    assert look(seen(0.5, 0.4, 0.4, 0.4))
    assert not look(seen(0.5, 0.4, 0.4, 0.3))
    message = r"^metric 'loss': want error; held_out measures error$"
    with pytest.raises(SettingError, match=message):
        wage_neuro.stop_early(2, "loss")(seen(0.5))


def test_a_callback_ends_the_training_and_all_are_called(engine, data):
    called = []

    def at_second(seen):
        called.append(len(seen.rows))
        return len(seen.rows) == 2

    rows = wage_neuro.fit(engine, *data, epochs=9, callbacks=[at_second, lambda seen: called.append("b")])
    assert len(rows) == 2
    assert called == [1, "b", 2, "b"]


def test_save_best_keeps_the_first_best(engine, data, tmp_path, assert_same_state):
    states, path = [], tmp_path / "best.npz"
    errors = iter((0.5, 0.3, 0.3, 0.4))

    def keep(seen):
        states.append(engine.state)
        seen.rows[-1]["error"] = next(errors)

    wage_neuro.fit(engine, *data, epochs=4, callbacks=[keep, wage_neuro.save_best(path)])
    best = wage_neuro.load(path)
    assert_same_state(best.state, states[1])
    assert [row["error"] for row in rows_of(best.metrics)] == [0.5, 0.3]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"epochs": 0}, "epochs=0: want 1 or more"),
        ({"eta": "3"}, "eta=3: want a power of two"),
    ],
)
def test_what_fit_refuses(more, message, engine, data):
    with pytest.raises(SettingError, match=message):
        wage_neuro.fit(engine, *data, **more)
    with pytest.raises(SettingError, match=r"^batch=16: there are only 15 training images$"):
        wage_neuro.fit(engine, data[0][:15], data[1][:15])


def test_load_gives_a_run_back(engine, data, tmp_path, assert_same_state):
    wage_neuro.fit(engine, *data, epochs=2)
    extra = {"config": {"data": "mine", "eta": "8"}, "progress": {"curve": [{"epoch": 0, "error": 0.5}]}}
    checkpoint.save(tmp_path / "checkpoint.npz", Checkpoint(NETWORK, engine.rules, engine.state, extra))
    run = wage_neuro.load(str(tmp_path))
    assert (run.network, run.rules, run.settings) == (NETWORK, engine.rules, extra["config"])
    assert_same_state(run.state, engine.state)
    assert rows_of(run.metrics) == extra["progress"]["curve"]
    assert np.array_equal(run.predict(data[0]), engine.predict(data[0]))
    assert [sorted(np.unique(V)) for V in run.V] == [[-1, 0, 1], [-1, 0, 1]]
    wage_neuro.fit(engine, *data, epochs=1)
    run.fit(*data, epochs=1)
    assert_same_state(run.state, engine.state)
    run.save(tmp_path / "more.npz")
    assert_same_state(wage_neuro.load(tmp_path / "more.npz").state, engine.state)


def test_load_says_what_is_there_instead(tmp_path):
    with pytest.raises(CheckpointError, match=r"x: no such checkpoint$"):
        wage_neuro.load(tmp_path / "x")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "checkpoint.npz").touch()
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: no such checkpoint; want one of .*a$"):
        wage_neuro.load(tmp_path)


def test_metrics_are_a_frame_where_pandas_is(monkeypatch):
    rows = [{"epoch": 0}, {"epoch": 1}]
    monkeypatch.setattr(fitting, "pandas", None)
    assert fitting.as_frame(tuple(rows)) == rows
    monkeypatch.setattr(fitting, "pandas", SimpleNamespace(DataFrame=lambda rows: ("frame", rows)))
    assert fitting.as_frame(tuple(rows)) == ("frame", rows)


def test_the_real_pandas():
    pandas = pytest.importorskip("pandas")
    assert "pandas" in sys.modules
    assert isinstance(fitting.as_frame([{"epoch": 0}]), pandas.DataFrame)
