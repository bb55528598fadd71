"""How many binary spikes in a row carry a graded one."""

from __future__ import annotations

from wage_neuro.network import Network


def planes_of(network: Network) -> tuple[int, ...]:
    """Time steps in which the input and each hidden layer send: k_A - 1, one more for signed input codes."""
    width = network.bits.k_A - 1
    return (width + network.signed_input, *[width] * (len(network.layers) - 1))
