"""The core in standard cells: what is read from the tools' files."""

from __future__ import annotations

import pytest

pytest.importorskip("amaranth", reason="the extra wage-neuro[rtl]")

from experiments.studies import asic
from mappings.hardware.rtl import tools

VCD = """\
$timescale 10ps $end
$scope module core $end
$var wire 1 ! clk $end
$var wire 1 " _7_ $end
$var wire 32 # write_data [31:0] $end
$upscope $end
$enddefinitions $end
#0
$dumpvars
0!
0"
b0 #
$end
$dumpoff
x!
x"
bx #
$end
#100
$dumpon
0!
1"
b0 #
$end
#500
1!
#1000
0!
0"
b1 #
#1500
1!
0"
#2000
0!
#2500
$dumpoff
x!
x"
bx #
$end
"""


def test_toggles_are_counted_while_samples_are_learned(tmp_path):
    """Neither what nets are as counting begins, nor the unknown values that end it; nor a repeated value."""
    (tmp_path / "core.vcd").write_text(VCD)
    assert asic.count_toggles(tmp_path / "core.vcd") == ({"clk": 4, "_7_": 1}, 2)


@pytest.fixture
def sta(tmp_path, monkeypatch):
    """OpenSTA that is asked of a netlist of two cells; returns what it was asked."""
    (tmp_path / "netlist.v").write_text(
        "module top(clk, a, z);\n  NAND2X1 _1_ (\n    .A(a),\n    .B(_8_),\n    .Y(_9_)\n  );\n"
        "  DFFPOSX1 _2_ (\n    .CLK(clk),\n    .D(_9_),\n    .Q(_8_)\n  );\nendmodule\n"
    )
    asked = []

    def run(command, log, folder):
        asked.append((folder / "power.tcl").read_text())
        return answers[len(asked) - 1]

    answers = [
        f"              {slack}   slack (MET)\nTotal      1.0e-03   2.0e-03   3.0e-06   {power} 100.0%\n"
        for slack, power in (("4.50", "1.0"), ("0.00", "3.0e-03"))
    ]
    monkeypatch.setattr(tools, "find", lambda name: name)
    monkeypatch.setattr(tools, "run", run)
    return asked


def test_the_power_is_that_at_the_shortest_period(sta, tmp_path):
    period, power = asic.time_and_power(asic.Counter({"_9_": 30, "_8_": 5}), 100, tmp_path)
    assert (period, power) == (15.5, 3.0e-3)
    assert ["-period 20.0 " in sta[0], "-period 15.5 " in sta[1]] == [True, True]
    for line in (
        "set_power_activity -pins {_1_/Y} -activity 0.300000 -duty 0.5",
        "set_power_activity -pins {_2_/Q} -activity 0.050000 -duty 0.5",
    ):
        assert line in sta[1]
