"""Learn on a board, beside the numpy engine: python -m mappings.hardware.rtl.board PORT CHECKPOINT SAMPLES

It speaks to `serial.Board`, the bitstream of `wage-neuro rtl RUN --place DEVICE`, over a serial port. It was
tried with a simulated line; no board has run it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mappings.hardware.rtl.driver import Bus
from mappings.hardware.rtl.engine import RtlEngine, RtlOptions
from mappings.hardware.rtl.registers import BAUD
from mappings.hardware.rtl.serial_bus import Port, SerialBus
from mappings.hardware.rtl.shape import LANES
from wage_neuro import checkpoint
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.engine import NumpyEngine
from wage_neuro.errors import DataError, EngineError, WageError
from wage_neuro.train import State

ANSWER_S = 10.0
"""A board that says nothing for so long is given up."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Learn on a board, beside the numpy engine.")
    parser.add_argument("port", help="of the board, such as /dev/ttyUSB0 or COM3")
    parser.add_argument("checkpoint", type=Path, help="where to go on from")
    parser.add_argument("samples", type=Path, help=".npz with uint8 `images` and `labels`")
    parser.add_argument("--lanes", type=int, default=LANES[0], help="as the bitstream was made with")
    parser.add_argument("--log2-eta", type=int, default=0, help="step size, as a power of two")
    parser.add_argument("--output", type=Path, help="checkpoint of what the board has learned")
    given = parser.parse_args(words)
    try:
        saved = checkpoint.load(given.checkpoint)
        images, labels = read_samples(given.samples)
        bus = SerialBus(open_port(given.port))
        state = learn(bus, saved, images, labels, given.lanes, given.log2_eta)
        if given.output:
            checkpoint.save(given.output, Checkpoint(saved.network, saved.rules, state, saved.extra))
    except WageError as error:
        print(f"board: {error}", file=sys.stderr)
        return 1
    print(
        f"{len(labels)} samples learned at {given.port}: logits, weights and exponents are the numpy engine's"
    )
    return 0


def open_port(name: str) -> Port:
    """Open a serial port.

    Raises
    ------
    EngineError
        If pyserial is not installed, or the port cannot be opened.
    """
    try:
        import serial
    except ImportError:
        raise EngineError("pyserial is not installed: pip install pyserial") from None
    try:
        port: Port = serial.Serial(name, BAUD, timeout=ANSWER_S)
    except (OSError, ValueError) as error:
        raise EngineError(f"port {name}: cannot be opened ({error})") from None
    return port


def read_samples(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, ...) uint8 and labels (n,) of an .npz.

    Raises
    ------
    DataError
        If it cannot be read, or lacks one of them.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["images"], file["labels"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: want an .npz with images and labels ({error})") from None


def learn(
    bus: Bus, saved: Checkpoint, images: np.ndarray, labels: np.ndarray, lanes: int, log2_eta: int
) -> State:
    """Let a core learn samples, an update at a time, as the numpy engine does; returns what it holds then.

    Raises
    ------
    EngineError
        At the first difference.
    """
    network, rules = saved.network, saved.rules
    with (
        RtlEngine(network, rules, state=saved.state, options=RtlOptions(lanes=lanes, bus=bus)) as core,
        NumpyEngine(network, rules, state=saved.state) as oracle,
    ):
        for first in range(0, len(images), rules.batch):
            batch = slice(first, first + rules.batch)
            found, wanted = (
                engine.train(images[batch], labels[batch], log2_eta) for engine in (core, oracle)
            )
            if not np.array_equal(found, wanted):
                raise EngineError(f"sample {first}: logits {found.tolist()}, numpy has {wanted.tolist()}")
        state, wanted_state = core.state, oracle.state
    for i, (held_S, S) in enumerate(zip(state.S, wanted_state.S, strict=True)):
        if not np.array_equal(held_S, S):
            raise EngineError(f"layer {i}: {(held_S != S).sum()} of {S.size} stored weights are not numpy's")
    held = [(s.error_held, s.gradient_held, s.step) for s in (state, wanted_state)]
    if held[0] != held[1]:
        raise EngineError(f"exponents and step {held[0]}, numpy has {held[1]}")
    return state


if __name__ == "__main__":
    sys.exit(main())
