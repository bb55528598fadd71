"""To go on with what a folder holds: it must be what is asked for, on the data that it began with."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from wage_neuro.errors import CheckpointError, WageError
from wage_neuro.network import Network
from wage_neuro.rules import Rules


def first_difference(there: Any, here: Any) -> tuple[str, Any, Any] | None:
    """The first field in which two settings differ, of settings within them the inner one, and both values.

    >>> first_difference(Rules(batch=32), Rules(batch=16))
    ('batch', 32, 16)
    >>> first_difference(Rules(), Rules()) is None
    True
    """
    for name in (each.name for each in fields(there)):
        a, b = getattr(there, name), getattr(here, name)
        if a != b:
            within = is_dataclass(a) and type(a) is type(b)
            return first_difference(a, b) if within else (name, a, b)
    return None


def require_same(folder: Path, there: Any, here: Any, problem: type[WageError] = CheckpointError) -> None:
    """Raise `problem` unless the run in a folder is of these settings."""
    found = first_difference(there, here)
    if found:
        name, a, b = found[0], *map(_shown, found[1:])
        raise problem(f"run folder {folder}: holds a run of other settings: {name} is {a} there, {b} here")


def _shown(value: Any) -> str:
    """A value as it is typed; the layers of a network as they are written."""
    layers = isinstance(value, tuple) and not all(isinstance(each, int) for each in value)
    return "-".join(map(str, value)) if layers else repr(value)


def require_begun(folder: Path, saved: Any, network: Network, rules: Rules) -> None:
    """Raise CheckpointError unless a checkpoint holds the network and the rules that its settings ask for."""
    require_same(folder, saved.network, network)
    require_same(folder, saved.rules, rules)


def require_data(folder: Path, name: str, there: object, here: object) -> None:
    """Raise CheckpointError unless data, by their checksums, are those that a run began with."""
    if there != here:
        raise CheckpointError(f"{folder}: the data of {name!r} has changed since this run began")


def require_seed(where: str, seed: int, weights: int) -> None:
    """Raise CheckpointError unless the weights are of the seed that the settings name."""
    if seed != weights:
        raise CheckpointError(f"{where}.seed={seed}: its weights are of seed {weights}")
