"""Run the campaign, short or long, and write its record: `make campaign`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from rich.console import Console

from experiments import campaign
from experiments.campaign import disk, endurance, fuzz, kills
from experiments.campaign.formats import formats
from experiments.campaign.rows import RESULT, Row, read, write
from experiments.campaign.subjects import subjects
from experiments.runs.run_folder import check_writable, versions

PARTS = ("fuzz", "endurance", "disk errors", "kills")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything: kills and disk errors of a subject, inputs of a share, cycles of an engine.

    All but the cycles so many times, each round with a seed of its own; in the record there is one more of
    everything before there are two more of anything.
    """

    rounds: int
    kills: int
    errors: int
    inputs: int
    cycles: int


SIZES = {
    "short": Size(rounds=1, kills=2, errors=2, inputs=500, cycles=10),
    "long": Size(rounds=20, kills=4, errors=2, inputs=1_600, cycles=400),
}


def work(
    parts: list[str],
    only: str,
    size: Size,
    seed: int,
    folder: Path,
    say: kills.Say,
    done: Mapping[tuple[str, str], Row] = MappingProxyType({}),
) -> Iterator[Row]:
    """Every row of these parts whose subject's name has `only` in it, after each of its rounds anew.

    Rows in `done` go on after their last round.
    """
    todo: list[tuple[str, str, Callable[[int, Path], Row]]] = [
        *(
            ("fuzz", f.name, lambda by, at, f=f: fuzz.feed(f, round(size.inputs * f.share), by, at, say))
            for f in formats().values()
        ),
        *(
            ("endurance", s, lambda by, at, s=s: endurance.wear(s, size.cycles, at, say))
            for s in endurance.subjects()
        ),
        *(
            ("disk errors", s.name, lambda by, at, s=s: disk.fail(s, size.errors, by, at, say))
            for s in subjects()
        ),
        *(("kills", s.name, lambda by, at, s=s: kills.kill(s, size.kills, by, at, say)) for s in subjects()),
    ]
    found = dict(done)
    for number in range(size.rounds):
        for i, (part, name, do) in enumerate(todo):
            before = found.get((part, name))
            if part not in parts or only not in name or (before and before.rounds > number):
                continue
            if number and part == "endurance":
                continue
            say(f"{part}: {name}")
            at = folder / f"{seed + number}-{i}"
            one = do(seed + number, at)
            if not one.wrong:
                shutil.rmtree(at)
            found[part, name] = one = replace(before + one if before else one, seed=seed)
            yield one


def main() -> int:
    """Run it, write the record after each row, name what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m experiments.campaign", description=campaign.__doc__)
    parser.add_argument("--form", choices=SIZES, default="short", help="(default: %(default)s)")
    parser.add_argument("--parts", default=",".join(PARTS), help="joined by commas (default: %(default)s)")
    parser.add_argument("--only", default="", help="subjects with this in their name (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="draws everything (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON record (default: %(default)s)")
    parser.add_argument("--keep", type=Path, help="a folder for what faults leave (default: thrown away)")
    parser.add_argument("--resume", action="store_true", help="go on with the record's rows of this commit")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"--parts {options.parts}: want some of {','.join(PARTS)}")
    check_writable(options.output)
    commit = versions()["commit"]
    rows = {}
    if options.resume and options.output.exists():
        rows = {
            (one.part, one.subject): one
            for one in read(options.output)
            if (one.commit, one.seed) == (commit, options.seed)
        }
    console = Console(highlight=False, soft_wrap=True, markup=False)
    with tempfile.TemporaryDirectory() as thrown:
        folder = options.keep or Path(thrown)
        size = SIZES[options.form]
        for one in work(parts, options.only, size, options.seed, folder, console.print, rows):
            rows[one.part, one.subject] = replace(one, commit=commit)
            write(options.output, rows.values())
    wrong, tried = sum(one.wrong for one in rows.values()), sum(one.tried for one in rows.values())
    console.print(f"{tried:,} tried, {wrong:,} wrong; written to {options.output}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
