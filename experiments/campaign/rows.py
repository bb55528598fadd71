"""What a campaign found: a row a subject, kept as JSON; the README's table is made of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from experiments.records.names import table
from experiments.runs.run_folder import write_text

RESULT = Path("experiments/results/campaign.json")
KEPT = 20  # faults that a row of the record names


@dataclass(frozen=True, kw_only=True)
class Row:
    """One subject.

    Attributes
    ----------
    part : kills, disk errors, fuzz or endurance
    subject : what was killed, made to fail, fed or worn
    tried : kills, errors, inputs or cycles
    wrong : how many of them ended as they should not
    outcomes : how often each way to end well was seen
    faults : one line each, with what brings it back; the first KEPT
    seed, commit : that it was drawn by and run at
    rounds : so many, each drawn by the next seed; rows add up
    """

    part: str
    subject: str
    tried: int
    wrong: int
    outcomes: dict[str, int]
    faults: tuple[str, ...] = ()
    seed: int = 0
    commit: str = ""
    rounds: int = 1

    def __add__(self, other: Row) -> Row:
        return replace(
            self,
            tried=self.tried + other.tried,
            wrong=self.wrong + other.wrong,
            outcomes=dict(sorted((Counter(self.outcomes) + Counter(other.outcomes)).items())),
            faults=(self.faults + other.faults)[:KEPT],
            rounds=self.rounds + other.rounds,
        )


def row(part: str, subject: str, tried: int, faults: list[str], outcomes: Counter[str]) -> Row:
    """Count the faults and keep the first of them."""
    return Row(
        part=part,
        subject=subject,
        tried=tried,
        wrong=len(faults),
        outcomes=dict(sorted(outcomes.items())),
        faults=tuple(faults[:KEPT]),
    )


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write rows to the record, in the place of those of the same subjects; it keeps the others."""
    found = {(one.part, one.subject): one for one in [*(read(path) if path.exists() else []), *rows]}
    write_text(path, json.dumps({"rows": [asdict(one) for one in found.values()]}, indent=1) + "\n")


def read(path: Path) -> list[Row]:
    """Read a record."""
    return [Row(**{**one, "faults": tuple(one["faults"])}) for one in json.loads(path.read_text())["rows"]]


def campaign_table(folder: Path) -> str:
    """Parts and subjects: how many were tried, how many ended wrong."""
    rows = read(folder / RESULT.name)
    lines = []
    for part in dict.fromkeys(one.part for one in rows):
        mine = [one for one in rows if one.part == part]
        subjects = "; ".join(
            f"{one.subject} {one.tried:,}" + (f" (**{one.wrong:,} wrong**)" if one.wrong else "")
            for one in mine
        )
        tried, wrong = sum(one.tried for one in mine), sum(one.wrong for one in mine)
        lines.append((part, f"{tried:,}", f"**{wrong:,}**" if wrong else 0, subjects))
    seeds, commits = (sorted({str(getattr(one, name)) for one in rows}) for name in ("seed", "commit"))
    said = f"Seed {', '.join(seeds)}; commit {', '.join(commits)}."
    return table("what | tried | wrong | subjects", lines, said)
