"""Two network namespaces joined by a link of a latency and a bandwidth of choice, for MPI's ranks.

Packets of each end (a TUN device) are read here and given to the other one when the link would have carried
them. Wants root, `ip` of iproute2, and Linux.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mappings.cluster.cost import Link
from wage_neuro.errors import EngineError

NAMES = ("wage-a", "wage-b")
ADDRESSES = ("10.77.31.1", "10.77.31.2")
MTU = 9000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
# one host, as MPICH sees it: let its ranks not share memory
BY_TCP = ("env", "UCX_TLS=tcp,self", "MPIR_CVAR_NOLOCAL=1")


def carry(ends: Sequence[int], link: Link, stop: int) -> None:
    """Carry packets from each of two open files to the other, until `stop` can be read.

    A packet leaves when those before it have left, and is there `link.latency` after its last byte has left.
    """
    free, waiting = [0.0, 0.0], (deque[tuple[float, bytes]](), deque[tuple[float, bytes]]())
    while True:
        due = min((queue[0][0] for queue in waiting if queue), default=None)
        left = None if due is None else max(0.0, due - time.monotonic())
        ready = select.select([*ends, stop], [], [], left)[0]
        if stop in ready:
            return
        for i, end in enumerate(ends):
            if end in ready:
                packet = os.read(end, 1 << 16)
                free[i] = max(free[i], time.monotonic()) + len(packet) / link.bandwidth
                waiting[i].append((free[i] + link.latency, packet))
            while waiting[i] and waiting[i][0][0] <= time.monotonic():
                os.write(ends[1 - i], waiting[i].popleft()[1])


@contextmanager
def slow_link(link: Link, mpiexec: str) -> Iterator[list[str]]:
    """What starts two ranks, one at each end of such a link.

    Raises
    ------
    EngineError
        If namespaces or TUN devices are not to be had.
    """
    with contextlib.ExitStack() as held:
        ends = [held.enter_context(_end(*each)) for each in zip(NAMES, ADDRESSES, strict=True)]
        held.enter_context(_carried(ends, link))
        folder = held.enter_context(tempfile.TemporaryDirectory())
        launch = Path(folder) / "launch"
        launch.write_text(
            '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nhost=$1; shift\n'
            f'name={NAMES[1]}; [ "$host" = {ADDRESSES[0]} ] && name={NAMES[0]}\n'
            'exec ip netns exec $name sh -c "$*"\n'
        )
        launch.chmod(0o700)
        yield [
            *("ip", "netns", "exec", NAMES[0], mpiexec, "-launcher", "ssh"),
            *("-launcher-exec", str(launch), "-localhost", ADDRESSES[0], "-hosts", ",".join(ADDRESSES)),
            *("-n", "2", "-ppn", "1", *BY_TCP),
        ]


@contextmanager
def _end(name: str, address: str) -> Iterator[int]:
    """A namespace with an address, and the open file from which its packets are read."""
    _do("ip", "netns", "add", name)
    try:
        with contextlib.ExitStack() as held:
            end = os.open("/dev/net/tun", os.O_RDWR)
            held.callback(os.close, end)
            fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
            other = ADDRESSES[address == ADDRESSES[0]]
            _do("ip", "link", "set", name, "netns", name)
            _do("ip", "-n", name, "address", "add", address, "peer", other, "dev", name)
            _do("ip", "-n", name, "link", "set", name, "mtu", str(MTU), "txqueuelen", "10000", "up")
            _do("ip", "-n", name, "link", "set", "lo", "up")
            # each update would begin slowly, as if the ranks had just met
            _do("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.tcp_slow_start_after_idle=0")
            yield end
    except OSError as error:
        raise EngineError(f"/dev/net/tun: {error.strerror}; want root, and TUN devices") from None
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@contextmanager
def _carried(ends: Sequence[int], link: Link) -> Iterator[None]:
    stop, tell = os.pipe()
    thread = threading.Thread(target=_carry_first, args=(ends, link, stop))
    thread.start()
    try:
        yield
    finally:
        os.write(tell, b".")
        thread.join()
        os.close(stop)
        os.close(tell)


def _carry_first(ends: Sequence[int], link: Link, stop: int) -> None:
    with contextlib.suppress(
        PermissionError
    ):  # MPI's ranks spin where they wait, on as many cores as they are
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    carry(ends, link, stop)


def _do(*words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise EngineError(f"{words[0]}: no such command; want iproute2") from None
    if done.returncode:
        raise EngineError(f"{' '.join(words)}: {done.stderr.strip()}; want root, and iproute2")
