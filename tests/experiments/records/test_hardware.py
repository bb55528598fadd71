"""The hardware's table: what was simulated beside what was routed of the same core."""

from __future__ import annotations

import json

import pytest

from experiments.records.hardware import hardware_table

CORE = {"network": "6-4-3", "lanes": [4, 1], "multipliers": 2, "rules": {}}
SIMULATED = {**CORE, "data": "digits", "simulated samples": 12, "simulated cycles a sample": 500.0}
ROUTED = {
    **CORE,
    "part": "FPGA",
    "routed MHz": 60.0,
    "cells": {"LUT4": "90 of 100", "block RAM (18 kbit)": "1 of 2", "multipliers (18 x 18)": "3 of 4"},
    "tools": {"router": "1.2"},
}


def table(tmp_path, *records):
    (tmp_path / "rtl").mkdir()
    for i, record in enumerate(records):
        (tmp_path / "rtl" / f"{i}.json").write_text(json.dumps(record))
    return hardware_table(tmp_path).splitlines()


def test_clock_and_cycles_of_one_core_meet(tmp_path):
    """Another core was simulated alone, and a third one, of other random bits, routed alone."""
    head, rule, *rows, empty, said = table(
        tmp_path,
        SIMULATED,
        ROUTED,
        {**SIMULATED, "multipliers": 1, "difference": None},
        {**ROUTED, "rules": {"generator": "philox4x32"}},
    )
    assert rows == [
        "| 6-4-3 | philox4x64 | 4 and 1 | 2 | 12 of digits | 500.0"
        " | FPGA | 60.0 | 90 / 100 | 1 / 2 | 3 / 4 | 120,000 |",
        "| 6-4-3 | philox4x64 | 4 and 1 | 1 | 12 of digits | 500.0 | | | | | | |",
        "| 6-4-3 | philox4x32 | 4 and 1 | 2 | | | FPGA | 60.0 | 90 / 100 | 1 / 2 | 3 / 4 | |",
    ]
    assert {line.count("|") for line in (head, rule, *rows)} == {13}
    assert (empty, said) == ("", "Routed with router 1.2; the clock is the router's own timing model's.")


def test_linked_cores_have_the_clock_of_the_slowest(tmp_path):
    linked = {"layers of each core": [1, 2]}
    fast = {"routed MHz": 60.0, "cells": {"LUT4": "90 of 100"}}
    slow = {"routed MHz": 50.0, "cells": {"LUT4": "7 of 100"}}
    routed = {**{k: v for k, v in ROUTED.items() if k not in fast}, **linked, "routed cores": [fast, slow]}
    rows = table(tmp_path, SIMULATED, {**SIMULATED, **linked}, routed)[2:4]
    assert rows[0].endswith("| 12 of digits | 500.0 | | | | | | |")
    assert rows[1] == (
        "| 6-4-3, 1 + 2 layers on linked cores | philox4x64 | 4 and 1 | 2 | 12 of digits | 500.0"
        " | FPGA | 50.0 | 90 / 100 + 7 / 100 | 100,000 |"
    )


def test_a_core_that_differed_has_no_place_in_a_table(tmp_path):
    with pytest.raises(AssertionError, match="6-4-3"):
        table(tmp_path, {**SIMULATED, "difference": "step 1, layer 0"})
