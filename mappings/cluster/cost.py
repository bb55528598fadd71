"""What a team sends in one update, from shapes and bounds alone, and how long that takes on a link."""

from __future__ import annotations

from dataclasses import dataclass

from mappings.cluster.codes import bytes_for, packed_bytes
from mappings.cluster.team import Traffic, float_bytes
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.team import code_bits, weight_parts


def traffic_of(network: Network, rules: Rules, size: int, rank: int = 0) -> Traffic:
    """Bytes that one of `size` ranks sends to others in an update in which no layer is frozen.

    >>> traffic_of(Network.parse("40FC-3FC", (24,)), Rules(batch=8, update="ternary"), 2)
    Traffic(sums=1344, steps=158, maxima=32, metrics=0)
    """
    found, rows = Traffic(), -(-rules.batch // size)
    for layer in network.layers:
        parts = [part.stop - part.start for part in weight_parts(layer.n_weights, size)]
        found.sums += bytes_for(layer.g_bound(rows)) * (sum(parts) - parts[rank])
        found.steps += packed_bytes(parts[rank], code_bits(rules, layer.bits.k_G)) * (size - 1)
    numbers = len(network.layers) + sum(layer.quantized for layer in network.layers)
    found.maxima = 8 * numbers * (size - 1).bit_length()
    return found


@dataclass(frozen=True)
class Load:
    """What the messages of one update ask of a link, where nothing is overlapped with work.

    Attributes
    ----------
    rounds : messages that wait for one before them
    messages : that one rank sends
    sent : bytes that one rank sends
    """

    rounds: int
    messages: int
    sent: int


NOTHING = Load(0, 0, 0)


@dataclass(frozen=True)
class Link:
    """What joins two ranks.

    Attributes
    ----------
    latency : seconds until a short message is there
    bandwidth : bytes a second, in each direction
    overhead : seconds of a processor for each message that is sent
    """

    latency: float
    bandwidth: float
    overhead: float = 0.0

    def seconds(self, load: Load) -> float:
        """Time that an update's messages take.

        >>> Link(1e-3, 1e6, 1e-5).seconds(Load(rounds=2, messages=3, sent=5000))
        0.00703
        """
        return load.rounds * self.latency + load.messages * self.overhead + load.sent / self.bandwidth


def load_of(network: Network, rules: Rules, size: int) -> Load:
    """An update's: maxima go by recursive doubling, one after another; the sums of a layer to all others at
    once; the steps by recursive doubling.
    """
    if size == 1:
        return NOTHING
    layers, rounds = len(network.layers), (size - 1).bit_length()
    reductions = 1 + sum(layer.quantized for layer in network.layers)
    sent = max(traffic_of(network, rules, size, rank).learning for rank in (0, size - 1))
    doubled = (reductions + 1) * rounds
    return Load(doubled + 1, doubled + layers * (size - 1), sent)


def float_load_of(network: Network, size: int) -> Load:
    """The same for gradients of float32 in one ring all-reduce."""
    if size == 1:
        return NOTHING
    steps = 2 * (size - 1)
    return Load(steps, steps, float_bytes(network.n_weights, size))
