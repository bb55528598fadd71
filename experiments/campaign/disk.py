"""Let the disk fail at every operation of a command, go on with it, and compare."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

from experiments.campaign.commands import Ended, run_python
from experiments.campaign.kills import Say, finish
from experiments.campaign.rows import Row, row
from experiments.campaign.subjects import Subject

ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EACCES")
NEVER = "999999999"


def fail(subject: Subject, errors: int, seed: int, folder: Path, say: Say) -> Row:
    """Inject so many errors into runs of a subject, each at an operation of its own."""
    given, counted = subject.prepare(folder / "given"), folder / "count"
    whole = Path(shutil.copytree(given, folder / "whole"))
    ended = _run(subject.words.split(), whole, NEVER, ERRORS[0], counted)
    faults, outcomes = ended.faults((0,)), Counter[str]()
    if faults:
        return row("disk errors", subject.name, 0, [f"unharmed: {fault}" for fault in faults], outcomes)
    wanted, operations = subject.result(whole), int(counted.read_text())
    for trial in range(errors):
        rng = random.Random(f"{seed} {subject.name} {trial}")
        at, error = f"{rng.randint(1, operations)}{rng.choice(['', '!'])}", rng.choice(ERRORS)
        place = Path(shutil.copytree(given, folder / str(trial) / "run"))
        ended = _run(subject.words.split(), place, at, error, folder / str(trial) / "count")
        found = [*ended.faults((0, 1)), *finish(subject, place, wanted)]
        outcomes["refused in one line" if ended.code else "done all the same"] += 1
        for fault in found:
            faults.append(f"seed {seed}, trial {trial}, {error} at operation {at} of {operations}: {fault}")
            say(f"{subject.name}: {faults[-1]}")
        if not found:
            shutil.rmtree(place.parent)
    return row("disk errors", subject.name, errors, faults, outcomes)


def _run(words: list[str], folder: Path, at: str, error: str, counted: Path) -> Ended:
    return run_python(["-m", "experiments.campaign.broken_disk", at, error, str(counted), *words], folder)
