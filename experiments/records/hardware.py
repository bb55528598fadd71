"""The table of the hardware's README: learning cores in simulation, and what became of them on a device."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

COLUMNS = (
    "network",
    "random bits",
    "lanes",
    "multipliers",
    "samples",
    "cycles a sample",
    "routed on",
    "clock, MHz",
    "LUT4",
    "block RAM",
    "multipliers of 18 x 18 bits",
    "samples/s, calculated",
)


def hardware_table(folder: Path) -> str:
    """A row for each core: cycles of a sample; clock and cells of each device that it was routed on."""
    found = [json.loads(path.read_text()) for path in sorted((folder / "rtl").glob("*.json"))]
    differ = [record["network"] for record in found if record.get("difference")]
    assert not differ, f"records of cores that differ from numpy: {differ}"
    lines = [_line(COLUMNS), "|---" * len(COLUMNS) + "|"]
    for core in dict.fromkeys(map(_core, found)):
        records = [record for record in found if _core(record) == core]
        simulated = next((r for r in records if "simulated samples" in r), None)
        routed: list[dict[str, Any] | None] = [
            _joined(r) for r in records if {"routed MHz", "routed cores"} & r.keys()
        ]
        lines += [_line((*core, *_simulated(simulated), *_routed(r, simulated))) for r in routed or [None]]
    tools = {f"{tool} {number}" for record in found for tool, number in record.get("tools", {}).items()}
    said = f"Routed with {', '.join(sorted(tools))}; the clock is the router's own timing model's."
    return "\n".join([*lines, *(["", said] if tools else [])])


def _line(cells: Iterable[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def _core(record: dict[str, Any]) -> tuple[str, ...]:
    lanes = " and ".join(map(str, record["lanes"]))
    generator = record["rules"].get("generator", "philox4x64")
    layers = " + ".join(map(str, record.get("layers of each core", [])))
    network = record["network"] + (f", {layers} layers on linked cores" if layers else "")
    return network, generator, lanes, str(record["multipliers"])


def _joined(record: dict[str, Any]) -> dict[str, Any]:
    """Linked cores have one clock, that of the slowest; the cells are those of each device."""
    cores = record.get("routed cores")
    if not cores:
        return record
    cells = {name: " + ".join(core["cells"][name] for core in cores) for name in cores[0]["cells"]}
    return {**record, "routed MHz": min(core["routed MHz"] for core in cores), "cells": cells}


def _simulated(record: dict[str, Any] | None) -> tuple[str, str]:
    if record is None:
        return "", ""
    samples = f"{record['simulated samples']:,} of {record['data']}"
    return samples, f"{record['simulated cycles a sample']:,}"


def _routed(record: dict[str, Any] | None, simulated: dict[str, Any] | None) -> tuple[str, ...]:
    if record is None:
        return ("",) * 6
    clock, rate = record["routed MHz"], ""
    if simulated:
        rate = f"{1e6 * clock / simulated['simulated cycles a sample']:,.0f}"
    cells = (used.replace(" of ", " / ") for used in record["cells"].values())
    return record["part"], str(clock), *cells, rate
