"""Whole small cores beside the numpy engine: logits, stored weights and exponents, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="the extra wage-neuro[rtl]")

from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out

from mappings.hardware.rtl.core import NeuroCore
from mappings.hardware.rtl.driver import Driver
from mappings.hardware.rtl.python_simulation import PythonSimulation, SimulatedLine
from mappings.hardware.rtl.serial import Receiver, Sender, SerialCore
from mappings.hardware.rtl.serial_bus import SerialBus
from mappings.hardware.rtl.shape import shapes
from wage_neuro import Dense, Network, NumpyEngine, initial_state
from wage_neuro.control import Control
from wage_neuro.errors import EngineError
from wage_neuro.train import Held, State

NARROW = {"generator": "philox4x32"}
# sizes, bits, signed, rules, (lanes, multipliers), controls
CASES = {
    "two layers": ("12-8-4", "2888", False, {}, (16, 1), [3, 0]),
    "one layer": ("9-5", "2888", False, {"loss": "sse", "margin": 0}, (16, 2), [2]),
    "three layers, the middle frozen": (
        "6-4-4-3",
        "2888",
        False,
        {},
        (2, 5),
        [2, Control(log2_eta=(1, None, 2), hold=(3, 9, 2))],
    ),
    "all frozen": ("6-4-3", "2888", False, {}, (16, 1), [3, Control(log2_eta=None), 3]),
    "signed inputs, sse, a margin": (
        "8-6-3",
        "2888",
        True,
        {"loss": "sse", "margin": 2, **NARROW},
        (16, 4),
        [2],
    ),
    "other widths": ("8-4-3", "2-6-5-10", True, {"stored_range": "paper", **NARROW}, (16, 1), [4]),
    "wide codes, small steps": ("6-4-3", "2-12-11-9", False, {"loss": "sse"}, (4, 10), [-2]),
    "k_G as narrow as k_W": ("8-4-3", "2828", False, {}, (16, 1), [0]),
    "coincidence": ("12-8-4", "2888", False, {"update": "coincidence"}, (16, 1), [3, 0]),
    "coincidence, narrow words": (
        "20-6-3",
        "2-6-7-9",
        True,
        {"update": "coincidence", "loss": "sse", **NARROW},
        (2, 2),
        [1],
    ),
    "random feedback": ("7-4-2-3", "2888", False, {"feedback": "random"}, (2, 1), [2]),
    "direct feedback": (
        "7-4-2-3",
        "2888",
        False,
        {"feedback": "direct"},
        (2, 1),
        [2, Control(log2_eta=(2, None, 1))],
    ),
    "direct feedback, coincidence": (
        "6-4-3",
        "2888",
        True,
        {"feedback": "direct", "update": "coincidence"},
        (16, 4),
        [3],
    ),
    "a row of several blocks": ("3-48-2", "2888", False, {}, (16, 1), [3]),
    "a kernel, its windows, and what no window has": ("5x7x1-4C3V-MP2-3", "2888", False, {}, (16, 1), [3, 2]),
    "a kernel above a kernel, which is frozen": (
        "3x4x2-2C2-2C2V-3",
        "2888",
        True,
        {"loss": "sse", "margin": 0, **NARROW},
        (2, 10),
        [3, Control(log2_eta=(None, 1, 2), hold=(3, 9, 2))],
    ),
    "a kernel of several words and blocks, large windows": (
        "4x5x1-24C2-MP4-3",
        "2-6-5-10",
        False,
        {"loss": "sse", "margin": 0, "stored_range": "paper"},
        (16, 5),
        [3],
    ),
    "a row of several blocks, narrow random bits": ("3-48-2", "2888", False, NARROW, (16, 1), [3]),
}


def network_of(sizes, bits="2888", signed=False):
    inputs, *hidden, classes = sizes.split("-")
    shape = tuple(map(int, inputs.split("x")))
    if not hidden:
        return Network((Dense(int(classes)),), shape, bits, signed)
    return Network.parse("-".join(hidden), shape, int(classes), bits, signed)


@pytest.mark.parametrize("case", CASES)
def test_core_gives_the_numpy_engines_bits(case, simulated, contest, strict):
    sizes, bits, signed, changes, (lanes, multipliers), controls = CASES[case]
    network, rules = network_of(sizes, bits, signed), strict(**changes)
    oracle = contest(simulated(network, rules, lanes, multipliers), network, rules, controls, samples=4)
    begin = initial_state(network, 7)
    assert any((a != b).any() for a, b in zip(oracle.state.S, begin.S, strict=True)), "nothing was learned"


def test_goes_on_from_the_middle_of_a_long_run(simulated, contest, strict):
    """All 64 bits of seed and step, a held exponent of every kind, a counter of 31 bits."""
    network, rules = network_of("6-4-3"), strict()
    state = State.of(
        initial_state(network, 2**64 - 3).S,
        seed=2**64 - 3,
        step=2**32 - 2,
        error_held=(Held(9, 1), Held(None, 0)),
        gradient_held=(Held(11, 2), Held(12, 2**31 - 2)),
    )
    longest = Control(log2_eta=3, hold=(2, 2**31 - 1))
    contest(simulated(network, rules), network, rules, [longest], 6, seed=5, state=state)


def test_an_error_of_nothing_ends_early_and_changes_nothing(simulated, strict):
    """Exactly a step is counted, and the layers below have not been walked."""
    network, rules = network_of("12-8-4"), strict(margin=1)
    oracle, driver = NumpyEngine(network, rules, seed=3), simulated(network, rules)
    driver.write_state(oracle.state)
    driver.set_control(3)
    images, labels = np.full((4, 12), 200, np.uint8), np.full(4, 1)
    took = []
    for i, x in enumerate(network.encode(images)):
        before = driver.sample_cycles
        driver.learn(x, 1)
        took.append(driver.sample_cycles - before)
        oracle.train(images[i : i + 1], labels[i : i + 1], 3)
    assert driver.read_state().step == 4
    assert all(np.array_equal(a, b) for a, b in zip(driver.read_state().S, oracle.state.S, strict=True))
    assert took[0] < max(took) / 2  # no exponent was known yet, so no error was sent


def test_a_sample_without_a_spike(simulated, contest, strict):
    network, rules = network_of("5-4-3"), strict(loss="sse", margin=0)
    driver, oracle = simulated(network, rules), NumpyEngine(network, rules)
    driver.write_state(oracle.state)
    driver.set_control(3)
    for pixel in (0, 255, 0, 0):
        image = np.full((1, 5), pixel, np.uint8)
        expected = oracle.train(image, np.array([2]), 3)[0]
        assert np.array_equal(driver.learn(network.encode(image)[0], 2), expected)
    assert driver.read_state().gradient_held == oracle.state.gradient_held


def test_over_a_serial_line_bit_by_bit(strict, assert_same_state):
    network, rules = network_of("3-2"), strict(loss="sse", margin=0)
    made = shapes(network, rules)
    driver = Driver(SerialBus(SimulatedLine(SerialCore(NeuroCore(made), 4))), made)
    oracle = NumpyEngine(network, rules, seed=2)
    driver.write_state(oracle.state)
    driver.set_control(4)
    images = np.array([[200, 0, 90], [255, 30, 0], [9, 255, 255]], np.uint8)
    for i, x in enumerate(network.encode(images)):
        expected = oracle.train(images[i : i + 1], np.array([i % 2]), 4)[0]
        assert np.array_equal(driver.learn(x, i % 2), expected)
    assert_same_state(driver.read_state(), oracle.state)
    assert (oracle.state.S[0] != initial_state(network, 2).S[0]).any()


@pytest.mark.parametrize("divisor", [4, 5, 16])
def test_bytes_pass_a_line_of_any_rate(divisor, cycles):
    class Loop(Component):
        """A sender whose line goes to a receiver."""

        def __init__(self):
            self.sender, self.receiver = Sender(divisor), Receiver(divisor)
            super().__init__({"valid": In(1), "byte": In(8), "ready": Out(1), "came": Out(1), "out": Out(8)})

        def elaborate(self, platform):
            m = Module()
            m.submodules += [self.sender, self.receiver]
            m.d.comb += [
                self.receiver.line.eq(self.sender.line),
                self.sender.valid.eq(self.valid),
                self.sender.byte.eq(self.byte),
                self.ready.eq(self.sender.ready),
                self.came.eq(self.receiver.valid),
                self.out.eq(self.receiver.byte),
            ]
            return m

    sent = [0, 255, 0x55, 0xAA, 1, 128]
    inputs = [
        {"valid": 1, "byte": sent[i // (10 * divisor + 1)]} for i in range(len(sent) * (10 * divisor + 1))
    ]
    found = cycles(Loop(), inputs, ["came", "out"], after=12 * divisor)
    assert [byte for byte, came in zip(found["out"], found["came"], strict=True) if came] == sent


def test_a_core_that_does_not_finish_is_told(simulated, strict):
    driver = simulated(network_of("6-4-3"), strict())
    driver.patience = 5
    with pytest.raises(EngineError, match=r"^simulated core: still busy after 5 cycles$"):
        driver.answer(np.full(6, 100))


def test_something_else_on_the_bus(simulated, strict):
    class Silent(PythonSimulation):
        def __init__(self):
            pass

        def read(self, addresses):
            return np.zeros(len(addresses), np.uint32)

    with pytest.raises(EngineError, match=r"^identity 0x0: no wage-neuro core on this bus, want 0x57414745$"):
        Driver(Silent(), shapes(network_of("6-4-3"), strict()))


def test_a_port_that_falls_silent(strict):
    class Deaf:
        def write(self, data):
            pass

        def read(self, size):
            return b"\x01"

        def close(self):
            pass

    with pytest.raises(EngineError, match=r"^serial line: 1 of 4 bytes came, then nothing$"):
        Driver(SerialBus(Deaf()), shapes(network_of("6-4-3"), strict()))
    with pytest.raises(
        EngineError, match=r"^serial line: b'\\x01' where the core should say that it is done$"
    ):
        SerialBus(Deaf()).wait(5)


@pytest.mark.parametrize(
    ("sizes", "changes", "control"),
    [
        ("8-6-4", {"batch": 7}, 3),
        ("6-4-3", {"batch": 6, "margin": 1, "hold": 2}, 3),
        ("5-4-3-2", {"batch": 4, "feedback": "random"}, Control(log2_eta=(2, None, 3), hold=(2, 3, 4))),
        ("6-4-3", {"batch": 5, "update": "coincidence", "loss": "sse", "margin": 0}, 2),
    ],
)
def test_pipelined(sizes, changes, control, simulated, strict, assert_same_state, sparse_images):
    """Several samples in flight, batches that drain, answers between them."""
    network, rules = network_of(sizes), strict(pipelined=True, **changes)
    oracle, driver = NumpyEngine(network, rules, seed=4), simulated(network, rules, multipliers=4)
    driver.write_state(oracle.state)
    driver.set_control(control)
    images, labels = sparse_images(3 * rules.batch, network.input_shape, network.classes)
    images = np.minimum(images, 205) + 50 * (images > 0).astype(np.uint8)
    x = network.encode(images)
    for first in range(0, len(x), rules.batch):
        part = slice(first, first + rules.batch)
        expected = oracle.train(images[part], labels[part], control)
        assert np.array_equal(driver.learn_all(x[part], labels[part]), expected)
        assert_same_state(driver.read_state(), oracle.state)
        assert np.array_equal(driver.answer_all(x[:2]), oracle.predict(images[:2]))
    assert any((a != b).any() for a, b in zip(oracle.state.S, initial_state(network, 4).S, strict=True))
