"""Driver: what a host says to the core over its bus, whether that is simulated or a chip's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from mappings.hardware.rtl.registers import (
    IDENTITY_WORD,
    WORD,
    Core,
    LayerRegister,
    Region,
    address,
    pieces,
)
from mappings.hardware.rtl.shape import LayerShape
from wage_neuro.bits import code_dtype
from wage_neuro.control import Control, control_of
from wage_neuro.errors import EngineError
from wage_neuro.feedback import feedback_weights
from wage_neuro.train import Held, State

UNKNOWN = -1
LEARNS, ENTERS = 1, 2  # bits of Core.SAMPLE
_MASK = (1 << WORD) - 1


class Bus(ABC):
    """A way to the core's bus."""

    cycles = 0
    """Clock cycles so far, where they are known."""

    @abstractmethod
    def write(self, addresses: np.ndarray, words: np.ndarray) -> None:
        """Write words, uint32 both, one after another."""

    @abstractmethod
    def read(self, addresses: np.ndarray) -> np.ndarray:
        """Return the uint32 words at some addresses."""

    @abstractmethod
    def wait(self, most: int) -> None:
        """Return when no sample is under way; EngineError after `most` cycles."""

    def close(self) -> None:  # noqa: B027
        """Free what it holds."""


class Driver:
    """A core behind a bus.

    Parameters
    ----------
    shapes : of the core's layers

    Attributes
    ----------
    samples, sample_cycles : answered or learned, and their cycles, from the first spike until it is done

    Raises
    ------
    EngineError
        If no core answers.
    """

    def __init__(self, bus: Bus, shapes: Sequence[LayerShape]) -> None:
        self.bus, self.shapes = bus, tuple(shapes)
        word = self._read([address(Region.CORE, 0, Core.IDENTITY)])[0]
        if word != IDENTITY_WORD:
            raise EngineError(f"identity {word:#x}: no wage-neuro core on this bus, want {IDENTITY_WORD:#x}")
        # enough for every word of every layer, forward and back, each with a block of random bits
        self.patience = 1000 + sum(64 * (s.visits + s.outputs + s.inputs + s.lanes) for s in self.shapes)
        logits = range(self.shapes[-1].n_out)
        self.samples, self.sample_cycles = 0, 0
        self.logit_addresses = np.array([address(Region.LOGITS, 0, j) for j in logits], np.uint32)

    @property
    def cycles(self) -> int:
        """Clock cycles so far, where they are known."""
        return self.bus.cycles

    def close(self) -> None:
        """Free what the bus holds."""
        self.bus.close()

    # --- samples ---

    def answer(self, x: np.ndarray) -> np.ndarray:
        """Return the (classes,) int64 logits of (n_in,) input codes; not pipelined."""
        return self._sample(x, 0)

    def learn(self, x: np.ndarray, label: int) -> np.ndarray:
        """Learn a sample, and return the logits it had before; not pipelined."""
        return self._sample(x, LEARNS | int(label) << 16)

    def learn_all(self, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Learn (n, n_in) samples, pipelined as one batch; returns their (n, classes) logits."""
        if self.shapes[0].rules.pipelined:
            return self._pipeline(x, labels, LEARNS)
        return self._gathered([self.learn(a, label) for a, label in zip(x, labels.tolist(), strict=True)])

    def answer_all(self, x: np.ndarray) -> np.ndarray:
        """Return the (n, classes) logits of (n, n_in) samples."""
        if self.shapes[0].rules.pipelined:
            return self._pipeline(x, np.zeros(len(x), int), 0)
        return self._gathered([self.answer(a) for a in x])

    def _pipeline(self, x: np.ndarray, labels: np.ndarray, learns: int) -> np.ndarray:
        """Let samples enter, one a time step, and then let the pipeline drain."""
        L, found = len(self.shapes), []
        nothing = np.zeros(self.shapes[0].inputs, np.int8)
        for t in range(len(x) + 2 * L if len(x) else 0):
            entering = t < len(x)
            command = learns | ENTERS | int(labels[t]) << 16 if entering else 0
            self._step(x[t] if entering else nothing, command)
            if 0 <= t - (L - 1) < len(x):
                found.append(self._read_logits())
        self.samples += len(x)
        return self._gathered(found)

    def _gathered(self, logits: list[np.ndarray]) -> np.ndarray:
        return np.array(logits, np.int64).reshape(-1, len(self.logit_addresses))

    def _sample(self, x: np.ndarray, command: int) -> np.ndarray:
        self._step(x, command)
        self.samples += 1
        return self._read_logits()

    def _read_logits(self) -> np.ndarray:
        return self.bus.read(self.logit_addresses).view(np.int32).astype(np.int64)

    def _step(self, x: np.ndarray, command: int) -> None:
        where = np.flatnonzero(x)
        words = np.empty(len(where) + 1, np.uint32)
        words[:-1] = where.astype(np.uint32) << 16 | x[where].astype(np.uint16)
        words[-1] = command
        addresses = np.full(len(words), address(Region.CORE, 0, Core.SPIKE), np.uint32)
        addresses[-1] = address(Region.CORE, 0, Core.SAMPLE)
        began = self.bus.cycles
        self.bus.write(addresses, words)
        self.bus.wait(self.patience)
        self.sample_cycles += self.bus.cycles - began

    # --- what a sample finds ---

    def set_control(self, control: int | Control) -> None:
        """Write step size and hold of each layer."""
        rows = control_of(control).of_layers(self.shapes[0].depth, self.shapes[0].rules)
        pairs = []
        for i, row in ((shape.index, rows[shape.index]) for shape in self.shapes):
            values = {
                LayerRegister.LOG2_ETA: row.log2_eta or 0,
                LayerRegister.FROZEN: int(row.log2_eta is None),
                LayerRegister.HOLD: row.hold,
            }
            pairs += [(address(Region.LAYER, i, place), value) for place, value in values.items()]
        self._write(pairs)

    def write_state(self, state: State) -> None:
        """Load stored weights, held exponents, seed and step, and the fixed feedback weights of the seed."""
        pairs = [
            (address(Region.CORE, 0, place), number >> shift)
            for number, low, high in (
                (state.seed, Core.SEED_LOW, Core.SEED_HIGH),
                (state.step, Core.STEP_LOW, Core.STEP_HIGH),
            )
            for place, shift in ((low, 0), (high, WORD))
        ]
        for shape in self.shapes:
            i = shape.index
            for held, exponent, below in self._trackers(state.error_held[i], state.gradient_held[i]):
                known = UNKNOWN if held.exponent is None else held.exponent
                pairs += [(address(Region.LAYER, i, exponent), known)]
                pairs += [(address(Region.LAYER, i, below), held.below)]
        self._write(pairs)
        for shape in self.shapes:
            self.bus.write(*weight_words(shape, state.S[shape.index]))
            B = feedback_weights(shape.layer, shape.classes, shape.rules, state.seed)
            if B is not None:
                self.bus.write(*_feedback_words(shape, B))

    def read_state(self) -> State:
        """Read them back; nothing of a core that learns is hidden."""
        low, high, step_low, step_high = self._read(
            [
                address(Region.CORE, 0, place)
                for place in (Core.SEED_LOW, Core.SEED_HIGH, Core.STEP_LOW, Core.STEP_HIGH)
            ]
        )
        held = [self._read_held(shape.index) for shape in self.shapes]
        return State.of(
            [self._read_weights(shape) for shape in self.shapes],
            seed=low | high << WORD,
            step=step_low | step_high << WORD,
            error_held=[error for error, _ in held],
            gradient_held=[gradient for _, gradient in held],
        )

    def _read_held(self, i: int) -> tuple[Held, Held]:
        found = []
        for _, exponent, below in self._trackers(Held(), Held()):
            m, count = self._read([address(Region.LAYER, i, place) for place in (exponent, below)])
            found.append(Held(None if m == _MASK & UNKNOWN else m, count))
        return found[0], found[1] if len(found) > 1 else Held()

    def _trackers(self, error: Held, gradient: Held) -> list[tuple[Held, LayerRegister, LayerRegister]]:
        """Trackers of a layer; coincidence has none of gradients."""
        found = [(error, LayerRegister.ERROR_EXPONENT, LayerRegister.ERROR_BELOW)]
        if not self.shapes[0].coincidence:
            found.append((gradient, LayerRegister.GRADIENT_EXPONENT, LayerRegister.GRADIENT_BELOW))
        return found

    def _read_weights(self, shape: LayerShape) -> np.ndarray:
        addresses, per_word = _weight_addresses(shape)
        raw = self.bus.read(addresses).astype("<u4").reshape(shape.words, per_word).view(np.uint8)
        bits = np.unpackbits(raw, axis=1, bitorder="little")[:, : shape.lanes * shape.s_bits]
        codes = bits.reshape(-1, shape.s_bits) @ (1 << np.arange(shape.s_bits, dtype=np.int64))
        signed = codes - ((codes >> (shape.s_bits - 1)) << shape.s_bits)
        return signed.astype(code_dtype(shape.s_bits)).reshape(shape.layer.weight_shape)

    # --- single words ---

    def _write(self, pairs: list[tuple[int, int]]) -> None:
        self.bus.write(
            np.array([a for a, _ in pairs], np.uint32), np.array([w & _MASK for _, w in pairs], np.uint32)
        )

    def _read(self, addresses: list[int]) -> list[int]:
        return self.bus.read(np.array(addresses, np.uint32)).tolist()


def _weight_addresses(shape: LayerShape) -> tuple[np.ndarray, int]:
    """Addresses of all pieces of a layer's words that are in use, and how many a word has."""
    bits = shape.lanes * shape.s_bits
    used = -(-bits // WORD)
    places = np.arange(shape.words, dtype=np.uint32)[:, None] * pieces(bits) + np.arange(
        used, dtype=np.uint32
    )
    return (places + np.uint32(address(Region.WEIGHTS, shape.index))).reshape(-1).astype(np.uint32), used


def _feedback_words(shape: LayerShape, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Addresses and words that load the fixed feedback weights of a layer: two bits each, 3 is -1."""
    first = address(Region.FEEDBACK, shape.index)
    rows = B.astype(np.int64).reshape(shape.feedback_words, shape.lanes) & 3
    words = (rows << 2 * np.arange(shape.lanes)).sum(axis=1)
    return np.arange(first, first + len(words), dtype=np.uint32), words.astype(np.uint32)


def weight_words(shape: LayerShape, S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Addresses and words that load the stored weights of a layer."""
    addresses, used = _weight_addresses(shape)
    rows = S.reshape(shape.words, shape.lanes, 1).astype(np.int64)
    bits = (rows >> np.arange(shape.s_bits)) & 1
    padded = np.zeros((shape.words, used * WORD), np.uint8)
    padded[:, : shape.lanes * shape.s_bits] = bits.reshape(shape.words, -1)
    packed = np.packbits(padded, axis=1, bitorder="little").view("<u4")
    return addresses, packed.reshape(-1).astype(np.uint32)
