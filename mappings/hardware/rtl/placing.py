"""Synthesis, placement, routing and a bitstream, by open tools; and what they found, as a report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amaranth.hdl import Elaboratable

from mappings.hardware.rtl import tools
from mappings.hardware.rtl.devices import Device, devices
from mappings.hardware.rtl.verilog import write_rtlil
from wage_neuro.errors import EngineError, SettingError

TOP = "top"


def synthesize(design: Elaboratable, device: Device, folder: Path) -> dict[str, int]:
    """Map a design to a device's cells; returns how many of each kind.

    Raises
    ------
    EngineError
        If Yosys is missing or fails.
    """
    yosys = write_rtlil(design, TOP, folder)
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
