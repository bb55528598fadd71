"""What a campaign found: a row a subject, kept as JSON; the README's table is made of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
    faults : one line each, with the seed that brings it back; the first KEPT
    """

    part: str
    subject: str
    tried: int
    wrong: int
    outcomes: dict[str, int]
    faults: tuple[str, ...] = ()


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


def record_of(rows: list[Row], form: str, seed: int, versions: dict[str, str]) -> dict[str, Any]:
    """What is written to the record."""
    return {"form": form, "seed": seed, "versions": versions, "rows": [asdict(one) for one in rows]}


def campaign_table(folder: Path) -> str:
    """Parts and subjects: how many were tried, how many ended wrong."""
    record = json.loads((folder / RESULT.name).read_text())
    rows = [Row(**{**one, "faults": tuple(one["faults"])}) for one in record["rows"]]
    lines = ["| what | tried | wrong | subjects |", "|---|---|---|---|"]
    for part in dict.fromkeys(one.part for one in rows):
        mine = [one for one in rows if one.part == part]
        subjects = "; ".join(
            f"{one.subject} {one.tried:,}" + (f" (**{one.wrong:,} wrong**)" if one.wrong else "")
            for one in mine
        )
        tried, wrong = sum(one.tried for one in mine), sum(one.wrong for one in mine)
        lines.append(f"| {part} | {tried:,} | {f'**{wrong:,}**' if wrong else 0} | {subjects} |")
    found = record["versions"]
    lines += [
        "",
        f"The {record['form']} form, seed {record['seed']}, commit {found['commit']},"
        f" Python {found['python']}, numpy {found['numpy']}.",
    ]
    return "\n".join(lines)
