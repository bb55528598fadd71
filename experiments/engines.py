"""Engines by name."""

from __future__ import annotations

from typing import Any

from wage_neuro.engine import Engine, NumpyEngine
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.train import State

NAMES = ("numpy", "compiled", "lava")


def make_engine(
    name: str,
    network: Network,
    rules: Rules,
    state: State,
    lanes: int | None = None,
    model: str = "behavioural",
) -> Engine:
    """Build the engine called `name`, going on from a state.

    Raises
    ------
    SettingError
        If there is no such engine, or lanes or a model are given to one that has none.
    EngineError
        If what it needs is not installed.
    """
    if name not in NAMES:
        raise SettingError(f"engine {name!r}: want {', '.join(NAMES[:-1])} or {NAMES[-1]}")
    more: dict[str, Any] = {"lanes": lanes, "model": model} if name == "lava" else {}
    if name != "lava":
        if lanes is not None:
            raise SettingError(f"lanes={lanes}: only the lava engine sends samples in lanes")
        if model != "behavioural":
            raise SettingError(f"model={model!r}: only the lava engine has models")
    return _engine_class(name)(network, rules, state=state, **more)


def _engine_class(name: str) -> Any:
    try:
        if name == "lava":
            from mappings.lava import LavaEngine

            return LavaEngine
        if name == "compiled":
            from mappings.compiled import CompiledEngine

            return CompiledEngine
    except ImportError as error:
        raise EngineError(f"engine {name!r}: {error}; it needs {_NEEDS[name]}") from None
    return NumpyEngine


_NEEDS = {
    "lava": "lava-nc 0.10.0 on Python 3.10 ('make demo' sets it up)",
    "compiled": 'numba: pip install "wage-neuro[compiled]"',
}
