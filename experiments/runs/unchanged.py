"""Layers that were to learn and did not: a line each, so that no accuracy is taken for a learned one."""

from __future__ import annotations

import numpy as np

from wage_neuro.control import Control
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.train import State


def unchanged(
    network: Network, rules: Rules, before: State, after: State, control: Control | None = None
) -> list[str]:
    """Name the layers of which not one stored weight has changed, and why.

    Parameters
    ----------
    control : says which layers are frozen; those were not to learn

    >>> from wage_neuro.train import initial_state
    >>> network, rules = Network.parse("4FC-2FC", (3,)), Rules(batch=1, shift="held")
    >>> state = initial_state(network)
    >>> unchanged(network, rules, state, state)[1]
    'layer 1 2FC: not one weight has changed in 0 updates: no error has reached it'
    """
    controls = (control or Control(log2_eta=0)).of_layers(len(network.layers), rules)
    updates = after.step - before.step
    return [
        f"layer {layer.index} {layer}: not one weight has changed in {updates:,} updates:"
        f" {_cause(rules, after, layer.index)}"
        for layer, own, S, new in zip(network.layers, controls, before.S, after.S, strict=True)
        if own.log2_eta is not None and np.array_equal(S, new)
    ]


def _cause(rules: Rules, state: State, i: int) -> str:
    if rules.shift == "held" and state.error_held[i].exponent is None:
        return "no error has reached it"
    if rules.shift == "held":
        return "held exponents let a layer learn two updates after its first error at the earliest; want more"
    return "no step came to 1, or all samples had their margin; more updates or a larger eta may help"
