"""How long a Lava graph lives: as long as its object, its program, and not a process or a byte longer."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lava", reason="lava-nc needs Python 3.10")

from lava.magma.core.process.process import ProcessServer
from lava.magma.core.process.variable import VarServer

from mappings.engines.lava import children as lava_children
from mappings.engines.lava import engine as lava_engine
from mappings.engines.lava import graph as lava_graph
from mappings.engines.lava import shared_memory
from wage_neuro import Dense, Network, NumpyEngine, Rules
from wage_neuro.errors import EngineError, SettingError

LavaEngine = partial(lava_engine.LavaEngine, options=lava_engine.LavaOptions(channels="semaphore"))
"""A process a Process, so that there are several to end."""
ROOT = Path(__file__).resolve().parents[3]
NETWORK, RULES = Network((Dense(12), Dense(3)), (10,)), Rules(batch=8)
IMAGES, LABELS = np.full((16, 10), 200, np.uint8), np.arange(16) % 3
SETUP = """
import multiprocessing, os, signal, sys, threading, time
import numpy as np
from functools import partial
from mappings.engines.lava import engine as lava_engine
from wage_neuro import Dense, Network, Rules
LavaEngine = partial(lava_engine.LavaEngine, options=lava_engine.LavaOptions(channels="semaphore"))
NETWORK, RULES = Network((Dense(12), Dense(3)), (10,)), Rules(batch=8)
IMAGES, LABELS = np.full((16, 10), 200, np.uint8), np.arange(16) % 3
"""


@pytest.fixture
def expected(assert_same_state):
    """Check that an engine learns what numpy's does."""
    oracle = NumpyEngine(NETWORK, RULES)
    logits = oracle.train(IMAGES, LABELS, 0)

    def check(engine) -> None:
        assert np.array_equal(engine.train(IMAGES, LABELS, 0), logits)
        assert_same_state(oracle.state, engine.state)

    return check


def script(text: str, *words: str, timeout: float = 60) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", SETUP + text, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


# --- without `with` ----------------------------------------------------------------------------------

ENDS = {
    "its end": ("", 0, ""),
    "an exception": ("a_name_that_is_not_there", 1, "NameError"),
    "an exit code": ("sys.exit(7)", 7, ""),
    "Ctrl-C": ("os.kill(os.getpid(), signal.SIGINT)", -2, "KeyboardInterrupt"),
    "an exception in a run": (
        "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "engine.train(np.tile(IMAGES, (20000, 1)), np.tile(LABELS, 20000), 0)",
        -2,
        "KeyboardInterrupt",
    ),
    "an exception in a thread": (
        "t = threading.Thread(target=lambda: engine.predict(1)); t.start(); t.join(); print(1/0)",
        1,
        "ZeroDivisionError",
    ),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_program_ends_with_a_graph_that_nobody_closed(how, descendants):
    code, status, error = ENDS[how]
    ended = script(
        "engine = LavaEngine(NETWORK, RULES); engine.train(IMAGES, LABELS, 0)\n"
        f"print(*(c.pid for c in multiprocessing.active_children()), flush=True)\n{code}",
        timeout=30,
    )
    assert ended.returncode == status
    assert (ended.stderr == "") == (error == "")
    assert error in ended.stderr
    children = [int(pid) for pid in ended.stdout.split()]
    assert len(children) == 5
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_a_forgotten_engine_ends(nothing_left, descendants, expected):
    before = descendants()
    for seed in range(3):
        engine = LavaEngine(NETWORK, RULES, seed)
        engine.train(IMAGES, LABELS, 0)
        assert len(descendants() - before) == 5
    del engine
    assert descendants() == before
    with LavaEngine(NETWORK, RULES) as engine:
        expected(engine)


def test_an_engine_that_refers_to_itself_ends_when_it_is_collected(nothing_left, descendants):
    before = descendants()
    engine = LavaEngine(NETWORK, RULES)
    engine.me = engine
    del engine
    assert len(descendants() - before) == 5
    gc.collect()
    assert descendants() == before


def test_what_a_graph_held_is_freed(nothing_left):
    def lists() -> tuple[int, int]:
        gc.collect()
        return len(ProcessServer().processes), len(VarServer().vars)

    before = lists()
    for close in (True, False):
        engine = LavaEngine(NETWORK, RULES)
        held = [weakref.ref(part) for part in (engine._images, engine.layers[0], engine._graph.runtime)]
        engine.train(IMAGES, LABELS, 0)
        engine.state  # noqa: B018
        assert lists() > before
        if close:
            engine.close()
        del engine
        assert lists() == before
        assert [reference() for reference in held] == [None] * 3


def test_a_refused_engine_is_freed_too(monkeypatch):
    gc.collect()
    before = len(ProcessServer().processes)
    monkeypatch.setattr(lava_graph, "require_semaphores", lambda count: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        LavaEngine(NETWORK, RULES)
    gc.collect()
    assert len(ProcessServer().processes) == before


def test_a_loop_of_graphs_keeps_no_memory(nothing_left):
    """Shared pages, threads and descriptors stay those of one graph."""

    def use() -> tuple[int, int, int]:
        gc.collect()
        status = Path("/proc/self/status").read_text()
        shared = int(status.partition("RssShmem:")[2].split()[0])
        return shared, threading.active_count(), len(os.listdir("/proc/self/fd"))

    wide = Network((Dense(3),), (2000,))
    images = np.ones((512, 2000), np.uint8)
    with LavaEngine(wide, RULES) as engine:
        engine.predict(images)
        assert use()[0] > 900
    before = use()
    for close in (True, False, True, False):
        engine = LavaEngine(wide, RULES)
        engine.predict(images)
        if close:
            engine.close()
        del engine
        deadline = time.monotonic() + 5
        while threading.active_count() > before[1] and time.monotonic() < deadline:
            time.sleep(0.01)  # those that listened are told to end, and not waited for
        shared, threads, files = use()
        assert shared <= before[0] + 100
        assert (threads, files) == before[1:]


# --- where it is built -------------------------------------------------------------------------------


def test_an_engine_outlives_the_thread_that_built_it(nothing_left, expected):
    with ThreadPoolExecutor(1) as pool:
        engine = pool.submit(LavaEngine, NETWORK, RULES).result()
    time.sleep(0.2)
    with engine:
        expected(engine)


def test_threads_share_an_engine(nothing_left, expected):
    """Each call is whole: three threads of predictions and trainings give what they give in some order."""
    with LavaEngine(NETWORK, RULES) as engine:
        answer = engine.predict(IMAGES)
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda _: engine.predict(IMAGES), range(12)))
            assert all(np.array_equal(one, answer) for one in answers)
            list(pool.map(lambda _: engine.train(IMAGES, LABELS, 0), range(6)))
            list(pool.map(lambda i: (engine.state.step, engine.watch(i), engine.activity()), range(6)))
        oracle = NumpyEngine(NETWORK, RULES)
        for _ in range(6):
            oracle.train(IMAGES, LABELS, 0)
        assert np.array_equal(engine.predict(IMAGES), oracle.predict(IMAGES))
        assert engine.state.step == 12


