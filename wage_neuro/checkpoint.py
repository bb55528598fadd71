"""Checkpoints: one .npz with the stored weights and a JSON text; no pickle, written whole or not at all."""

from __future__ import annotations

import json
import tokenize
import zipfile
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wage_neuro.bits import code_dtype
from wage_neuro.errors import CheckpointError, WageError
from wage_neuro.files import written_whole
from wage_neuro.network import Network
from wage_neuro.random_bits import check_seed
from wage_neuro.rules import Rules
from wage_neuro.train import Held, State

FORMAT = 1
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    AttributeError,
    TypeError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)  # what numpy, zip and JSON raise on damaged bytes


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
    write_arrays(Path(path), header, arrays)


def load(path: Path | str) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    CheckpointError
        If it is missing, truncated, damaged, of a newer format, or its weights cannot be the network's.
    """
    header, arrays = read_arrays(Path(path), FORMAT)
    try:
        return _read(header, arrays)
    except (KeyError, TypeError, ValueError, WageError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint ({error})") from None


def read_arrays(path: Path, wanted: int | str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read the header and the arrays of a file of the format `wanted`; errors as of `load`."""
    try:
        # np.load leaves the file open when it opened it itself and then finds it damaged
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            header = json.loads(bytes(file["header"]))
            arrays = {name: file[name] for name in file.files if name != "header"}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except DAMAGE as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{path}: not a whole wage-neuro checkpoint ({text})") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: damaged checkpoint (its header is no object)")
    if header.get("format") != wanted:
        raise CheckpointError(
            f"{path}: checkpoint format {header.get('format')}; this version reads {wanted}"
        )
    return header, arrays


def write_arrays(path: Path, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a header in JSON's types and arrays as one `.npz`, whole or not at all."""
    everything: dict[str, Any] = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays}
    with written_whole(path) as file:
        np.savez_compressed(file, **everything)


def _read(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Checkpoint:
    network = Network.parse(
        header["network"],
        tuple(header["input_shape"]),
        bits=header["bits"],
        signed_input=header["signed_input"],
    )
    rules = Rules(**header["rules"])
    S = tuple(arrays[f"S{i}"] for i in range(sum(name.startswith("S") for name in arrays)))
    _check_weights(network, rules, S)
    importance = None
    if len(arrays) > len(S):
        importance = tuple(arrays[f"importance{i}"] for i in range(len(S)))
        _check_importance(network, rules, importance)
    step, seed = header["step"], check_seed(header["seed"])
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise CheckpointError(f"step {step!r}: want a whole number >= 0")
    if not len(header["error_held"]) == len(header["gradient_held"]) == len(S):
        raise CheckpointError(f"{len(header['error_held'])} held exponents: want {len(S)}")
    state = State(
        S,
        tuple(_read_held(held) for held in header["error_held"]),
        tuple(_read_held(held) for held in header["gradient_held"]),
        seed,
        step,
        importance,
    )
    return Checkpoint(network, rules, state, header["extra"])


def _read_held(values: dict[str, Any]) -> Held:
    held = Held(**values)
    if type(held.exponent) not in (int, type(None)) or type(held.below) is not int:
        raise CheckpointError(f"held exponent {values}: want whole numbers")
    return held


def _check_weights(network: Network, rules: Rules, S: tuple[np.ndarray, ...]) -> None:
    shapes, wanted = [s.shape for s in S], [layer.weight_shape for layer in network.layers]
    if shapes != wanted:
        raise CheckpointError(f"weights of shapes {shapes}: want {wanted}")
    for i, (s, layer) in enumerate(zip(S, network.layers, strict=True)):
        bound, dtype = layer.bits.stored_max(rules.stored_range), code_dtype(layer.bits.k_G)
        if s.dtype != dtype or np.abs(s.astype(np.int32)).max() > bound:
            raise CheckpointError(f"weights of layer {i}: want {np.dtype(dtype)} in -{bound}..{bound}")


def _check_importance(network: Network, rules: Rules, importance: tuple[np.ndarray, ...]) -> None:
    if not rules.consolidation:
        raise CheckpointError("synapses of importance, where the rules keep none")
    for layer, held in zip(network.layers, importance, strict=True):
        wanted = (2, *layer.weight_shape)
        if held.shape != wanted or held.dtype != np.uint16 or held[0].max() > rules.consolidation:
            raise CheckpointError(
                f"importance of layer {layer.index}: want uint16 {wanted}, bits in 0..{rules.consolidation}"
            )
