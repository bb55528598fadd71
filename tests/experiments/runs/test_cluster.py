"""Runs on Dask: each answer once, a worker that dies is replaced, one line for what goes wrong."""

from __future__ import annotations

import socket
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import pytest

from experiments.commands.presets import Job, Means, Scale, do_all
from experiments.runs import cluster, run_folder
from experiments.runs.cluster import on_cluster, workers_of
from experiments.runs.jobs import Jobs
from experiments.runs.training import Config
from wage_neuro import Rules
from wage_neuro.errors import DataError, EngineError, SettingError

needs_dask = pytest.mark.skipif(
    find_spec("distributed") is None, reason='no Dask: pip install "wage-neuro[dask]"'
)
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


ITEMS = """
import os, signal
from pathlib import Path
from wage_neuro.errors import DataError

def tenfold(item, folder):
    once = Path(folder) / "died"
    if item == 9 or (item == 1 and not once.exists()):
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 5:
        raise DataError("item 5: want another")
    return 10 * item
"""


@pytest.fixture
def tenfold(tmp_path, monkeypatch):
    """Ten times the item; the worker of 1 dies once, of 9 always, and 5 is refused. Workers import it."""
    (tmp_path / "dask_items.py").write_text(ITEMS)
    monkeypatch.syspath_prepend(tmp_path)
    return partial(import_module("dask_items").tenfold, folder=str(tmp_path))


@needs_dask
def test_answers_come_once_and_a_dead_worker_is_replaced(tmp_path, tenfold):
    said: list[str] = []
    found = list(on_cluster(tenfold, [0, 1, 2], "local:2", say=said.append))
    assert sorted(found) == [(0, 0), (1, 10), (2, 20)]
    assert (tmp_path / "died").exists()
    assert said[0].startswith("dashboard http://")
    with pytest.raises(DataError, match=r"^item 5: want another$"):
        list(on_cluster(tenfold, [5], "local:1"))


@needs_dask
@pytest.mark.slow
def test_what_kills_every_worker_is_given_up(tenfold):
    with pytest.raises(EngineError, match=r"^run 9: 3 workers died of it$"):
        list(on_cluster(tenfold, [9], "local:1", lambda item: f"run {item}"))


@needs_dask
def test_an_experiment(tmp_path):
    """Two runs on two workers have the bits of the same runs here."""

    def work(folder):
        config = Config(data="digits", network="8FC", epochs=1, rules=Rules(batch=50))
        return [
            Job(
                "small",
                "a",
                Scale(),
                Config(**{**vars(config), "seed": seed}),
                tmp_path / folder / f"a-s{seed}",
            )
            for seed in range(2)
        ]

    ended: list[str] = []
    assert do_all(
        work("there"), Means(jobs=Jobs(cluster="local:2")), lambda job, done: ended.append(str(job))
    )
    assert sorted(ended) == ["a seed 0", "a seed 1"]
    assert do_all(work("here"), Means(), lambda job, done: None)
    for one, other in zip(work("there"), work("here"), strict=True):
        a, b = (run_folder.load(job.folder).state for job in (one, other))
        assert all((S == T).all() for S, T in zip(a.S, b.S, strict=True))
        assert one.record()["accuracy_last"] == other.record()["accuracy_last"]


@needs_dask
def test_nobody_answers(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", "1s")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EngineError) as error:
        list(on_cluster(str, [0], f"tcp://127.0.0.1:{port}"))
    assert str(error.value) == (
        f"cluster tcp://127.0.0.1:{port}: no scheduler answers within 1s; want the address that"
        " `dask scheduler` prints"
    )


def test_not_installed(monkeypatch):
    def gone():
        raise ImportError("No module named 'distributed'")

    monkeypatch.setattr(cluster, "_dask", gone)
    with pytest.raises(EngineError) as error:
        list(on_cluster(str, [0], "local:1"))
    assert str(error.value) == (
        "cluster local:1: No module named 'distributed'; it needs pip install \"wage-neuro[dask]\""
    )


@pytest.mark.parametrize("text", ["nowhere", "local:0", "local:", "local:x", "tcp://", "http://x"])
def test_no_cluster(text):
    with pytest.raises(SettingError) as error:
        workers_of(text)
    assert (
        str(error.value)
        == f"cluster {text!r}: want local:N, or a scheduler's address such as tcp://HOST:8786"
    )
