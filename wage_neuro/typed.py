"""JSON values as the annotations of dataclasses and TypedDicts have them: one check for whatever is read.

>>> from wage_neuro.rules import Rules
>>> built(Rules, {"batch": 32}, "rules").batch
32
>>> built(Rules, {"batch": "many"}, "rules")
Traceback (most recent call last):
wage_neuro.errors.CheckpointError: rules.batch='many': want a whole number
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from wage_neuro.errors import CheckpointError, WageError

T = TypeVar("T")

Count = Annotated[int, (0, 2**63 - 1)]
Share = Annotated[float, (0, 1)]

_SHOWN = 60  # signs of a refused value
_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
    list: "a list",
    tuple: "a list",
    dict: "an object",
}


def built(cls: type[T], values: object, name: str = "") -> T:
    """Build a dataclass out of JSON's values, which `name` opens the names of.

    Raises
    ------
    CheckpointError
        If a field is missing, unknown or of another type; the line names field and value.
    WageError
        What the dataclass itself refuses.
    """
    return checked(cls, values, name)


def checked(kind: Any, value: Any, name: str = "") -> Any:
    """Return a value of JSON as the annotation `kind` has it: a list may be a tuple, an object a dataclass.

    Annotated takes a (low, high) of numbers, or another annotation to check instead.

    Raises
    ------
    CheckpointError
        If it cannot be: the line names it and its value.

    >>> checked(list[Share], [0.5, 2], "accuracies")
    Traceback (most recent call last):
    wage_neuro.errors.CheckpointError: accuracies[1]=2: want 0..1
    """
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        return _annotated(args[0], args[1], value, name)
    if origin in (Union, types.UnionType):
        return _one_of(args, value, name)
    if dataclasses.is_dataclass(kind) or is_typeddict(kind):
        return _fields(kind, value, name)
    if origin in (list, tuple):
        return _row(origin, args, value, name)
    if origin is dict or kind is dict:
        whole = _of_type(dict, value, name)
        return (
            {key: checked(args[1], held, _join(name, key)) for key, held in whole.items()} if args else whole
        )
    return _of_type(kind, value, name)


def _of_type(kind: Any, value: Any, name: str) -> Any:
    right = isinstance(value, int | float) if kind is float else isinstance(value, kind)
    if right and (kind is bool or not isinstance(value, bool)):
        try:
            return float(value) if kind is float and isinstance(value, int) else value
        except OverflowError:
            pass
    raise CheckpointError(f"{_shown(name, value)}: want {_WORDS[kind]}")


def _annotated(kind: Any, more: Any, value: Any, name: str) -> Any:
    if not isinstance(more, tuple):
        return checked(more, value, name)
    found, (low, high) = checked(kind, value, name), more
    if not low <= found <= high:
        raise CheckpointError(f"{_shown(name, value)}: want {low}..{high}")
    return found


def _one_of(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    for kind in others[:-1]:
        try:
            return checked(kind, value, name)
        except CheckpointError:
            continue
    return checked(others[-1], value, name)


def _row(origin: Any, args: tuple[Any, ...], value: Any, name: str) -> Any:
    values = list(value) if isinstance(value, tuple) else _of_type(list, value, name)
    if origin is tuple and args[-1] is not Ellipsis:
        if len(values) != len(args):
            raise CheckpointError(f"{_shown(name, value)}: want {len(args)} values")
        kinds = args
    else:
        kinds = (args[0],) * len(values)
    return origin(checked(k, v, f"{name}[{i}]") for i, (k, v) in enumerate(zip(kinds, values, strict=True)))


def _fields(kind: Any, value: Any, name: str) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, kind):
        return value
    values, (known, needed) = _of_type(dict, value, name), _known(kind)
    for key in sorted(needed - values.keys()):
        raise CheckpointError(f"{_join(name, key)}: is missing")
    if is_typeddict(kind):
        return {
            **values,
            **{k: checked(known[k], v, _join(name, k)) for k, v in values.items() if k in known},
        }
    for key in values:
        if key not in known:
            raise CheckpointError(f"{_shown(_join(name, key), values[key])}: want {', '.join(known)} alone")
    return kind(**{key: checked(known[key], held, _join(name, key)) for key, held in values.items()})


@cache
def _known(kind: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Annotation of each field, and the names of those that must be there."""
    hints = get_type_hints(kind, include_extras=True)
    if is_typeddict(kind):
        return hints, kind.__required_keys__
    missing = dataclasses.MISSING
    needed = [
        f.name for f in dataclasses.fields(kind) if f.default is missing and f.default_factory is missing
    ]
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}, frozenset(needed)


def _join(name: str, key: object) -> str:
    shown = key if isinstance(key, str) and key.isidentifier() else repr(key)[:_SHOWN]
    return f"{name}.{shown}" if name else f"{shown}"


def _shown(name: str, value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) and math.isfinite(value) else repr(value)
    short = text if len(text) <= _SHOWN else text[:_SHOWN] + " ..."
    return f"{name}={short}" if name else short


# --- files -------------------------------------------------------------------------------------------


@contextmanager
def reading(path: Path, what: str, problem: type[WageError] = CheckpointError) -> Iterator[None]:
    """Turn what a missing or damaged file of JSON raises into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise problem(f"{path}: no {what} to read ({error.strerror})") from None
    except WageError as error:
        raise problem(f"{path}: damaged {what}: {error}") from None
    except (ValueError, RecursionError) as error:  # no JSON, or lists in lists without end
        raise problem(f"{path}: damaged {what} ({' '.join(str(error).split())[:200]})") from None


def read_json(path: Path, kind: Any, what: str, problem: type[WageError] = CheckpointError) -> Any:
    """Read a file of JSON as `kind` has it; `problem` if it is missing, damaged or of another form."""
    with reading(path, what, problem):
        return checked(kind, json.loads(path.read_bytes()))


def read_rows(path: Path, kind: Any, what: str, problem: type[WageError] = CheckpointError) -> list[Any]:
    """Read a file of a JSON value a line; otherwise as `read_json`."""
    with reading(path, what, problem):
        lines = path.read_bytes().decode().splitlines()
        return [checked(kind, json.loads(line), f"line {i}") for i, line in enumerate(lines, start=1)]
