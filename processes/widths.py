"""Declared widths of the structural models: every message, state and accumulator, against its worst case.

The worst case follows from the network alone. Where it fits, no data can exceed the width and nothing is
checked while the network runs. Where it does not, the quantity saturates as it would on the chip, or, in
strict mode, ends the run.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from wage_neuro.errors import BitWidthError
from wage_neuro.fixed_point import log2_round, peak
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.rules import Rules

FORWARD, NEURONS, TRANSPOSED = "forward synapses", "neurons", "transposed synapses"
ERROR_TRACKER, GRADIENT_TRACKER = "error exponent", "gradient exponent"


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Bits of each kind of quantity, sign included. Defaults: Loihi 2, or Loihi 1 where that is published.

    Raises
    ------
    BitWidthError
        If a width is outside 2..32.
    """

    activation: int = 8  # graded spike, signed: k_A; Loihi 2 carries up to 32 bits, 24 in Lava
    error: int = 8  # graded spike of e+ or e-, unsigned
    post: int = 8  # third factor y1 of lava-nc's learning engine: 7 bits and sign
    weight: int = 8  # Loihi 2
    tag: int = 9  # Loihi 1: 8 bits and sign
    accumulator: int = 22  # nengo-loihi Q_BITS: 21 and sign; lava-nc's Dense labels its buffer 16
    state: int = 24  # Loihi's u and v: 23 bits and sign
    learning: int = 16  # nengo-loihi LEARN_BITS: 15 and sign
    shared: int = 24  # gradient of a shared weight: in the state of a neuron, no synapse can add it up
    exponent: int = 6  # graded spike of a tracker; -1 is unknown

    def __post_init__(self) -> None:
        for field in fields(self):
            k = getattr(self, field.name)
            if isinstance(k, bool) or not isinstance(k, int) or not 2 <= k <= 32:
                raise BitWidthError(f"width {field.name}={k!r}: want a whole number in 2..32")


@dataclass(frozen=True)
class Limit:
    """The declared width of one quantity of one Process, and its worst case.

    Signed quantities are symmetric, as codes are: abs(x) <= 2**(bits - 1) - 1.

    >>> Limit("neurons", "z_in", worst=127, bits=8).fit(np.array([-128, 127])).tolist()  # proven: not touched
    [-128, 127]
    >>> Limit("neurons", "z_in", worst=128, bits=8).fit(np.array([-128, 127])).tolist()
    [-127, 127]
    """

    process: str
    var: str
    worst: int
    bits: int
    signed: bool = True
    strict: bool = False

    @property
    def high(self) -> int:
        return (1 << (self.bits - self.signed)) - 1

    @property
    def low(self) -> int:
        return -self.high if self.signed else 0

    @property
    def proven(self) -> bool:
        """No data can exceed the width."""
        return self.worst <= self.high

    @property
    def needed(self) -> int:
        """Bits that the worst case takes, where the width may be chosen.

        >>> [Limit("neurons", "z_in", worst, bits=24).needed for worst in (127, 128)]
        [8, 9]
        """
        return self.worst.bit_length() + self.signed

    def fit(self, x: np.ndarray) -> np.ndarray:
        """Saturate an unproven quantity, or raise BitWidthError in strict mode."""
        if self.proven:
            return x
        if self.strict and peak(x) > self.high:
            worst = int(x.flat[np.abs(x).argmax()])
            raise BitWidthError(f"{self.process}: {self.var}={worst} is past its {self.range}")
        return np.clip(x, self.low, self.high)

    def fit_whole(self, x: int) -> int:
        """`fit` of one whole number."""
        return int(self.fit(np.array(x)))

    @property
    def range(self) -> str:
        return f"{self.bits} bits ({self.low}..{self.high})"

    def __str__(self) -> str:
        return f"{self.process}: {self.var} may reach {self.worst}, past its {self.range}"


LayerLimits = dict[str, dict[str, Limit]]
"""Part -> Var or port -> Limit."""


def output_error_max(layer: Layer, former: bool = False) -> int:
    """Largest error of the loss at the last layer, in units of Z, whatever the data.

    former : whether the answers of samples that are recalled are drawn to those they once had, which adds
        Z - former
    """
    return layer.z_bound + layer.target + (2 * layer.z_bound if former else 0)


