"""Kill commands at any moment, go on with them, and compare with what nothing stopped."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.campaign.commands import Ended, Kill, draw_kill, run
from experiments.campaign.rows import Row, row
from experiments.campaign.subjects import Subject

Say = Callable[[str], None]


def kill(subject: Subject, kills: int, seed: int, folder: Path, say: Say) -> Row:
    """Kill a subject so many times: each run of it up to three times before it may end."""
    given = subject.prepare(folder / "given")
    whole = Path(shutil.copytree(given, folder / "whole"))
    ended = run(subject.words.split(), whole)
    faults, outcomes = ended.faults((0,)), Counter[str]()
    if faults:
        return row("kills", subject.name, 0, [f"unkilled: {fault}" for fault in faults], outcomes)
    wanted, done, trial = subject.result(whole), 0, 0
    while done < kills:
        rng = random.Random(f"{seed} {subject.name} {trial}")
        times = min(rng.randint(1, 3), kills - done)
        place = Path(shutil.copytree(given, folder / str(trial) / "run"))
        found = _trial(subject, rng, times, ended.seconds, wanted, place, outcomes)
        faults += [f"seed {seed}, trial {trial}: {fault}" for fault in found]
        for fault in found:
            say(f"{subject.name}: {fault}")
        done, trial = done + times, trial + 1
    return row("kills", subject.name, done, faults, outcomes)


def _trial(
    subject: Subject,
    rng: random.Random,
    times: int,
    seconds: float,
    wanted: dict[str, Any],
    place: Path,
    outcomes: Counter[str],
) -> list[str]:
    found = []
    for _ in range(times):
        blow = draw_kill(rng, seconds)
        ended = run(subject.next_words(place), place, blow)
        found += [f"{blow}: {fault}" for fault in ended.faults(blow.codes)]
        outcomes[_how(ended, blow)] += 1
    found += finish(subject, place, wanted)
    if not found:
        shutil.rmtree(place.parent)
    return found


def _how(ended: Ended, blow: Kill) -> str:
    if ended.code == 0:
        return "was done before, or went on"
    return "killed" if ended.code == -blow.signal else "stopped by itself"


def finish(subject: Subject, place: Path, wanted: dict[str, Any]) -> list[str]:
    """Go on to the end: what is wrong with it, or with what came out."""
    found = [f"going on: {fault}" for fault in run(subject.next_words(place), place).faults((0,))]
    try:
        result = subject.result(place)
    except Exception as error:  # whatever a half-written file does to its reader
        return [*found, f"result cannot be read ({type(error).__name__}: {error})"]
    found += [
        f"{what} differ from those of the run that nothing stopped" for what in _differing(wanted, result)
    ]
    hidden = [path.name for path in place.rglob(".*") if path.is_file()]
    return found + ([f"temporary files left: {', '.join(hidden)}"] if hidden else [])


def _differing(wanted: dict[str, Any], result: dict[str, Any]) -> list[str]:
    return sorted(key for key in wanted.keys() | result.keys() if wanted.get(key) != result.get(key))
