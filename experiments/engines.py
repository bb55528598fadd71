"""Engines by name."""

from __future__ import annotations

from wage_neuro.engine import Engine, NumpyEngine
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.train import State

NAMES = ("numpy", "lava")


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
    if name == "numpy":
        if lanes is not None:
            raise SettingError(f"lanes={lanes}: only the lava engine sends samples in lanes")
        if model != "behavioural":
            raise SettingError(f"model={model!r}: only the lava engine has models")
        return NumpyEngine(network, rules, state=state)
    if name == "lava":
        try:
            from mappings.lava import LavaEngine
        except ImportError as error:
            raise EngineError(
                f"engine 'lava': {error}; it needs lava-nc 0.10.0 on Python 3.10 ('make demo' sets it up)"
            ) from None
        return LavaEngine(network, rules, state=state, lanes=lanes, model=model)
    raise SettingError(f"engine {name!r}: want {' or '.join(NAMES)}")
