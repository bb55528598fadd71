"""Runs on Dask: each answer once, a worker that dies is replaced, one line for what goes wrong."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import pytest

from experiments import datasets
from experiments.benchmarks import agreement
from experiments.commands.presets import Job, Means, Scale, do_all
from experiments.runs import cluster, run_folder
from experiments.runs.cluster import on_cluster, workers_of
from experiments.runs.jobs import Jobs
from experiments.runs.training import Config, Run
from wage_neuro import Rules, __version__
from wage_neuro.errors import DataError, EngineError, SettingError

needs_dask = pytest.mark.skipif(
    find_spec("distributed") is None, reason='no Dask: pip install "wage-neuro[dask]"'
)
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


ITEMS = """
import os, signal
from pathlib import Path

def tenfold(item, folder):
    once = Path(folder) / "died"
    if item == 9 or (item == 1 and not once.exists()):
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 * item
"""


@pytest.fixture
def tenfold(tmp_path, monkeypatch):
    """Ten times the item; the worker of 1 dies once, of 9 always. Workers import it."""
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


@needs_dask
@pytest.mark.slow
def test_what_kills_every_worker_is_given_up(tenfold):
    with pytest.raises(EngineError, match=r"^run 9: 3 workers died of it$"):
        list(on_cluster(tenfold, [9], "local:1", lambda item: f"run {item}"))


@pytest.fixture(scope="module")
def address():
    """Of a scheduler with two workers that have begun elsewhere."""
    distributed = pytest.importorskip("distributed")
    with (
        warnings.catch_warnings(),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as cluster,
    ):
        warnings.simplefilter("ignore")
        yield cluster.scheduler_address


def experiment_of(folder):
    config = Config(data="digits", network="8FC", epochs=1, rules=Rules(batch=50))
    return [Job("small", "a", Scale(), replace(config, seed=s), folder / f"a-s{s}") for s in range(2)]


def test_an_experiment(tmp_path, address):
    """Two runs on two workers have the bits of the same runs here."""
    there, here = (experiment_of(tmp_path / name) for name in ("there", "here"))
    ended: list[str] = []
    means = Means(jobs=Jobs(cluster=address))
    assert do_all(there, means, lambda job, done: ended.append(str(job)))
    assert sorted(ended) == ["a seed 0", "a seed 1"]
    assert do_all(here, Means(), lambda job, done: None)
    for one, other in zip(there, here, strict=True):
        a, b = (run_folder.load(job.folder).state for job in (one, other))
        assert a == b
        assert one.record()["accuracy_last"] == other.record()["accuracy_last"]


CONTINUAL = ("split-digits", "--network", "8FC", "--method", "naive", "--seeds", 2, "--engine", "numpy")
TRANSFER = (
    "--data",
    "digits:5-9",
    "--examples",
    "1,3",
    "--samples",
    "40",
    "--seeds",
    "2",
    "--engine",
    "numpy",
)


def _without_time(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "train_seconds"} for row in rows]


def test_continual(tmp_path, address, wage_neuro):
    words = ("continual", *CONTINUAL, "--probes", 1, "--task-images", 40, "--run")
    turns, there = wage_neuro(*words, "turns"), wage_neuro(*words, "there", "--cluster", address)
    threads = wage_neuro(*words, "threads", "--jobs", 2, "--together")
    assert [(each.code, each.err) for each in (turns, there, threads)] == [(0, "")] * 3
    assert there.out.startswith("dashboard http://")
    one, *others = (_without_time(tmp_path / name / "record.jsonl") for name in ("turns", "there", "threads"))
    assert others == [one] * 2
    assert len({row["seed"] for row in one if row["kind"] == "accuracy"}) == 2


@pytest.mark.parametrize("how", ["--cluster", "--together"])
def test_transfer(how, tmp_path, address, wage_neuro, helpers):
    helpers.fit(Run.start(Config(data="digits:0-4", network="8FC", epochs=1), tmp_path / "trained"))
    words = ("transfer", "trained", *TRANSFER, "--run")
    there = (how, address) if how == "--cluster" else (how, "--jobs", 2)
    ended = [wage_neuro(*words, "turns"), wage_neuro(*words, "there", *there)]
    assert [(each.code, each.err) for each in ended] == [(0, "")] * 2
    one, other = (_without_time(tmp_path / name / "record.jsonl") for name in ("turns", "there"))
    assert one == other
    assert len(one) == 1 + 2 * 2 * 3


def test_agreement(tmp_path, address, monkeypatch):
    """The cells on a cluster are those of one process, in the same order."""
    monkeypatch.setattr(agreement, "ROWS", ("dense",))
    monkeypatch.setattr(agreement, "MODES", {name: agreement.MODES[name] for name in ("paper", "pipelined")})
    shown: list[int] = []
    for name, jobs in (("turns", None), ("there", Jobs(cluster=address))):
        agreement.work(tmp_path / name, ["compiled"], 1, lambda what, done, of: shown.append(done), jobs)
    assert (tmp_path / "turns").read_text() == (tmp_path / "there").read_text()
    assert shown == [0, 1, 2, 1, 2, 2]


RUNS = """
import os, signal
from experiments.commands import presets