def test_closing_while_another_thread_runs(nothing_left):
    engine = LavaEngine(NETWORK, RULES)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(engine.train, np.tile(IMAGES, (20000, 1)), np.tile(LABELS, 20000), 0)
        time.sleep(0.3)
        engine.close()
        with pytest.raises(EngineError, match="closed while it ran"):
            running.result(timeout=10)


def _in_a_worker(number: int) -> list[int]:
    with LavaEngine(NETWORK, RULES, number) as engine:
        return engine.train(IMAGES, LABELS, 0)[-1].tolist()


def test_a_second_engine_in_a_worker_of_a_pool(nothing_left):
    """Such a worker is a daemon, which Python forbids to have children."""
    expected = [NumpyEngine(NETWORK, RULES, n).train(IMAGES, LABELS, 0)[-1].tolist() for n in (0, 1)]
    with LavaEngine(NETWORK, RULES) as engine:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(_in_a_worker, (0, 1)) == expected
        assert engine.train(IMAGES, LABELS, 0)[-1].tolist() == expected[0]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(_in_a_worker, (1,)) == expected[1:]
        pool.close()  # the worker ends by itself
        pool.join()


def test_an_engine_of_another_process_is_refused_and_not_harmed(nothing_left, expected):
    engine = LavaEngine(NETWORK, RULES)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            engine.predict(IMAGES)
        except EngineError as error:
            os.write(writer, str(error).encode())
        engine.close()
        del engine
        gc.collect()
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 200).decode() == (
        f"this Lava engine belongs to process {os.getpid()}: make a new one here"
    )
    with engine:
        expected(engine)


