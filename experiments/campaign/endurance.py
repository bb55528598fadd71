"""Do one thing again and again in one process, and see whether anything of it stays."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments.campaign.commands import run_python
from experiments.campaign.kills import Say
from experiments.campaign.rows import Row, row
from experiments.campaign.subjects import is_here
from experiments.engines import NAMES, make_engine
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, Rules, initial_state
from wage_neuro.engine import Engine

GROWTH_KIB = (
    64.0  # a cycle may keep, in memory of its own or shared: a list that a library keeps, no array of ours
)
NETWORK = Network((Conv(8, 3), MaxPool(2), Flatten(), Dense(64), Dense(10)), (16, 16, 1))
RULES = Rules(batch=32)
OWN = {"rtl": (Network((Dense(4), Dense(2)), (6,)), Rules(batch=1, shift="held", update="ternary"), 2)}
"""Network, rules and images of an engine that cannot have the others', or not in the time."""
_libc = ctypes.CDLL(None)


def _made(engine: str) -> tuple[Callable[[], Engine], np.ndarray, np.ndarray]:
    """How to build an engine, and images and labels for it."""
    network, rules, n = OWN.get(engine, (NETWORK, RULES, 64))
    rng, state = np.random.default_rng(0), initial_state(network, 0)
    images = rng.integers(0, 256, (n, *network.input_shape)).astype(np.uint8)
    return lambda: make_engine(engine, network, rules, state), images, rng.integers(0, network.classes, n)


def built_and_closed(engine: str) -> Callable[[], None]:
    """Build an engine, learn, answer, close it."""
    build, x, y = _made(engine)

    def cycle() -> None:
        with build() as machine:
            machine.train(x, y, 3)
            machine.predict(x)

    return cycle


def held(engine: str) -> Callable[[], None]:
    """Learn and answer in one engine that lives on."""
    build, x, y = _made(engine)
    machine = build()

    def cycle() -> None:
        machine.train(x, y, 3)
        machine.predict(x)

    return cycle


def taken() -> dict[str, float]:
    """What this process holds now; memory that it has freed is given back before, where that can be."""
    gc.collect()
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
    memory = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "KiB": float(memory["RssAnon"].split()[0]) + float(memory["RssShmem"].split()[0]),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "children": len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()),
    }


def wear(subject: str, cycles: int, folder: Path, say: Say) -> Row:
    """Let a process of its own go through the cycles; three quarters warm up, the last may not grow.

    So long, for a held engine learns, and holds more the more of its units are active.
    """
    output = folder / "taken.json"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run").mkdir()
    ended = run_python(
        ["-m", "experiments.campaign.endurance", subject, str(cycles), str(output)], folder / "run"
    )
    faults = ended.faults((0,))
    if not faults:
        before, after = json.loads(output.read_text())
        kept = (after["KiB"] - before["KiB"]) / (cycles // 4)
        if kept > GROWTH_KIB:
            faults.append(f"a cycle keeps {kept:,.0f} KiB")
        faults += [
            f"{after[name]:.0f} {name} after {cycles} cycles, {before[name]:.0f} after three quarters of them"
            for name in ("descriptors", "threads", "children")
            if after[name] > before[name]
        ]
    for fault in faults:
        say(f"{subject}: {fault}")
    return row("endurance", subject, cycles, faults, Counter())


def subjects() -> list[str]:
    """Engines that are here, built anew each time and held."""
    return [f"{name}, {kind}" for name in NAMES if is_here(name) for kind in ("built and closed", "held")]


def main() -> None:
    """Go through the cycles in this process; what it holds late and at the end goes to a file.

    Each is the least of some cycles: what an engine holds for the samples that it has just seen varies.
    """
    subject, cycles, output = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    engine, kind = subject.split(", ")
    cycle = held(engine) if kind == "held" else built_and_closed(engine)
    found = []
    for part in (cycles - cycles // 4, cycles // 4):
        held_after = []
        for _ in range(part):
            cycle()
            held_after.append(taken())
        last = held_after[-max(1, cycles // 20) :]
        found.append({name: min(one[name] for one in last) for name in last[0]})
    output.write_text(json.dumps(found))
    if kind == "held":
        del cycle
        gc.collect()


if __name__ == "__main__":
    main()
