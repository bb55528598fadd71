"""Channels of three kinds: the same messages in the same order, and no failure lost with any of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("lava", reason="lava-nc is not installed")

from scipy.sparse import csr_matrix

from mappings.engines.lava import channels
from mappings.engines.lava.channels import CHANNELS, GreenChannel, SemaphoreChannel, choose
from mappings.engines.lava.engine import LavaEngine, LavaOptions
from mappings.engines.lava.shared_memory import AnonymousMemory
from processes.layer_process import PyWageLayerModelFixed
from wage_neuro import Dense, Network, NumpyEngine, Rules
from wage_neuro.errors import EngineError, SettingError

NETWORK, RULES = (
    Network((Dense(12), Dense(3)), (10,)),
    Rules(batch=8, shift="held", update="ternary", pipelined=True),
)
IMAGES, LABELS = np.full((16, 10), 200, np.uint8), np.arange(16) % 3
GREEN = pytest.param(
    "one process", marks=pytest.mark.skipif(not channels.find_spec("greenlet"), reason="no greenlet")
)
KINDS = ["stock", "semaphore", GREEN]


class Infrastructure:
    smm = AnonymousMemory()


class Watchdog:
    def __init__(self):
        self.times = 0

    def __enter__(self):
        self.times += 1

    def __exit__(self, *error):
        return None


def channel(kind, shape=(3,), dtype=np.int32, size=2):
    dogs = [Watchdog() for _ in range(4)]
    made = kind(Infrastructure, "from", "to", shape, dtype, size, *dogs)
    made.src_port.start()
    made.dst_port.start()
    return made.src_port, made.dst_port, dogs


@given(st.lists(st.sampled_from(["send", "receive", "look"]), max_size=40), st.integers(1, 3))
@pytest.mark.parametrize("kind", [SemaphoreChannel, GreenChannel])
def test_messages_come_in_order(kind, acts, size):
    send, receive, _ = channel(kind, size=size)
    sent, waiting = 0, []
    for act in acts:
        assert send.probe() == (len(waiting) < size)
        assert receive.probe() == bool(waiting)
        if act == "send" and len(waiting) < size:
            message = np.array([sent, -sent, 7.9])
            send.send(message)
            message[:] = 0  # what is sent is a copy
            waiting.append(sent)
            sent += 1
        elif act != "send" and waiting:
            found = receive.recv() if act == "receive" else receive.peek()
            assert (found.dtype, found.tolist()) == (np.int32, [waiting[0], -waiting[0], 7])
            found[:] = 0
            waiting = waiting[act == "receive" :]


@pytest.mark.parametrize("kind", [SemaphoreChannel, GreenChannel])
def test_forms_of_messages(kind):
    send, receive, _ = channel(kind)
    assert (send.name, receive.name, send.shape, receive.d_type, send.size) == (
        "from",
        "to",
        (3,),
        np.int32,
        2,
    )
    with pytest.raises(AssertionError, match=r"port from: a message of shape \(4,\), want \(3,\)"):
        send.send(np.zeros(4))
    assert not receive.probe()
    send, receive, _ = channel(kind, shape=(1, 3))
    with pytest.raises(AssertionError, match=r"shape \(3, 1\)"):
        send.send(csr_matrix(np.ones((3, 1))))
    send.send(csr_matrix(np.array([[1, 2, 3]])))
    assert receive.recv().tolist() == [[1, 2, 3]]
    send, receive, _ = channel(kind, shape=(1,), dtype=4)  # Lava's own number of int32
    send.send(np.array([70000]))
    assert receive.recv().dtype == np.int32


def test_watchdogs_watch_what_waits():
    send, receive, dogs = channel(SemaphoreChannel, size=1)
    send.send(np.arange(3))
    threading.Timer(0.05, receive.recv).start()
    send.send(np.arange(3))  # waits for room
    receive.recv()
    threading.Timer(0.05, send.send, (np.arange(3),)).start()
    assert receive.recv().tolist() == [0, 1, 2]
    assert [dog.times for dog in dogs] == [1, 0, 1, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits(kind, nothing_left, assert_same_state, descendants):
    oracle = NumpyEngine(NETWORK, RULES)
    before = descendants()
    with LavaEngine(NETWORK, RULES, options=LavaOptions(channels=kind)) as engine:
        assert len(descendants() - before) == (1 if kind == "one process" else 5)
        for _ in range(2):
            assert np.array_equal(engine.train(IMAGES, LABELS, 3), oracle.train(IMAGES, LABELS, 3))
            assert np.array_equal(engine.predict(IMAGES[:5]), oracle.predict(IMAGES[:5]))
            assert_same_state(oracle.state, engine.state)


@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_model_is_told_by_name(kind, nothing_left, monkeypatch):
    def broken(self):
        if self.layer.index == 1:
            raise ArithmeticError("made to fail")

    monkeypatch.setattr(PyWageLayerModelFixed, "run_lrn", broken)
    with LavaEngine(NETWORK, RULES, options=LavaOptions(channels=kind)) as engine:
        begun = time.monotonic()
        with pytest.raises(EngineError, match=r"^layer 1 3FC: ArithmeticError: made to fail$"):
            engine.train(IMAGES, LABELS, 0)
        assert time.monotonic() - begun < 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_process_is_told(kind, nothing_left):
    with LavaEngine(NETWORK, RULES, options=LavaOptions(channels=kind)) as engine:
        victim = engine._graph._children.living[0]
        assert (victim.told_as == "all Processes in one") == (kind == "one process")
        threading.Timer(0.2, os.kill, (victim.pid, signal.SIGKILL)).start()
        begun = time.monotonic()
        with pytest.raises(EngineError, match=rf"^{victim.told_as}: was killed \(SIGKILL\)"):
            engine.train(np.tile(IMAGES, (20000, 1)), np.tile(LABELS, 20000), 0)
        assert time.monotonic() - begun < 10


@pytest.mark.parametrize("kind", KINDS[2:])
def test_who_waits_for_ever_is_told(kind, nothing_left, monkeypatch):
    """With the others it is not known: what a Process waits for may yet come."""
    monkeypatch.setattr(PyWageLayerModelFixed, "_send", lambda self: None)
    with (
        LavaEngine(NETWORK, RULES, options=LavaOptions(channels=kind)) as engine,
        pytest.raises(EngineError, match=r"no Process can go on: .*layer 1 3FC waits for a message at a_in"),
    ):
        engine.predict(IMAGES)


@pytest.mark.parametrize(
    ("asked", "external", "greenlet", "found"),
    [
        ("auto", False, True, "one process"),
        ("auto", True, True, "semaphore"),
        ("auto", False, False, "semaphore"),
        ("stock", True, False, "stock"),
        ("one process", False, True, "one process"),
        ("one process", True, True, "waits outside"),
        ("one process", False, False, "greenlet is not installed"),
        ("fast", False, True, f"channels='fast': want auto, {' or '.join(CHANNELS)}"),
    ],
)
def test_which_channels_a_graph_takes(asked, external, greenlet, found, monkeypatch):
    monkeypatch.setattr(channels, "find_spec", lambda name: greenlet or None)
    fails = pytest.raises((EngineError, SettingError), match=found)
    with nullcontext() if found in CHANNELS else fails:
        assert choose(asked, external) == found