def half_then_killed(job, means):
    # the first time its worker is killed, once there is a checkpoint
    if (job.folder / "checkpoint.npz").exists():
        (job.folder / "went on").touch()
        return presets.do(job, means)

    def look(run, seen):
        run.stop_wanted = seen.epoch >= 1

    presets.do(job, means, look)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_goes_on_where_its_worker_died(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    (tmp_path / "dask_runs.py").write_text(RUNS)
    monkeypatch.syspath_prepend(tmp_path)
    there, here = (
        [replace(job, config=replace(job.config, epochs=2))]
        for job in (experiment_of(tmp_path / name)[0] for name in ("there", "here"))
    )
    do = partial(import_module("dask_runs").half_then_killed, means=Means())
    assert [done for _, done in on_cluster(do, there, "local:1")] == [True]
    assert (there[0].folder / "went on").exists()
    assert do_all(here, Means(), lambda job, done: None)
    a, b = (run_folder.load(job.folder) for job in (*there, *here))
    assert a.state == b.state
    assert a.extra["progress"]["epoch"] == 2


WAITS = """
import time
from pathlib import Path
from experiments.runs.stopping import stops_on_signals

class Run:
    stop_wanted = False

def wait(item, folder):
    run = Run()
    with stops_on_signals(run):
        Path(folder, f"{item} began").touch()
        while not run.stop_wanted:
            time.sleep(0.01)
    Path(folder, f"{item} stopped").touch()
"""


def test_what_ends_early_stops_its_runs(tmp_path, monkeypatch):
    """Those that have begun end in good order, and no other begins."""
    pytest.importorskip("distributed")
    (tmp_path / "dask_waits.py").write_text(WAITS)
    monkeypatch.syspath_prepend(tmp_path)
    do = partial(import_module("dask_waits").wait, folder=str(tmp_path))

    def interrupt():
        while not (tmp_path / "a began").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        list(on_cluster(do, ["a", "b"], "local:1"))
    assert sorted(path.name for path in tmp_path.glob("* *")) == ["a began", "a stopped"]


def test_what_is_refused_there_is_one_line_here(address):
    with pytest.raises(DataError, match=r"^data 'none': want digits, "):
        list(on_cluster(datasets.load, ["digits", "none"], address))


@pytest.mark.slow
def test_a_scheduler_that_dies(tmp_path, monkeypatch, capfd):
    pytest.importorskip("distributed")
    (tmp_path / "dask_waits.py").write_text(WAITS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    do = partial(import_module("dask_waits").wait, folder=str(tmp_path))
    mine = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"],
        stderr=subprocess.PIPE,
        text=True,
    )
    address = next(filter(None, (re.search(r"tcp://\S+:\d+", line) for line in mine.stderr)))[0]
    worker = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"],
        stderr=subprocess.DEVNULL,
    )

    def end():
        while not (tmp_path / "a began").exists():
            time.sleep(0.01)
        mine.kill()

    threading.Thread(target=end).start()
    try:
        with pytest.raises(EngineError, match=f"^a: the cluster {address} is gone$"):
            list(on_cluster(do, ["a"], address))
    finally:
        for process in (mine, worker):
            process.kill()
            process.wait()
        mine.stderr.close()
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("missing", "version", "has"),
    [("scheduler", None, "no wage-neuro"), ("tcp://w", "0.0.1", "wage-neuro 0.0.1")],
)
def test_a_cluster_with_another_version(missing, version, has, address, monkeypatch):
    import distributed

    def versions(self, packages):
        (name,) = packages
        mine = {"scheduler": __version__, "tcp://v": __version__, "tcp://w": __version__, missing: version}
        told = {where: {"packages": {name: v}} for where, v in mine.items()}
        return {"scheduler": told.pop("scheduler"), "workers": told, "client": {}}

    monkeypatch.setattr(distributed.Client, "get_versions", versions)
    with pytest.raises(EngineError) as error:
        list(on_cluster(str, [0], address))
    assert str(error.value) == f"cluster {address}: {has} on {missing}: want {__version__}, as here"


def test_the_version_of_what_is_here(address, monkeypatch):
    monkeypatch.setattr(cluster, "__version__", "9.9.9")
    with pytest.raises(EngineError, match=rf": wage-neuro {__version__} on scheduler: want 9.9.9, as here$"):
        list(on_cluster(str, [0], address))


@needs_dask
@pytest.mark.parametrize("command", ["experiment", "continual", "transfer", "agreement"])
def test_nobody_answers(command, monkeypatch, tmp_path, wage_neuro, helpers):
    """One line, and nothing is written."""
    monkeypatch.setattr(cluster, "PATIENCE", "1s")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = (
        f"cluster tcp://127.0.0.1:{port}: no scheduler answers within 1s; want the address that"
        " `dask scheduler` prints"
    )
    there, answer = ("--cluster", f"tcp://127.0.0.1:{port}"), tmp_path / "answer"
    if command == "agreement":
        words = ["agreement", "--output", str(answer), "--engines", "compiled", *there]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(EngineError, match=f"^{re.escape(line)}$"):
            agreement.main()
        assert not answer.exists()
        return
    trained = Run.start(Config(data="digits:0-4", network="8FC", epochs=1), tmp_path / "trained")
    helpers.fit(trained)
    words = {"experiment": ["mnist-lenet"], "continual": CONTINUAL, "transfer": ("trained", *TRANSFER)}
    ended = wage_neuro(command, *words[command], "--run", answer, *there)
    assert (ended.code, ended.err) == (1, f"wage-neuro: {line}\n")
    assert not list(answer.rglob("*.json*"))


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
