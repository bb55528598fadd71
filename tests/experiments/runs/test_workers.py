"""Runs side by side: what is killed takes nothing with it and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from experiments.runs.workers import side_by_side
from wage_neuro.errors import EngineError, SettingError

ROOT = Path(__file__).resolve().parents[3]


def work(folder: Path, item: str) -> str | None:
    """What the processes of these tests do."""
    (folder / item).write_text(str(os.getpid()))
    match item.partition(" ")[0]:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "refuse":
            raise SettingError("eta=3: want a power of two")
        case "full":
            raise OSError(28, "No space left on device", "/somewhere")
        case "memory":
            raise MemoryError("7 GB")
        case "wait":
            time.sleep(60)
        case "nothing":
            return None
    return item.upper()


@pytest.fixture
def do(tmp_path, monkeypatch):
    """`work`, to be found by name in another process."""
    module = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "work_of_a_test", module)
    monkeypatch.setattr(work, "__module__", "work_of_a_test")
    (tmp_path / "work_of_a_test.py").write_text(Path(__file__).read_text())
    monkeypatch.syspath_prepend(str(tmp_path))  # which is handed on
    folder = tmp_path / "began"
    folder.mkdir()
    return partial(work, folder)


def wait_until(true, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(true())


def lives(folder: Path, item: str) -> bool:
    return Path(f"/proc/{(folder / item).read_text()}").exists()


def test_each_is_done_in_a_process_of_its_own(do):
    items = ["a", "nothing", "b", "c"]
    answers = dict(side_by_side(do, items, at_once=2))
    assert answers == {"a": "A", "nothing": None, "b": "B", "c": "C"}
    pids = {(do.args[0] / item).read_text() for item in items}
    assert len(pids) == 4
    assert str(os.getpid()) not in pids
    assert list(side_by_side(do, [], 2)) == []


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        (
            "kill",
            EngineError,
            r"^<kill>: its process was killed \(SIGKILL\), as it happens where memory runs",
        ),
        ("exit", EngineError, r"^<exit>: its process ended with exit code 3$"),
        ("refuse", SettingError, r"^eta=3: want a power of two$"),
        ("full", OSError, r"No space left on device: '/somewhere'"),
        ("memory", MemoryError, "7 GB"),
    ],
)
def test_one_that_fails_ends_the_others(item, error, message, do):
    def begun_first(wanted):
        assert wanted != item or wait_until((do.args[0] / "wait").exists, 20)
        return f"<{wanted}>"

    began = time.monotonic()
    with pytest.raises(error, match=message):
        list(side_by_side(do, ["wait", item, "later"], 2, begun_first))
    assert time.monotonic() - began < 50, "waited for what it should end"
    assert not lives(do.args[0], "wait")
    assert not (do.args[0] / "later").exists()


def test_nobody_asks_for_more(do):
    found = side_by_side(do, ["a", "wait"], 2)
    assert next(found) == ("a", "A")
    assert wait_until((do.args[0] / "wait").exists, 20)
    found.close()
    assert not lives(do.args[0], "wait")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(number, do):
    before = signal.getsignal(number)

    def send(item):
        os.kill(os.getpid(), number)
        return item

    at_first = getattr(before, "previous_handler", before)  # before brian2 was imported
    if at_first in (signal.SIG_IGN, signal.SIG_DFL) and number == signal.SIGINT:
        pytest.skip("Ctrl-C is ignored here")
    with pytest.raises(KeyboardInterrupt):
        list(side_by_side(do, ["wait"], 1, send))
    assert signal.getsignal(number) == before


# --- a whole sweep -----------------------------------------------------------------------------------

SWEEP = """
import sys
from experiments import cli
from experiments.commands import presets
from experiments.runs.training import Config
from wage_neuro import Rules
small = Config(data="digits", network="32C3-MP2-64C3-256FC", epochs=200, seed=2, rules=Rules(batch=32))
presets.EXPERIMENTS["small"] = {"a": small, "b": small}
sys.argv = ["wage-neuro", *sys.argv[1:]]
cli.main()
"""


def session_of(leader: int) -> dict[int, str]:
    """Living processes of a session, and what they are called."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (entry / "stat").read_text().rpartition(")")
        except OSError:
            continue
        if rest.split()[0] != "Z" and int(rest.split()[3]) == leader:
            found[int(entry.name)] = name
    return found


def named_memory_of(leader: int) -> set[str]:
    """What the processes of a session have mapped in /dev/shm that still has a name."""
    maps = []
    for pid in session_of(leader):
        try:
            maps += Path(f"/proc/{pid}/maps").read_text().splitlines()
        except OSError:
            continue
    return {line.partition("/dev/shm")[2] for line in maps if "/dev/shm/" in line and "(deleted)" not in line}


ENGINES = ["numpy", *(["lava"] if find_spec("lava") else [])]
WAYS = {
    "SIGKILL": os.kill,
    "SIGTERM": os.kill,
    "SIGTERM to all": os.killpg,
    "SIGINT to all": os.killpg,
}
QUICK = {("numpy", "SIGKILL"), ("numpy", "SIGTERM"), ("numpy", "SIGINT to all"), ("lava", "SIGTERM to all")}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("way", "engine"),
    [  # Lava's many processes are the harder to end; one way shows it
        pytest.param(way, engine, marks=() if (engine, way) in QUICK else pytest.mark.slow)
        for way in WAYS
        for engine in ENGINES
    ],
)
def test_a_sweep_that_is_killed(engine, way, tmp_path):
    """Every worker stops with a checkpoint; no process is left, and no name in shared memory."""
    if engine == "lava":  # without greenlet a graph is many processes
        (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['greenlet'] = None\n")
    words = ["experiment", "small", "--jobs", "2", "--engine", engine, "--folder", "out"]
    main = subprocess.Popen(
        [sys.executable, "-c", SWEEP, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    files = [tmp_path / "out" / f"{label}-s0" / "checkpoint.npz" for label in "ab"]
    try:
        assert wait_until(lambda: all(f.exists() for f in files) or main.poll() is not None, 120)
        assert main.poll() is None, main.communicate()
        assert not named_memory_of(main.pid)
        assert (len(session_of(main.pid)) > 10) == (engine == "lava")
        before = [file.stat().st_mtime_ns for file in files]
        WAYS[way](main.pid, getattr(signal, way.partition(" ")[0]))
        out, err = main.communicate(timeout=60)
        assert wait_until(lambda: not session_of(main.pid), 20), session_of(main.pid)
    finally:
        for pid in session_of(main.pid):  # our own children, of a test that failed
            os.kill(pid, signal.SIGKILL)
    assert err == ""
    if way != "SIGKILL":
        assert main.returncode == 130
        assert out.endswith("stopped; the same command goes on\n")
    assert all(file.stat().st_mtime_ns > time for file, time in zip(files, before, strict=True))


def test_a_run_that_is_killed_is_one_line(tmp_path):
    """As where memory runs out."""
    killer = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nif '--multiprocessing-fork' in sys.argv: {killer}\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", SWEEP, "experiment", "small", "--jobs", "2", "--folder", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    line = (
        r"wage-neuro: [ab] seed 0: its process was killed \(SIGKILL\), as it happens where memory runs out\n"
    )
    assert re.fullmatch(line, ended.stderr)
