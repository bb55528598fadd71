"""A slowed link: packets are late by what its latency and bandwidth say, in order; nothing stays."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from experiments.benchmarks import scaling, slow_links
from experiments.benchmarks.slow_links import NAMES, carry, slow_link
from mappings.cluster.cost import Link
from wage_neuro.errors import EngineError


def test_packets_are_late():
    with ExitStack() as held:
        (a, one), (other, b) = (socket.socketpair(type=socket.SOCK_DGRAM) for _ in range(2))
        for each in (a, one, other, b):
            held.enter_context(each)
        stop, tell = os.pipe()
        link = Link(latency=0.05, bandwidth=1e5)
        thread = threading.Thread(target=carry, args=((one.fileno(), other.fileno()), link, stop))
        thread.start()
        try:
            began = time.monotonic()
            a.send(b"x" * 5000)
            a.send(b"y" * 5000)
            b.send(b"z")
            assert a.recv(100) == b"z"
            back = time.monotonic() - began
            assert b.recv(9000) == b"x" * 5000
            first = time.monotonic() - began
            assert b.recv(9000) == b"y" * 5000
            second = time.monotonic() - began
        finally:
            os.write(tell, b".")
            thread.join()
            os.close(stop)
            os.close(tell)
    # never early; late by what a busy machine is
    assert 0.05 <= back < first
    assert first >= 0.1
    assert 0.15 <= second < 2


def namespaces():
    done = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True)
    return {line.split()[0] for line in done.stdout.splitlines()}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="wants root")
def test_ranks_on_a_slowed_link(monkeypatch):
    pytest.importorskip("mpi4py")
    monkeypatch.setattr(scaling, "SLOWED", (Link(0.02, 12.5e6),))
    monkeypatch.setattr(scaling, "ON_LINKS", (("mlp", "ternary"),))
    here, slowed = scaling.links_rows(1)
    assert not namespaces() & set(NAMES)
    assert (here["latency"], here["Mb/s"], here["bytes on the wire"]) == (0, None, 0)
    assert (slowed["latency"], slowed["Mb/s"]) == (0.02, 100)
    assert slowed["bytes sent"] == here["bytes sent"]
    assert slowed["bytes sent"] < slowed["bytes on the wire"] < 1.2 * slowed["bytes sent"]
    assert slowed["seconds"] > scaling._load_of(slowed).rounds * 0.02 + slowed["bytes sent"] / 12.5e6
    with slow_link(Link(0.001, 1e6), "mpiexec"):
        assert set(NAMES) <= namespaces()
        refused = r"^ip netns add wage-a: .*File exists; want root, and iproute2$"
        with pytest.raises(EngineError, match=refused), slow_link(Link(0.001, 1e6), "mpiexec"):
            pass


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("no-such-command",), r"^no-such-command: no such command; want iproute2$"),
        (("sh", "-c", "echo not allowed >&2; exit 2"), r"^sh -c .*: not allowed; want root, and iproute2$"),
    ],
)
def test_what_is_not_to_be_had(words, line):
    with pytest.raises(EngineError, match=line):
        slow_links._do(*words)
