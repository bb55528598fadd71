"""A command in a session of its own: killed on its way, and what it left behind."""

from __future__ import annotations

import ctypes
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT_S = 300.0  # for a command that takes seconds
GRACE_S = 10.0  # for what a process started to end after it
STOPPED = 130
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes
    ----------
    code : exit code, as of `subprocess`; None where it did not end by itself in LIMIT_S
    processes : of its session, alive GRACE_S after its end
    names : in /dev/shm, that it had mapped when it was killed and that are there after it
    """

    code: int | None
    out: str
    err: str
    seconds: float
    processes: int
    names: int

    def faults(self, codes: Sequence[int]) -> list[str]:
        """What is wrong with it, where it may end with these codes."""
        lines = self.err.strip().splitlines()
        last = lines[-1] if lines else ""
        found = []
        if self.code is None:
            found.append(f"still there after {LIMIT_S:.0f} s")
        elif self.code not in codes:
            found.append(f"exit code {self.code} ({last})")
        if "Traceback" in self.err:
            found.append(f"traceback ({last})")
        elif len(lines) > 2:
            found.append(f"{len(lines)} lines of errors ({last})")
        if self.processes:
            found.append(f"{self.processes} processes left")
        if self.names:
            found.append(f"{self.names} names left in shared memory")
        return found


@dataclass(frozen=True)
class Kill:
    """A signal, to whom, and after how many seconds."""

    signal: signal.Signals
    to: str
    after: float

    def __str__(self) -> str:
        return f"{self.signal.name} to {self.to} after {self.after:.2f} s"

    @property
    def codes(self) -> tuple[int, ...]:
        """Exit codes that the main process may have after it; 0 where it was done before."""
        if self.to == "a child":
            return (0, 1, STOPPED, -self.signal)  # the main process where it has none
        return (0, -self.signal) if self.signal == signal.SIGKILL else (0, STOPPED, -self.signal)


WAYS = (
    (signal.SIGKILL, "the main process"),
    (signal.SIGKILL, "all"),
    (signal.SIGKILL, "a child"),
    (signal.SIGTERM, "the main process"),
    (signal.SIGTERM, "all"),
    (signal.SIGINT, "all"),
)


def draw_kill(rng: random.Random, seconds: float) -> Kill:
    """Draw a way to kill and a moment in a run that takes so long."""
    how, whom = rng.choice(WAYS)
    return Kill(how, whom, rng.uniform(0, seconds))


BEGUN_S = 0.3
"""Seconds until Python runs the first line of a command, with room to spare."""


def run(words: Sequence[str], folder: Path, kill: Kill | None = None) -> Ended:
    """Run `wage-neuro WORDS` in a folder, kill it as told, and look at what is left."""
    return run_python(["-m", "experiments.entry", *words], folder, kill)


def run_python(words: Sequence[str], folder: Path, kill: Kill | None = None) -> Ended:
    """Run Python with these words, as `run` does."""
    out, err = folder.parent / "stdout", folder.parent / "stderr"
    began = time.monotonic()
    with out.open("wb") as stdout, err.open("wb") as stderr:
        main = subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=_begin_like_a_command,
        )
    try:
        names = _killed(main, kill) if kill else set[Path]()
        code = _code(main)
        seconds = time.monotonic() - began
        wait_until(lambda: not session_of(main.pid), GRACE_S * patience())
        wait_until(lambda: not any(name.exists() for name in names), GRACE_S * patience())
        left = len(session_of(main.pid))
    finally:
        for pid in session_of(main.pid):  # all of them our own children
            os.kill(pid, signal.SIGKILL)
    said, complained = (path.read_text(errors="replace") for path in (out, err))
    return Ended(code, said, complained, seconds, left, sum(name.exists() for name in names))


def patience() -> float:
    """How much longer a thing may take here: others want the processors too, and more so if we are nice."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)) * (10 if os.nice(0) > 10 else 1)


def _begin_like_a_command() -> None:
    """End with the campaign, and hear Ctrl-C also where the campaign is a shell's background job."""
    end_with_campaign()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def end_with_campaign() -> None:
    """Let this process be killed when its parent ends, however that happens."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _code(main: subprocess.Popen[bytes]) -> int | None:
    try:
        return main.wait(LIMIT_S * patience())
    except subprocess.TimeoutExpired:
        main.kill()
        main.wait()
        return None


def _killed(main: subprocess.Popen[bytes], kill: Kill) -> set[Path]:
    """Kill, and return the names in shared memory that the session had mapped.

    Ctrl-C waits until Python is through with its own beginning, in which it says a traceback of its own.
    """
    least = BEGUN_S * patience() if kill.signal == signal.SIGINT else 0.0
    wait_until(lambda: main.poll() is not None, max(kill.after, least))
    names = shared_memory_of(main.pid)
    children = sorted(session_of(main.pid) - {main.pid})
    try:
        if kill.to == "all":
            os.killpg(main.pid, kill.signal)
        elif kill.to == "a child" and children:
            os.kill(children[int(kill.after * 1000) % len(children)], kill.signal)
        elif main.poll() is None:
            main.send_signal(kill.signal)
    except ProcessLookupError:
        pass  # it was quicker
    return names


def session_of(leader: int) -> set[int]:
    """Living processes of a session."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[3]) == leader:
            found.add(int(entry.name))
    return found


def shared_memory_of(leader: int) -> set[Path]:
    """Names in /dev/shm that the processes of a session have mapped."""
    found = set()
    for pid in session_of(leader):
        try:
            found |= set(map(Path, re.findall(r"/dev/shm/\S+", Path(f"/proc/{pid}/maps").read_text())))
        except OSError:
            continue
    return {path for path in found if path.exists()}


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    """Wait for it, no longer than this."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
