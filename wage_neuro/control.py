"""Control: what may change from one call of an engine to the next, without building anything anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wage_neuro.errors import SettingError
from wage_neuro.eta import LOG2_ETA_RANGE
from wage_neuro.rules import Rules

HOLD_MAX = 2**31 - 1  # a Var of a Lava Process holds 32 bits


@dataclass(frozen=True)
class LayerControl:
    """Control of one layer: log2_eta None freezes its weights, while errors still pass it."""

    log2_eta: int | None
    hold: int


@dataclass(frozen=True, kw_only=True)
class Control:
    """Step size and hold of each layer.

    Parameters
    ----------
    log2_eta : int, or one a layer
        eta = 2**log2_eta, in coincidence learning the rate. None freezes a layer.
    hold : int, or one a layer, optional
        Samples below a held exponent before it steps down; the rules' own if not given.

    >>> Control(log2_eta=(None, 3), hold=7).of_layers(2, Rules())
    (LayerControl(log2_eta=None, hold=7), LayerControl(log2_eta=3, hold=7))
    """

    log2_eta: int | tuple[int | None, ...] | None
    hold: int | tuple[int, ...] | None = None

    def of_layers(self, layers: int, rules: Rules) -> tuple[LayerControl, ...]:
        """Return the control of each of so many layers.

        Raises
        ------
        SettingError
            If there are not as many as layers, or one is out of range.
        """
        etas = _one_a_layer("eta", self.log2_eta, layers)
        holds = _one_a_layer("hold", rules.hold if self.hold is None else self.hold, layers)
        low, high = LOG2_ETA_RANGE
        for eta in etas:
            if eta is not None and not (_is_whole(eta) and low <= eta <= high):
                raise SettingError(f"eta=2**{eta}: want 2**{low} .. 2**{high}")
        for hold in holds:
            if not _is_whole(hold) or not 1 <= hold <= HOLD_MAX:
                raise SettingError(f"hold={hold!r}: want a whole number in 1..{HOLD_MAX}")
        return tuple(
            LayerControl(None if eta is None else int(eta), int(hold))
            for eta, hold in zip(etas, holds, strict=True)
        )


def control_of(control: int | Control) -> Control:
    """Return the control that a number stands for: the same step size for every layer."""
    return control if isinstance(control, Control) else Control(log2_eta=control)


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _one_a_layer(name: str, value: object, layers: int) -> tuple[Any, ...]:
    values = tuple(value) if isinstance(value, tuple | list) else (value,) * layers
    if len(values) != layers:
        raise SettingError(f"{len(values)} values of {name}: want one for each of the {layers} layers")
    return values
