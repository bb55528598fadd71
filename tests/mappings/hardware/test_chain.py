"""Several cores with links, each with some of the layers: the bits of one, as the numpy engine has them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="the extra wage-neuro[rtl]")

from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out

from mappings.hardware.rtl.chain import parts_of
from mappings.hardware.rtl.core import NeuroCore
from mappings.hardware.rtl.driver import Driver
from mappings.hardware.rtl.engine import RtlEngine, RtlOptions
from mappings.hardware.rtl.linked import LinkedCores
from mappings.hardware.rtl.links import LINK, Outbox
from mappings.hardware.rtl.python_simulation import PythonSimulation
from mappings.hardware.rtl.serial import Board
from mappings.hardware.rtl.shape import shapes
from wage_neuro import Dense, Network, NumpyEngine, initial_state
from wage_neuro.control import Control
from wage_neuro.errors import SettingError

NETWORK = Network((Dense(6), Dense(4), Dense(3)), (9,))


def network_of(*sizes: int, inputs: int = 8) -> Network:
    return Network(tuple(map(Dense, sizes)), (inputs,))


@pytest.mark.parametrize(
    ("cores", "changes", "controls"),
    [
        (2, {}, [3, Control(log2_eta=(1, None, 2), hold=(3, 9, 2))]),
        (3, {"feedback": "random", "generator": "philox4x32"}, [2]),
        (3, {"update": "coincidence", "margin": 1}, [3, 0]),
    ],
)
def test_linked_cores_give_the_numpy_engines_bits(cores, changes, controls, contest, strict):
    made = shapes(NETWORK, strict(**changes))
    parts = parts_of(made, NETWORK, cores)
    assert len(parts) == cores
    driver = Driver(PythonSimulation(LinkedCores(parts)), made)
    oracle = contest(driver, NETWORK, strict(**changes), controls, samples=5)
    begin = initial_state(NETWORK, 7)
    assert all((a != b).any() for a, b in zip(oracle.state.S[:1], begin.S[:1], strict=True)), "nothing moved"
    assert driver.samples == 5 * len(controls) + 1
    assert 0 < driver.sample_cycles < driver.cycles


def test_a_kernel_and_the_layer_above_it_on_cores_of_their_own(contest, strict):
    """Its core forgets a sample while the next one may already wait for it."""
    network = Network.parse("2C2-MP2", (4, 4, 1), 3)
    rules = strict(loss="sse", margin=0)
    made = shapes(network, rules)
    driver = Driver(PythonSimulation(LinkedCores(parts_of(made, network, 2))), made)
    contest(driver, network, rules, [3], samples=4)


def test_an_engine_of_several_cores(strict, assert_same_state, sparse_images):
    images, labels = sparse_images(6, NETWORK.input_shape, 3)
    oracle = NumpyEngine(NETWORK, strict(), seed=5)
    with RtlEngine(NETWORK, strict(), seed=5, options=RtlOptions(simulator="python", cores=2)) as engine:
        assert np.array_equal(engine.train(images, labels, 2), oracle.train(images, labels, 2))
        assert np.array_equal(engine.predict(images), oracle.predict(images))
        assert_same_state(engine.state, oracle.state)
        assert engine.cycles > 0


class Loop(Component):
    """An outbox whose link the bench takes from."""

    def __init__(self) -> None:
        names = {"valid": In(1), "word": In(32), "ends": In(1), "take": In(1)}
        super().__init__({**names, "offered": Out(1), "out": Out(32), "end": Out(1), "waits": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        link = LINK.create()
        box = Outbox(m, "box", link, room=5)
        m.d.comb += [
            *(getattr(box, name).eq(getattr(self, name)) for name in ("valid", "word", "ends")),
            link.ready.eq(self.take),
            self.offered.eq(link.valid),
            self.out.eq(link.payload.word),
            self.end.eq(link.payload.ends),
            self.waits.eq(box.waits),
        ]
        return m


@pytest.mark.parametrize("seed", range(3))
def test_a_link_loses_and_doubles_nothing_however_slow_its_taker(seed, cycles):
    rng = np.random.default_rng(seed)
    words = [int(w) for w in rng.integers(0, 2**32, 4)]
    inputs: list[dict[str, int]] = [{"valid": 1, "word": w} for w in words]
    inputs.append({"ends": 1, "word": 0xFFFFFFFF})
    takes = rng.integers(0, 2, 40).tolist() + [1] * 10
    inputs = [{**(inputs[i] if i < len(inputs) else {}), "take": take} for i, take in enumerate(takes)]
    found = cycles(Loop(), inputs, ["offered", "out", "end", "waits"])
    messages = zip(found["out"], found["end"], strict=True)
    gone = [a and b for a, b in zip(found["offered"], takes, strict=False)]
    taken = [message for message, left in zip(messages, gone, strict=False) if left]
    assert taken == [*((word, 0) for word in words), (0xFFFFFFFF, 1)]
    assert found["waits"] == found["offered"]


def test_a_board_of_a_linked_core_has_its_links_as_wires(strict):
    _, part, _ = parts_of(shapes(NETWORK, strict()), NETWORK, 3)
    text = rtlil.convert(Board(NeuroCore(part), 4), name="top", emit_src=False)
    top = text[text.index("module \\top\n") :]
    found = re.findall(r"wire (?:width \d+ )?(input|output) \d+ +\\(\w+)", top[: top.index("\nend")])
    sent = [("output", "payload"), ("input", "ready"), ("output", "valid")]
    heard = [("input", "payload"), ("output", "ready"), ("input", "valid")]
    links = [(way, f"to_{side}__{name}") for side in ("above", "below") for way, name in sent]
    links += [(way, f"from_{side}__{name}") for side in ("above", "below") for way, name in heard]
    line = [("input", "clk"), ("input", "rx"), ("output", "busy"), ("output", "tx")]
    assert sorted(found) == sorted([*links, *line])


@pytest.mark.parametrize(
    ("sizes", "cores", "layers"),
    [
        ((30, 4, 4, 4), 2, [1, 3]),
        ((4, 4, 30, 4), 2, [3, 1]),
        ((4, 30, 8, 2), 2, [2, 2]),
        ((4, 4, 4), 3, [1, 1, 1]),
        ((4, 4), 1, [2]),
    ],
)
def test_the_fullest_core_has_the_least(sizes, cores, layers, strict):
    network = network_of(*sizes)
    parts = parts_of(shapes(network, strict()), network, cores)
    assert [len(part) for part in parts] == layers
    assert [shape.index for part in parts for shape in part] == list(range(len(sizes)))


@pytest.mark.parametrize(
    ("network", "device", "layers"),
    [
        (network_of(128, 128, 10, inputs=784), "ecp5-25k", [1, 2]),
        (network_of(128, 128, 10, inputs=784), "ecp5-85k", [3]),
        (network_of(128, 128, 128, 128, 10, inputs=256), "ice40up5k", None),
        (network_of(64, 64, 64, 64, 10, inputs=128), "ice40up5k", [2, 3]),
    ],
)
def test_the_placer_says_which_device_has_which_layers(network, device, layers, strict):
    made = shapes(network, strict())
    if layers is None:
        message = "^cores=ice40up5k: layer 0 takes 3, and the rtl core has a layer whole$"
        with pytest.raises(SettingError, match=message):
            parts_of(made, network, device)
        return
    parts = parts_of(made, network, device)
    assert [len(part) for part in parts] == layers
    assert [shape for part in parts for shape in part] == list(made)


@pytest.mark.parametrize(
    ("cores", "changes", "message"),
    [
        (4, {}, "cores=4: want 1..3, a layer or more on each"),
        (0, {}, "cores=0: want 1..3, a layer or more on each"),
        ("vu9p", {}, "device 'vu9p': want ice40up5k, ecp5-25k, ecp5-85k"),
        (2, {"feedback": "direct"}, "feedback='direct': the rtl core on several cores has"),
        (2, {"pipelined": True, "batch": 4}, "pipelined=True: the rtl core on several cores has False only"),
    ],
)
def test_what_a_chain_has_not(cores: Any, changes, message, strict):
    with pytest.raises(SettingError) as found:
        parts_of(shapes(NETWORK, strict(**changes)), NETWORK, cores)
    assert str(found.value).startswith(message)
