"""Engines by name."""

from __future__ import annotations

from wage_neuro.engine import Engine, NumpyEngine
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.train import State

NAMES = ("numpy", "lava", "brian2")


def make_engine(name: str, network: Network, rules: Rules, state: State, lanes: int | None = None) -> Engine:
    """Build the engine called `name`, going on from a state.

    Raises
    ------
    SettingError
        If there is no such engine, or lanes are given to one that has none.
    EngineError
        If what it needs is not installed.
    """
    if name not in NAMES:
        raise SettingError(f"engine {name!r}: want {', '.join(NAMES[:-1])} or {NAMES[-1]}")
    if lanes is not None and name != "lava":
        raise SettingError(f"lanes={lanes}: only the lava engine sends samples in lanes")
    if name == "numpy":
        return NumpyEngine(network, rules, state=state)
    if name == "brian2":
        try:
            from mappings.brian2 import Brian2Engine
        except ImportError as error:
            raise EngineError(
                f"engine 'brian2': {error}; it needs Brian2: pip install \"wage-neuro[brian2]\""
            ) from None
        return Brian2Engine(network, rules, state=state)
    try:
        from mappings.lava import LavaEngine
    except ImportError as error:
        raise EngineError(
            f"engine 'lava': {error}; it needs lava-nc 0.10.0 on Python 3.10 ('make demo' sets it up)"
        ) from None
    return LavaEngine(network, rules, state=state, lanes=lanes)
