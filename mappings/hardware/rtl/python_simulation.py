"""Simulation by Amaranth's own simulator: a few thousand cycles a second, and nothing to install."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from amaranth.sim import Simulator

from mappings.hardware.rtl.core import NeuroCore
from mappings.hardware.rtl.driver import Bus
from mappings.hardware.rtl.linked import LinkedCores
from mappings.hardware.rtl.registers import READ_CYCLES
from mappings.hardware.rtl.serial import SerialCore
from wage_neuro.errors import EngineError


class PythonSimulation(Bus):
    """A core's bus in Amaranth's simulator."""

    def __init__(self, core: NeuroCore | LinkedCores) -> None:
        self.core = core
        self._work: deque[Callable[[Any], Any]] = deque()
        self._simulator = Simulator(core)
        self._simulator.add_clock(1e-6)
        self._simulator.add_testbench(self._serve)

    def write(self, addresses: np.ndarray, words: np.ndarray) -> None:
        async def work(context: Any) -> None:
            context.set(self.core.write, 1)
            for where, word in zip(addresses.tolist(), words.tolist(), strict=True):
                context.set(self.core.write_address, where)
                context.set(self.core.write_data, word)
                await self._tick(context)
            context.set(self.core.write, 0)

        self._do(work)

    def read(self, addresses: np.ndarray) -> np.ndarray:
        found = []

        async def work(context: Any) -> None:
            # one address a cycle; its word follows READ_CYCLES later
            for where in addresses.tolist() + [0] * READ_CYCLES:
                context.set(self.core.read_address, where)
                found.append(context.get(self.core.read_data))
                await self._tick(context)

        self._do(work)
        return np.array(found[READ_CYCLES:], np.uint32)

    def wait(self, most: int) -> None:
        end = self.cycles + most

        async def work(context: Any) -> None:
            await self._tick(context)
            while context.get(self.core.busy) and self.cycles < end:
                await self._tick(context)

        self._do(work)
        if self.cycles >= end:
            raise EngineError(f"simulated core: still busy after {most} cycles")

    async def _tick(self, context: Any) -> None:
        await context.tick()
        self.cycles += 1

    async def _serve(self, context: Any) -> None:
        while True:
            while self._work:
                await self._work[0](context)
                self._work.popleft()
            await context.tick()

    def _do(self, work: Callable[[Any], Any]) -> None:
        self._work.append(work)
        while self._work:
            self._simulator.advance()


class SimulatedLine:
    """A serial line to a core in Amaranth's simulator, bit by bit; a `Port`."""

    def __init__(self, board: SerialCore) -> None:
        self.board = board
        self._out: deque[int] = deque()
        self._in: deque[int] = deque()
        self._simulator = Simulator(board)
        self._simulator.add_clock(1e-6)
        self._simulator.add_testbench(self._send, background=True)
        self._simulator.add_testbench(self._receive, background=True)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._out.extend(data)
        while self._out:
            self._simulator.advance()

    def read(self, size: int) -> bytes:
        """Return so many bytes that the core sends; fewer if it sends nothing for a long time."""
        patience = 200_000
        while len(self._in) < size and patience:
            self._simulator.advance()
            patience -= 1
        return bytes(self._in.popleft() for _ in range(min(size, len(self._in))))

    def close(self) -> None:
        """Nothing is held."""

    async def _send(self, context: Any) -> None:
        while True:
            if not self._out:
                await context.tick()
                continue
            byte = self._out[0]
            for bit in (0, *(byte >> i & 1 for i in range(8)), 1):
                context.set(self.board.rx, bit)
                await context.tick().repeat(self.board.divisor)
            self._out.popleft()

    async def _receive(self, context: Any) -> None:
        while True:
            while context.get(self.board.tx):
                await context.tick()
            await context.tick().repeat(self.board.divisor // 2)
            byte = 0
            for i in range(8):
                await context.tick().repeat(self.board.divisor)
                byte |= context.get(self.board.tx) << i
            await context.tick().repeat(self.board.divisor)
            self._in.append(byte)
