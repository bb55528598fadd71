"""Engines by name."""

from __future__ import annotations

from importlib import import_module

from wage_neuro.engine import Engine, NumpyEngine
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.train import State

NAMES = ("numpy", "compiled", "lava", "brian2")


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
    if name != "lava":
        if lanes is not None:
            raise SettingError(f"lanes={lanes}: only the lava engine sends samples in lanes")
        if model != "behavioural":
            raise SettingError(f"model={model!r}: only the lava engine has models")
    if name == "numpy":
        return NumpyEngine(network, rules, state=state)
    module, engine, needs = _OTHERS[name]
    try:
        build = getattr(import_module(module), engine)
    except ImportError as error:
        raise EngineError(f"engine {name!r}: {error}; it needs {needs}") from None
    more = {"lanes": lanes, "model": model} if name == "lava" else {}
    return build(network, rules, state=state, **more)


_OTHERS = {
    "lava": ("mappings.lava", "LavaEngine", "lava-nc 0.10.0 on Python 3.10 ('make demo' sets it up)"),
    "compiled": ("mappings.compiled", "CompiledEngine", 'numba: pip install "wage-neuro[compiled]"'),
    "brian2": ("mappings.brian2", "Brian2Engine", 'Brian2: pip install "wage-neuro[brian2]"'),
}
"""Module, class, and what they need that may not be installed."""
