"""Engines by name."""

from __future__ import annotations

from wage_neuro.engine import Engine, NumpyEngine
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.train import State

NAMES = ("numpy", "compiled", "torch", "lava")


def make_engine(
    name: str,
    network: Network,
    rules: Rules,
    state: State,
    lanes: int | None = None,
    device: str | None = None,
) -> Engine:
    """Build the engine called `name`, going on from a state.

    Raises
    ------
    SettingError
        If there is no such engine, or lanes or a device are given to one that has none.
    EngineError
        If what it needs is not installed, or the device is not here.
    """
    if name not in NAMES:
        raise SettingError(f"engine {name!r}: want {', '.join(NAMES[:-1])} or {NAMES[-1]}")
    if lanes is not None and name != "lava":
        raise SettingError(f"lanes={lanes}: only the lava engine sends samples in lanes")
    if device is not None and name != "torch":
        raise SettingError(f"device={device}: only the torch engine chooses one")
    if name == "lava":
        try:
            from mappings.lava import LavaEngine
        except ImportError as error:
            raise EngineError(
                f"engine 'lava': {error}; it needs lava-nc 0.10.0 on Python 3.10 ('make demo' sets it up)"
            ) from None
        return LavaEngine(network, rules, state=state, lanes=lanes)
    if name == "numpy":
        return NumpyEngine(network, rules, state=state)
    if name == "torch":
        try:
            from mappings.accelerator import TorchEngine
        except ImportError as error:
            raise EngineError(
                f"engine 'torch': {error}; it needs PyTorch: pip install \"wage-neuro[torch]\""
            ) from None
        return TorchEngine(network, rules, state=state, device=device)
    try:
        from mappings.compiled import CompiledEngine
    except ImportError as error:
        raise EngineError(
            f"engine 'compiled': {error}; it needs numba: pip install \"wage-neuro[compiled]\""
        ) from None
    return CompiledEngine(network, rules, state=state)
