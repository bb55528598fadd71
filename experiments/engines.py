"""Engines by name: ours, and those of other packages (entry points `wage_neuro.engines`)."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from wage_neuro.discriminant import Discriminant, DiscriminantEngine
from wage_neuro.engine import Engine
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.kernels import build, native
from wage_neuro.network import Network
from wage_neuro.prototypes import PrototypeEngine, Prototypes
from wage_neuro.registry import Place, Registry
from wage_neuro.rules import Rules
from wage_neuro.train import State

_LAVA = "lava-nc 0.10.0 ('make demo' sets it up)"
_TORCH = 'PyTorch: pip install "wage-neuro[torch]"'
ENGINES: Registry[type[Engine]] = Registry(
    "engine",
    "wage_neuro.engines",
    Engine,
    {
        "numpy": Place("wage_neuro.engine:NumpyEngine", "numpy"),
        "compiled": Place("mappings.engines.compiled:CompiledEngine", "the compiled kernels"),
        "torch": Place("mappings.engines.torch.engine:TorchEngine", _TORCH),
        "lava": Place("mappings.engines.lava.engine:LavaEngine", _LAVA),
        "brian2": Place(
            "mappings.engines.brian2.engine:Brian2Engine", 'Brian2: pip install "wage-neuro[brian2]"'
        ),
        "rtl": Place("mappings.hardware.rtl.engine:RtlEngine", 'Amaranth: pip install "wage-neuro[rtl]"'),
    },
)
PROTOTYPES: Registry[type[Engine]] = Registry(
    "engine with prototypes",
    "wage_neuro.prototype_engines",
    Engine,
    {
        "numpy": PrototypeEngine,
        "compiled": PrototypeEngine,
        "lava": Place("mappings.engines.lava.read_out:LavaPrototypeEngine", _LAVA),
    },
    problem=EngineError,
)
"""What holds prototypes in the place of the last layer."""
DISCRIMINANTS: Registry[type[Engine]] = Registry(
    "engine with a discriminant",
    "wage_neuro.discriminant_engines",
    Engine,
    {
        "numpy": DiscriminantEngine,
        "compiled": DiscriminantEngine,
        "lava": Place("mappings.engines.lava.read_out:LavaDiscriminantEngine", _LAVA),
    },
    problem=EngineError,
)
"""What holds a discriminant there."""
NAMES = tuple(ENGINES)


def check_here(name: str) -> None:
    """Raise SettingError or EngineError unless what an engine needs is here.

    Compiled kernels may be missing, or older than their source.
    """
    ENGINES.find(name)
    if name == "compiled":
        native.load(build.LIBRARY)


def fastest() -> str:
    """The fastest engine of use here."""
    try:
        check_here("compiled")
    except EngineError:
        return "numpy"
    return "compiled"


FASTEST = fastest()
"""Of those here."""


def holds_memory(name: str) -> bool:
    """Whether the engine of that name can take in the memory that replays."""
    return "holds the memory" in ENGINES.find(name).supports.abilities


def make_engine(name: str, network: Network, rules: Rules, state: State, **options: Any) -> Engine:
    """Build the engine called `name`, going on from a state.

    Parameters
    ----------
    options : of the engine's `Options`; None is its default

    Raises
    ------
    SettingError
        If there is no such engine, or an option is given to one that has none.
    EngineError
        If what it needs is not installed, or the device is not here.
    """
    engine = ENGINES.find(name)
    given = {option: value for option, value in options.items() if value is not None}
    known = [each.name for each in fields(engine.Options)]
    for option, value in given.items():
        if option not in known:
            has = f"; it has {', '.join(known)}" if known else ""
            raise SettingError(f"{option}={value}: engine {name!r} has no such option{has}")
    # an abstract class has no constructor that mypy could check
    build: Any = engine
    more = {"options": engine.Options(**given)} if given else {}
    made: Engine = build(network, rules, state=state, **more)
    return made


def make_read_out(
    engines: Registry[type[Engine]],
    name: str,
    network: Network,
    rules: Rules,
    state: State,
    held: Prototypes | Discriminant,
) -> Engine:
    """Build the one of `PROTOTYPES` or `DISCRIMINANTS` that holds this in the place of the last layer."""
    build: Any = engines.find(name)
    made: Engine = build(network, rules, state, held)
    return made