START = """
from wage_neuro import NumpyEngine
def work(seed):
    with LavaEngine(NETWORK, RULES, seed) as engine:
        return engine.train(IMAGES, LABELS, 0), engine.state.S
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1], force=True)
    oracle = NumpyEngine(NETWORK, RULES)
    logits = oracle.train(IMAGES, LABELS, 0)
    found, S = work(0)
    assert np.array_equal(logits, found), "logits"
    assert all(np.array_equal(a, b) for a, b in zip(S, oracle.state.S)), "weights"
    assert multiprocessing.get_start_method() == sys.argv[1]
    semaphore = multiprocessing.Semaphore(0)  # the program's own are still of its method
    print("equal")
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_program_of_another_start_method(method):
    """It must not only start: under spawn, memory without a name would be a copy, all black."""
    ended = script(START, method)
    assert (ended.stdout, ended.stderr) == ("equal\n", "")


# --- signals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_processes_leave_signals_to_the_program(name, nothing_left, descendants, expected):
    before = descendants()
    with LavaEngine(NETWORK, RULES) as engine:
        for pid in descendants() - before:
            os.kill(pid, getattr(lava_children.signal, name))
        time.sleep(0.1)
        expected(engine)


def test_an_interrupted_engine_does_not_go_on(nothing_left, monkeypatch):
    """Its Processes are in the middle of a run: what came next would be of other samples."""
    engine = LavaEngine(NETWORK, RULES)
    calls = iter(range(3))

    def interrupt(seconds):
        if next(calls, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr("mappings.engines.lava.graph.time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.train(np.tile(IMAGES, (64, 1)), np.tile(LABELS, 64), 0)
    monkeypatch.undo()
    with pytest.raises(EngineError, match="was interrupted while it ran: make a new one"):
        engine.predict(IMAGES)
    engine.close()


def test_a_refused_call_leaves_it_usable(nothing_left, expected):
    with LavaEngine(NETWORK, RULES) as engine:
        with pytest.raises(SettingError):
            engine.train(IMAGES[:3], LABELS[:3], 0)
        expected(engine)


# --- what a machine has not --------------------------------------------------------------------------


def test_a_child_that_dies_before_it_is_ready_is_told(nothing_left, monkeypatch):
    """As where memory runs out while the graph is built; Lava would wait for it."""
    run = lava_children.Actor.run

    def die(self):
        if self.told_as == "layer 1 3FC":
            os.kill(os.getpid(), 9)
        run(self)

    monkeypatch.setattr(lava_children.Actor, "run", die)
    with pytest.raises(
        EngineError, match=r"layer 1 3FC: was killed \(SIGKILL\), as it happens where memory runs"
    ):
        LavaEngine(NETWORK, RULES)


def test_no_more_processes(nothing_left, monkeypatch):
    def refused(self):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(lava_children.Actor, "start", refused)
    with pytest.raises(EngineError, match=r"^the Lava graph cannot start: Resource temporarily unavailable$"):
        LavaEngine(NETWORK, RULES)


def test_nothing_of_a_graph_has_a_name(descendants, named_memory):
    gc.collect()  # graphs that other tests have let fail
    before, (others, held) = descendants(), named_memory(os.getpid())
    with LavaEngine(NETWORK, RULES) as engine:
        engine.train(IMAGES, LABELS, 0)
        family = {os.getpid(), *descendants()} - before
        assert [named_memory(pid)[0] - others for pid in family] == [set()] * 6
        # semaphores, whose names are gone: as many as were counted, but those that each child started with
        of_starts = lava_children.SEMAPHORES_A_QUEUE * 5
        assert named_memory(os.getpid())[1] - held == engine._graph.runtime.semaphores - of_starts > 0


def test_too_little_shared_memory_is_told_before_anything_is_built(nothing_left, monkeypatch):
    class Small:
        f_bavail, f_frsize = 16, 4096

    monkeypatch.setattr(shared_memory.os, "statvfs", lambda path: Small)
    monkeypatch.setattr(lava_children.Actor, "start", lambda self: pytest.fail("a child was started"))
    with pytest.raises(EngineError) as refused:
        LavaEngine(NETWORK, RULES)
    monkeypatch.undo()
    with LavaEngine(NETWORK, RULES) as engine:
        semaphores = engine._graph.runtime.semaphores
    assert str(refused.value) == (
        f"/dev/shm has 64 kB free: the Lava graph needs {4 * semaphores} kB there for {semaphores}"
        " semaphores; free some, or give it more (docker run --shm-size 64m)"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small /dev/shm, which root may")
def test_in_a_small_dev_shm():
    """Messages need none of it; the semaphores do, and what they need is said."""
    code = "with LavaEngine(NETWORK, RULES) as e: e.train(IMAGES, LABELS, 0); print('trained')"
    for size, out, error in (("1m", "trained\n", ""), ("64k", "", "/dev/shm has 64 kB free: ")):
        mount = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
        command = ["unshare", "-m", "bash", "-c", mount, "_", sys.executable, "-c", SETUP + code]
        ended = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
        )
        if "unshare" in ended.stderr or "mount" in ended.stderr:
            pytest.skip("no mounts here")
        assert ended.stdout == out
        assert error in ended.stderr
