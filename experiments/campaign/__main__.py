"""Run the campaign, short or long, and write its record: `make campaign`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from experiments import campaign
from experiments.campaign import disk, endurance, fuzz, kills
from experiments.campaign.formats import formats
from experiments.campaign.rows import RESULT, Row, write
from experiments.campaign.subjects import subjects
from experiments.runs.run_folder import check_writable, versions

PARTS = ("fuzz", "endurance", "disk errors", "kills")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything: kills and disk errors of a subject, inputs of a share, cycles of an engine."""

    kills: int
    errors: int
    inputs: int
    cycles: int


SIZES = {
    "short": Size(kills=2, errors=2, inputs=500, cycles=10),
    "long": Size(kills=80, errors=40, inputs=32_000, cycles=200),
}


def work(parts: list[str], only: str, size: Size, seed: int, folder: Path, say: kills.Say) -> Iterator[Row]:
    """Every row of these parts whose subject's name has `only` in it."""
    names = iter(str(i) for i in range(1_000_000))
    todo: list[tuple[str, str, Callable[[Path], Row]]] = [
        *(
            ("fuzz", f.name, lambda at, f=f: fuzz.feed(f, round(size.inputs * f.share), seed, at, say))
            for f in formats().values()
        ),
        *(
            ("endurance", s, lambda at, s=s: endurance.wear(s, size.cycles, at, say))
            for s in endurance.subjects()
        ),
        *(
            ("disk errors", s.name, lambda at, s=s: disk.fail(s, size.errors, seed, at, say))
            for s in subjects()
            if "--jobs" not in s.words  # its workers write, and their disk is whole
        ),
        *(("kills", s.name, lambda at, s=s: kills.kill(s, size.kills, seed, at, say)) for s in subjects()),
    ]
    for part, name, do in todo:
        if part in parts and only in name:
            say(f"{part}: {name}")
            yield do(folder / next(names))


def main() -> int:
    """Run it, write the record, name what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m experiments.campaign", description=campaign.__doc__)
    parser.add_argument("--form", choices=SIZES, default="short", help="(default: %(default)s)")
    parser.add_argument("--parts", default=",".join(PARTS), help="joined by commas (default: %(default)s)")
    parser.add_argument("--only", default="", help="subjects with this in their name (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="draws everything (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON record (default: %(default)s)")
    parser.add_argument("--keep", type=Path, help="a folder for what faults leave (default: thrown away)")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"--parts {options.parts}: want some of {','.join(PARTS)}")
    check_writable(options.output)
    commit = versions()["commit"]
    console = Console(highlight=False, soft_wrap=True, markup=False)
    with tempfile.TemporaryDirectory() as thrown:
        folder = options.keep or Path(thrown)
        found = work(parts, options.only, SIZES[options.form], options.seed, folder, console.print)
        rows = [replace(one, seed=options.seed, commit=commit) for one in found]
    write(options.output, rows)
    wrong, tried = sum(one.wrong for one in rows), sum(one.tried for one in rows)
    console.print(f"{tried:,} tried, {wrong:,} wrong; written to {options.output}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
