"""Checkpoints: one .npz with the stored weights and a JSON text; no pickle, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from wage_neuro import normal
from wage_neuro.arrays import DAMAGE, ArrayFile
from wage_neuro.bits import code_dtype, max_code
from wage_neuro.errors import CheckpointError, WageError
from wage_neuro.files import written_whole
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.room import in_words
from wage_neuro.rules import Rules
from wage_neuro.state import Held, State
from wage_neuro.typed import Count, built, reading
from wage_neuro.update import MOMENTUM_BITS

FORMAT = 1
EXPONENTS = 63  # of numbers in 64 bits
HEADER_MAX = 1 << 28  # bytes


@dataclass(frozen=True)
class Checkpoint:
    """A network with all that its training has changed.

    `extra` is the caller's own JSON: the place in the data, metrics so far.
    """

    network: Network
    rules: Rules
    state: State
    extra: dict[str, Any] = field(default_factory=dict)


def save(path: Path | str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; an existing file is replaced at the end, in one step."""
    network, state = checkpoint.network, checkpoint.state
    header = {
        "format": FORMAT,
        "network": str(network),
        "input_shape": network.input_shape,
        "bits": str(network.bits),
        "signed_input": network.signed_input,
        "rules": asdict(checkpoint.rules),
        "seed": state.seed,
        "step": state.step,
        "error_held": [asdict(held) for held in state.error_held],
        "gradient_held": [asdict(held) for held in state.gradient_held],
        "extra": checkpoint.extra,
    }
    arrays = {f"S{i}": S for i, S in enumerate(state.S)}
    arrays |= {f"importance{i}": held for i, held in enumerate(state.importance or ())}
    arrays |= {f"momentum{i}": M for i, M in enumerate(state.momentum or ())}
    arrays |= {f"norm{i}": norm for i, norm in enumerate(state.norm) if norm is not None}
    write_arrays(Path(path), header, arrays)


def load(path: Path | str) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    CheckpointError
        If it is missing, truncated, damaged, of a newer format, or its weights cannot be the network's.
    """
    path = Path(path)
    with _opened(path, FORMAT) as (values, file):
        try:
            header = built(_Header, values)
            network = Network.parse(
                header.network, header.input_shape, bits=header.bits, signed_input=header.signed_input
            )
            _check_forms(network, header.rules, file)
        except WageError as error:
            raise CheckpointError(f"{path}: damaged checkpoint ({error})") from None
        arrays = {name: file.read(name) for name in file.forms if name != "header"}
    try:
        return _built(network, header, arrays)
    except WageError as error:
        raise CheckpointError(f"{path}: damaged checkpoint ({error})") from None


def read_header(path: Path) -> dict[str, Any]:
    """Read what a checkpoint says in JSON, and no weights; errors as of `load` where it has none."""
    with reading(path, "checkpoint"), _opened(path, FORMAT) as (header, _):
        built(_Header, header)
        return header


def read_arrays(path: Path, wanted: int | str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read the header and the arrays of a file of the format `wanted`; errors as of `load`."""
    with _opened(path, wanted) as (header, file):
        return header, {name: file.read(name) for name in file.forms if name != "header"}


@contextmanager
def _opened(path: Path, wanted: int | str) -> Iterator[tuple[dict[str, Any], ArrayFile]]:
    """Header and open file of a checkpoint of the format `wanted`."""
    try:
        with ArrayFile.open(path) as file:
            if "header" not in file.forms:
                names = ", ".join(file.forms)[:200] or "nothing"
                raise CheckpointError(f"{path}: not a wage-neuro checkpoint, it holds {names}")
            if file.forms["header"].size > HEADER_MAX:
                size = in_words(file.forms["header"].size)
                raise CheckpointError(f"{path}: header of {size}: want {in_words(HEADER_MAX)} at most")
            header = json.loads(bytes(file.read("header")))
            if not isinstance(header, dict):
                raise CheckpointError(f"{path}: damaged checkpoint (its header is no object)")
            if header.get("format") != wanted:
                found = repr(header.get("format"))[:60]
                raise CheckpointError(f"{path}: checkpoint format {found}; this version reads {wanted!r}")
            yield header, file
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except DAMAGE as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{path}: not a whole wage-neuro checkpoint ({text})") from None


def write_arrays(path: Path, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a header in JSON's types and arrays as one `.npz`, whole or not at all."""
    everything: dict[str, Any] = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays}
    with written_whole(path) as file:
        np.savez_compressed(file, **everything)


@dataclass(frozen=True)
class _Header:
    """What a checkpoint says in JSON."""

    format: int
    network: str
    input_shape: tuple[Annotated[int, (1, 2**31)], ...]
    bits: str
    signed_input: bool
    rules: Rules
    seed: Annotated[int, (0, 2**64 - 1)]
    step: Count
    error_held: tuple[Held, ...]
    gradient_held: tuple[Held, ...]
    extra: dict[str, Any]


