"""Devices that a core can be put on: what is in them, and the commands that fill them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from wage_neuro.errors import SettingError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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