def limits(
    network: Network, rules: Rules, widths: Widths, strict: bool = False, former: bool = False
) -> list[LayerLimits]:
    """Worst case and declared width of everything in the structural model of each layer.

    former : as in `output_error_max`
    """
    return [
        {
            part: {
                var: Limit(f"layer {layer.index} {layer} {part}", var, worst, k, _signed(part, var), strict)
                for var, (worst, k) in rows.items()
            }
            for part, rows in _worst_cases(network, layer, rules, widths, former).items()
        }
        for layer in network.layers
    ]


def require_hold(limits: LayerLimits, hold: int) -> None:
    """Raise BitWidthError unless the trackers of a layer can count to a hold that the rules do not name."""
    for part in (ERROR_TRACKER, GRADIENT_TRACKER):
        counter = limits.get(part, {}).get("below")
        if counter and hold > max(counter.high, counter.worst):
            raise BitWidthError(
                f"hold={hold}: the {counter.process} counts in {counter.range}; want at most {counter.high}"
            )


def unproven(network: Network, rules: Rules, widths: Widths | None = None, former: bool = False) -> list[str]:
    """Name what may exceed its width: Process, Var, worst case and width, a line each.

    former : as in `output_error_max`

    >>> from wage_neuro import Dense
    >>> net, rules = Network.parse("512FC-10FC", (784,)), Rules(batch=1, shift="held", update="ternary")
    >>> unproven(net, rules)
    []
    >>> unproven(net, rules, Widths(accumulator=17))
    ['layer 0 512FC forward synapses: z_out may reach 99568, past its 17 bits (-65535..65535)']
    """
    return [
        str(limit)
        for layer in limits(network, rules, widths or Widths(), former=former)
        for part in layer.values()
        for limit in part.values()
        if not limit.proven
    ]


def _worst_cases(
    network: Network, layer: Layer, rules: Rules, widths: Widths, former: bool
) -> dict[str, dict[str, tuple[int, int]]]:
    """Of each part and each of its Vars and ports: its worst case, and its declared width."""
    bits, above = layer.bits, network.layers[layer.index + 1 :]
    error_in = above[0].d_bound if above else output_error_max(layer, former)
    spread = layer.spread_error_max
    if layer.pooled_bound.bit_length() >= widths.state > layer.z_bound.bit_length():
        # what saturates is a message; a sum of messages would not
        raise BitWidthError(
            f"layer {layer.index} {layer}: a window's sum may reach {layer.pooled_bound}, past the"
            f" {widths.state} bits of a neuron's state"
        )
    if rules.feedback == "direct" and not layer.is_last:
        error_in = network.classes * bits.error_max
    post, G = spread, layer.g_bound(1)
    if rules.update == "coincidence":  # spikes of 1; overlapping windows may add some up
        post = spread // bits.error_max
        G = layer.positions * post
    shared = layer.positions > 1
    synapses = {
        "a_in": (bits.activation_max, widths.activation),
        "S": (bits.stored_max(rules.stored_range), widths.tag),
        "V": (bits.weight_max, widths.weight),
        "G": (G, widths.shared if shared else widths.learning),
    }
    neurons = {
        "z_in": (layer.z_bound, widths.state),
        "e_in": (error_in, widths.state),
        "e_out": (spread, widths.error),
        "y_out": (post, widths.post),
    }
    if not layer.is_last:
        neurons["a_out"] = (bits.activation_max, widths.activation)
    table = {
        FORWARD: {**synapses, "z_out": (layer.z_bound, widths.accumulator)},
        NEURONS: neurons,
        ERROR_TRACKER: _tracker(error_in, rules, widths),
    }
    if layer.index:
        table[TRANSPOSED] = {**synapses, "e_out": (layer.d_bound, widths.accumulator)}
    if rules.update != "coincidence":
        table[GRADIENT_TRACKER] = _tracker(G, rules, widths)
    return table


def _tracker(worst: int, rules: Rules, widths: Widths) -> dict[str, tuple[int, int]]:
    return {
        "x_in": (worst, widths.state),
        "below": (rules.hold, widths.state),
        "exponent": (log2_round(max(1, worst)), widths.exponent),
    }


def _signed(part: str, var: str) -> bool:
    return (part, var) != (NEURONS, "e_out")  # e+ and e-, each without a sign