def _check_forms(network: Network, rules: Rules, file: ArrayFile) -> None:
    """Shapes and types of all arrays are the network's: so they take no more than it does."""
    found = {name: form for name, form in file.forms.items() if name.startswith("S")}
    shapes = [found[f"S{i}"].shape if f"S{i}" in found else None for i in range(len(found))]
    wanted = [layer.weight_shape for layer in network.layers]
    if shapes != wanted:
        raise CheckpointError(f"weights of shapes {shapes}: want {wanted}")
    others = {name: form for name, form in file.forms.items() if name != "header" and name not in found}
    kept = {"importance": rules.consolidation, "momentum": rules.momentum}
    normalised = {f"norm{layer.index}": layer for layer in network.layers if layer.normalised}
    strange = others.keys() - {f"{what}{layer.index}" for what in kept for layer in network.layers}
    strange -= normalised.keys()
    for name, layer in normalised.items():
        form = others.get(name)
        if form is None or form.shape != (3, layer.weight_shape[-1]) or form.dtype != np.int64:
            raise CheckpointError(_norm(layer))
    if strange:
        raise CheckpointError(
            f"an array {min(strange)[:60]!r}: want weights, importance, momentum and norm of each layer alone"
        )
    for what, bits in kept.items():
        names = [name for name in others if name.startswith(what)]
        if names and not bits:
            raise CheckpointError(f"{what} of synapses, where the rules keep none")
        if names and len(names) != len(wanted):
            raise CheckpointError(f"{', '.join(names)} alone: want {what} of {len(wanted)} layers")
    for layer in network.layers:
        dtype, bound = np.dtype(code_dtype(layer.bits.k_G)), layer.bits.stored_max(rules.stored_range)
        if found[f"S{layer.index}"].dtype != dtype:
            raise CheckpointError(f"weights of layer {layer.index}: want {dtype} in -{bound}..{bound}")
        held = others.get(f"importance{layer.index}")
        shape = (2, *layer.weight_shape)
        if held and (held.shape != shape or held.dtype != np.uint16):
            raise CheckpointError(_importance(layer, rules))
        M = others.get(f"momentum{layer.index}")
        if M and (M.shape != layer.weight_shape or M.dtype != np.int16):
            raise CheckpointError(_momentum(layer))


def _built(network: Network, header: _Header, arrays: dict[str, np.ndarray]) -> Checkpoint:
    rules, layers = header.rules, network.layers
    S = tuple(arrays[f"S{layer.index}"] for layer in layers)
    for s, layer in zip(S, layers, strict=True):
        bound = layer.bits.stored_max(rules.stored_range)
        if np.abs(s.astype(np.int32)).max() > bound:
            dtype = np.dtype(code_dtype(layer.bits.k_G))
            raise CheckpointError(f"weights of layer {layer.index}: want {dtype} in -{bound}..{bound}")
    importance = tuple(arrays[name] for i in range(len(S)) if (name := f"importance{i}") in arrays)
    for held, layer in zip(importance, layers, strict=False):
        if held[0].max() > rules.consolidation:
            raise CheckpointError(_importance(layer, rules))
    momentum = tuple(arrays[name] for i in range(len(S)) if (name := f"momentum{i}") in arrays)
    for M, layer in zip(momentum, layers, strict=False):
        if M.min() < -max_code(MOMENTUM_BITS):
            raise CheckpointError(_momentum(layer))
    norm = [arrays.get(f"norm{layer.index}") for layer in layers]
    for found, layer in zip(norm, layers, strict=True):
        if found is not None and not normal.can_be(layer, found):
            raise CheckpointError(_norm(layer))
    if not len(header.error_held) == len(header.gradient_held) == len(S):
        raise CheckpointError(f"{len(header.error_held)} held exponents: want {len(S)}")
    for held_exponent in (*header.error_held, *header.gradient_held):
        if not 0 <= (held_exponent.exponent or 0) < EXPONENTS or held_exponent.below < 0:
            raise CheckpointError(f"held exponent {held_exponent}: want 0..{EXPONENTS - 1}, below 0 or more")
    state = State.of(
        S,
        seed=header.seed,
        step=header.step,
        error_held=header.error_held,
        gradient_held=header.gradient_held,
        importance=importance or None,
        momentum=momentum or None,
        norm=norm,
    )
    return Checkpoint(network, rules, state, header.extra)


def _importance(layer: Layer, rules: Rules) -> str:
    shape = (2, *layer.weight_shape)
    return f"importance of layer {layer.index}: want uint16 {shape}, bits in 0..{rules.consolidation}"


def _norm(layer: Layer) -> str:
    return f"norm of layer {layer.index}: want int64 {(3, layer.weight_shape[-1])}, statistics that can be"


def _momentum(layer: Layer) -> str:
    top = max_code(MOMENTUM_BITS)
    return f"momentum of layer {layer.index}: want int16 {layer.weight_shape} in -{top}..{top}"
