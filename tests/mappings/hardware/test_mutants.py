"""Mutants of the hardware: each is one small fault in its description, and the fast tests must see it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RTL = Path("mappings/hardware/rtl")

# file, what stands there once, what is put in its place
MUTANTS = [
    ("random_bits.py", "[wanted + 1, self.step, ", "[wanted, self.step, "),
    ("random_bits.py", "[wanted + 1, self.step, ", "[wanted + 1, self.step[:32], "),
    ("random_bits.py", "self.step[32:], Cat(", "Const(0, 32), Cat("),
    ("random_bits.py", "Const(0, 12), self.purpose", "self.purpose, Const(0, 12)"),
    ("random_bits.py", "self.seed[:32], self.seed[32:]]", "self.seed[:32], self.seed[:32]]"),
    ("random_bits.py", "Cat(Const(i, 1), wanted)", "Cat(wanted, Const(i, 1))"),
    ("random_bits.py", "0xCD9E8D57)", "0xCD9E8D56)"),
    ("random_bits.py", "0xBB67AE8584CAA73B", "0xBB67AE8584CAA73A"),
    ("random_bits.py", "ROUNDS = 10", "ROUNDS = 5"),
    ("random_bits.py", "(outstanding != self.depth)", "(outstanding != self.depth - 1)"),
    ("random_bits.py", "16, 18, 17, 16, 17, 16)", "16, 17, 17, 16, 17, 16)"),
    ("random_bits.py", "(of_sums - least - most)", "(of_sums - least - most - 1)"),
    ("random_bits.py", "Mux(second, two, one)", "Mux(second, one, two)"),
    ("layer.py", "x << i, 0) for i in range(len(y))", "x << i, 0) for i in range(len(y) - 1)"),
    ("tracker.py", "reached >= self.exponent", "reached > self.exponent"),
    ("tracker.py", "self.below + 1 >= self.hold", "self.below >= self.hold"),
    ("tracker.py", "go & (reached != UNKNOWN)", "go"),
    ("tracker.py", "(1 << (2 * m - 1)) + 1", "(1 << (2 * m - 1))"),
    ("neurons.py", "(tie_or_more & above_tie)", "tie_or_more"),
    ("neurons.py", "self.active.eq(z > 0)", "self.active.eq(z >= 0)"),
    ("neurons.py", "self.saturated.eq(z > (top << shift))", "self.saturated.eq(z >= (top << shift))"),
    ("neurons.py", "shifted[0] & (sticky | shifted[1])", "shifted[0] & shifted[1]"),
    (
        "neurons.py",
        "Mux(rounded > top, top, rounded))\n        m.d.sync += self.e",
        "rounded)\n        m.d.sync += self.e",
    ),
    ("neurons.py", "code.d.eq(Mux(saturated, 0, self.d))", "code.d.eq(self.d)"),
    ("neurons.py", "e.eq(Mux(live[-1], code.e, 0))", "e.eq(code.e)"),
    ("neurons.py", "valid[-1] & (abs(e) > self.e_peak)", "valid[-1] & (code.e > self.e_peak)"),
    ("neurons.py", "any_write.data.eq(gathered.any())", "any_write.data.eq(e.any())"),
    ("loss.py", "lead * MARGIN_UNITS >= ", "lead * MARGIN_UNITS > "),
    ("loss.py", "~seen | (place == 0) | (self.z > best)", "~seen | (self.z > best)"),
    ("loss.py", "past = right == (error > 0)", "past = right == (error > 1)"),
    ("axons.py", "met.eq(count != 0)", "met.eq(1)"),
    ("axons.py", "(self.place < count) & (index == walk.row)", "index == walk.row"),
    ("axons.py", "has_drawn & (drawn == block)", "drawn == block"),
    (
        "axons.py",
        "met & self.updates & self.any & ~forward",
        "met & self.updates & ~forward",
    ),
    ("axons.py", "magnitude > peak", "self.spike > peak"),
    ("axons.py", "token.lane.eq(number)", "token.lane.eq(0)"),
    ("synapses.py", "self.token.last & (gap != 0)", "self.token.last & (gap > 1)"),
    ("synapses.py", "(s > shape.half, s < -shape.half)", "(s >= shape.half, s < -shape.half)"),
    ("synapses.py", "Mux(at[3].first, 0, total) + part", "total + part"),
    ("synapses.py", "quotient + r[i] >= WHOLE", "quotient + r[i] > WHOLE"),
    ("synapses.py", "factor.eq(Mux(scaled > WHOLE, WHOLE, scaled))", "factor.eq(scaled)"),
    ("synapses.py", "(code < 0) ^ (at[2].a < 0)", "(code < 0) ^ (at[3].a < 0)"),
    ("synapses.py", "Mux(low, -shape.bound, moved)", "Mux(low, -shape.bound - 1, moved)"),
    ("synapses.py", "r[i] < threshold", "r[i] <= threshold"),
    ("synapses.py", "(size + ((1 << right) - 1)[:16]) >> right", "size >> right"),
    ("synapses.py", "pair[1] ^ (at[4].a < 0)", "pair[1]"),
    ("direct_feedback.py", "at.eq(at + shape.words_a_row)", "at.eq(at + 1)"),
    ("axons.py", "going.eq(arriving)", "going.eq(following)"),
    ("axons.py", "leaving.eq(leaving + self.leave)", "leaving.eq(leaving)"),
    ("neurons.py", "used.eq(used + self.leave)", "used.eq(came)"),
    ("loss.py", "former.eq(slot)", "former.eq(slot + 1)"),
    ("loss.py", "right.eq(here == self.sent_label)", "right.eq(here == self.label)"),
    ("core.py", "range(2 * L - i + 1, 2 * L + 1)", "range(2 * L - i, 2 * L + 1)"),
    ("core.py", "present[2 * L - i] & ~learns[2 * L - i]", "0"),
    ("core.py", "loss.label.eq(labels[L - 1])", "loss.label.eq(bus.label)"),
    ("layer.py", "tracker.step.eq(finish & ~self.frozen)", "tracker.step.eq(finish)"),
    ("layer.py", "learns &= self.gradient_tracker.exponent != UNKNOWN", "pass"),
    ("layer.py", "Mux(synapses.draw, POST, PRE)", "Mux(synapses.draw, PRE, POST)"),
    ("layer.py", "(axons.a_peak, errors.e_peak)", "(axons.a_peak, errors.codes[:7])"),
    ("core.py", "m.d.sync += step.eq(step + 1)", "m.d.sync += step[:32].eq(step[:32] + 1)"),
    ("core.py", "source.layer.eq(turn + self.shapes[0].index)", "source.layer.eq(self.shapes[0].index)"),
    ("core.py", "source.layer.eq(turn + self.shapes[0].index)", "source.layer.eq(turn)"),
    ("core.py", "heard == self.shapes[-1].outputs - 1", "heard == self.shapes[-1].outputs - 2"),
    ("core.py", "up.word.eq(bus.sample)", "up.word.eq(bus.sample[:16])"),
    ("core.py", "down.ends.eq(quiet)", "down.ends.eq(0)"),
    (
        "core.py",
        'with m.State("NO ERROR"):\n                m.d.comb += bus.count_step.eq(1)',
        'with m.State("NO ERROR"):\n                m.d.comb += bus.count_step.eq(0)',
    ),
    ("core.py", "link.ready.eq(self.idle)", "link.ready.eq(1)"),
    ("links.py", "queue.w_en.eq(self.valid | self.ends)", "queue.w_en.eq(self.valid)"),
    ("linked.py", "answer | core.answer", "core.answer"),
    ("linked.py", "busy | core.busy", "core.busy"),
    ("layer.py", "return (came | errors.done) & self.turn", "return came | errors.done"),
    ("convolution.py", "(total > most)", "(total >= most)"),
    ("convolution.py", "(at[4].winner == 0) | (total > most)", "total > most"),
    ("convolution.py", "won.word_select(i, 2 * p) == wanted", "won.word_select(i, 2 * p) != wanted"),
    ("convolution.py", 'here["oy"] + here["ky"] - top', 'here["oy"] + here["ky"]'),
    ("convolution.py", 'down["x"] + left - down["kx"]', 'down["x"] + left + down["kx"]'),
    ("convolution.py", "(iy >= 0) & (iy < height)", "(iy < height)"),
    ("convolution.py", "(px >= 0) & (px < columns)", "(px >= 0)"),
    ("convolution.py", "Mux(self.forward, shape.lanes - 1, ", "Mux(self.forward, 0, "),
    ("convolution.py", "shape.lanes - 1, shape.lanes + 8)", "shape.lanes - 1, 0)"),
    ("convolution.py", "self.updates & (sub == 0))", "self.updates)"),
    ("convolution.py", "(waits & ~last)", "waits"),
    ("convolution.py", "quotient + bits[1] >= WHOLE", "quotient + bits[1] > WHOLE"),
    ("convolution.py", "Mux(up[1], 1, -1)", "Mux(up[0], 1, -1)"),
    ("convolution.py", "Mux(low, -shape.bound, moved)", "Mux(low, -shape.bound - 1, moved)"),
    ("convolution.py", "valid[0] & (size > self.g_peak)", "valid[0] & (G > self.g_peak)"),
    ("convolution.py", "sweep != shape.inputs - 1", "sweep != shape.inputs - 2"),
    ("convolution.py", "tracker.step.eq(~self.frozen)", "tracker.step.eq(1)"),
    ("convolution.py", "tracker.exponent != UNKNOWN", "1"),
    ("core.py", "turn.eq(max(0, i - 1))", "turn.eq(0)"),
    ("serial.py", "self.divisor + self.divisor // 2 - 2", "self.divisor * 2 - 1"),
]


@pytest.mark.slow
@pytest.mark.parametrize("mutant", range(len(MUTANTS)))
def test_every_mutant_is_killed(mutant, tmp_path):
    pytest.importorskip("amaranth", reason="the extra wage-neuro[rtl]")
    name, old, new = MUTANTS[mutant]
    for folder in ("wage_neuro", "processes", "mappings", "tests/mappings/hardware"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "conftest.py", "tests/conftest.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    path = tmp_path / RTL / name
    text = path.read_text()
    assert text.count(old) == 1, f"{name}: {old!r} stands there {text.count(old)} times"
    path.write_text(text.replace(old, new))
    tests = [f"tests/mappings/hardware/test_{part}.py" for part in ("parts", "chain", "core")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 1, f"survived: {done.stdout[-300:]}"
