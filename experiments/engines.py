"""Engines by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from wage_neuro.engine import Engine
from wage_neuro.errors import EngineError, SettingError, did_you_mean
from wage_neuro.kernels.build import LIBRARY
from wage_neuro.network import Network
from wage_neuro.prototypes import PrototypeEngine, Prototypes
from wage_neuro.rules import Rules
from wage_neuro.train import State

ENGINES = {
    "numpy": ("wage_neuro.engine", "NumpyEngine", "numpy"),
    "compiled": ("mappings.engines.compiled", "CompiledEngine", "the compiled kernels"),
    "torch": ("mappings.engines.torch.engine", "TorchEngine", 'PyTorch: pip install "wage-neuro[torch]"'),
    "lava": ("mappings.engines.lava.engine", "LavaEngine", "lava-nc 0.10.0 ('make demo' sets it up)"),
    "brian2": ("mappings.engines.brian2.engine", "Brian2Engine", 'Brian2: pip install "wage-neuro[brian2]"'),
    "rtl": ("mappings.hardware.rtl.engine", "RtlEngine", 'Amaranth: pip install "wage-neuro[rtl]"'),
}
"""Module, class, and what it needs that may not be installed."""
NAMES = tuple(ENGINES)

FASTEST = "compiled" if LIBRARY.exists() else "numpy"
"""Of those here."""

OPTIONS = {
    "lanes": ("lava", "only the lava engine sends samples in lanes"),
    "model": ("lava", "only the lava engine has models"),
    "widths": ("lava", "only the lava engine has declared widths"),
    "device": ("torch", "only the torch engine chooses one"),
    "replay": ("lava", "only the lava engine holds the memory"),
    "codegen": ("brian2", "only the brian2 engine generates code"),
}
"""Options of one engine alone."""


def holds_memory(name: str) -> bool:
    """Whether the engine of that name can take in the memory that replays."""
    return OPTIONS["replay"][0] == name


def engine_class(name: str) -> Callable[..., Engine]:
    """Return the class of the engine called `name`.

    Raises
    ------
    SettingError
        If there is no such engine.
    EngineError
        If what it needs is not installed.
    """
    if name not in ENGINES:
        known = f"{', '.join(NAMES[:-1])} or {NAMES[-1]}"
        raise SettingError(f"engine {name!r}: want {known}{did_you_mean(name, NAMES)}")
    module, engine, needs = ENGINES[name]
    try:
        build: Callable[..., Engine] = getattr(import_module(module), engine)
    except ImportError as error:
        raise EngineError(f"engine {name!r}: {error}; it needs {needs}") from None
    return build


def make_engine(name: str, network: Network, rules: Rules, state: State, **options: Any) -> Engine:
    """Build the engine called `name`, going on from a state.

    Parameters
    ----------
    options : lanes, model, widths and replay of the lava engine, device of the torch engine, codegen of
        brian2's; None is its default

    Raises
    ------
    SettingError
        If there is no such engine, or an option is given to one that has none.
    EngineError
        If what it needs is not installed, or the device is not here.
    """
    given = {option: value for option, value in options.items() if value is not None}
    for option, value in given.items():
        owner, reason = OPTIONS[option]
        if name != owner:
            raise SettingError(f"{option}={value}: {reason}")
    return engine_class(name)(network, rules, state=state, **given)


def make_prototype_engine(
    name: str, network: Network, rules: Rules, state: State, prototypes: Prototypes
) -> Engine:
    """Build what holds prototypes in the place of the last layer, in numpy or, called 'lava', in Lava."""
    if name == "lava":
        try:
            from mappings.engines.lava.prototypes import LavaPrototypeEngine
        except ImportError as error:
            raise EngineError(f"engine {name!r}: {error}; it needs {ENGINES[name][2]}") from None
        return LavaPrototypeEngine(network, rules, state, prototypes)
    if name not in ("numpy", "compiled"):
        raise EngineError(f"engine {name!r} with prototypes: want numpy or lava")
    return PrototypeEngine(network, rules, state, prototypes)
