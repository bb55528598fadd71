"""What the logic of each layer must hold: sizes, rules and widths, fixed when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from processes.widths import FORWARD, NEURONS, TRANSPOSED, LayerLimits, Widths, limits
from wage_neuro.control import HOLD_MAX
from wage_neuro.errors import NetworkError, SettingError
from wage_neuro.eta import LOG2_ETA_RANGE
from wage_neuro.kinds import Kind
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.rules import NEUTRAL, VALUES, Rules
from wage_neuro.specs import max_pool
from wage_neuro.support import Support

WHO = "the rtl core"
LANES = (16, 8, 4, 2, 1)
"""Synapses that one word of the weight memory can hold: whole words lie in one block of random bits."""
LAYERS_MAX, INPUTS_MAX = 16, 1 << 16  # the fields of the host's addresses and events
HOLD_BITS = HOLD_MAX.bit_length()
ETA_BITS = max(-LOG2_ETA_RANGE[0], LOG2_ETA_RANGE[1]).bit_length() + 1
EXPONENT_BITS = 7
"""Signed; -1 is unknown."""

PIPES = {1: (1, True), 2: (1, False), 4: (2, False), 5: (5, True), 10: (5, False)}
"""64 x 64 multipliers -> (round units in a ring, whether the two products of a round share a multiplier);
a block takes 20 / multipliers cycles."""

SUPPORTS = Support(
    who=WHO,
    kinds=frozenset({Kind.DENSE, Kind.CONV, Kind.MAX_POOL}),
    rules={
        **VALUES,
        **NEUTRAL,
        "shift": ("held",),
        "update": ("ternary", "coincidence"),
    },
    with_kind={
        Kind.CONV: {"pipelined": (False,), "update": ("ternary",), "feedback": ("transposed",)},
    },
    one_by_one=True,
)


@dataclass(frozen=True)
class LayerShape:
    """One layer of the core.

    Attributes
    ----------
    lanes : synapses a word, a divisor of the layer's outputs
    limits : worst cases of the structural model's parts, which give the widths
    classes : outputs of the last layer
    depth : layers of the network
    """

    layer: Layer
    rules: Rules
    lanes: int
    limits: LayerLimits
    classes: int
    depth: int

    @property
    def index(self) -> int:
        return self.layer.index

    @property
    def n_in(self) -> int:
        return self.layer.fan_in

    @property
    def n_out(self) -> int:
        return self.layer.weight_shape[-1]

    @property
    def inputs(self) -> int:
        return prod(self.layer.in_shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.layer.out_shape

    @property
    def outputs(self) -> int:
        """Neurons."""
        return prod(self.layer.out_shape)

    @property
    def kernel(self) -> int:
        """Side of the kernel; 0 of a dense layer."""
        return self.layer.window[0] if self.layer.window else 0

    @property
    def log2_pool(self) -> int:
        """log2 of the side of a pooling window."""
        return self.layer.pool.size.bit_length() - 1 if self.layer.pool else 0

    @property
    def error_words(self) -> int:
        """Words of error codes."""
        return self.outputs // self.lanes

    @property
    def visits(self) -> int:
        """Visits of words in the longest walk: a kernel's, once for every place."""
        return self.words * max(self.layer.positions, self.inputs if self.kernel else 1)

    @property
    def words_a_row(self) -> int:
        """Words that hold the synapses of one input."""
        return self.n_out // self.lanes

    @property
    def words(self) -> int:
        return self.n_in * self.words_a_row

    @property
    def slot_bits(self) -> int:
        """Of the number of a sample in flight: one arrives, the others' errors are to come."""
        return (2 * (self.depth - self.index) + 1).bit_length() if self.rules.pipelined else 0

    @property
    def sends_error(self) -> bool:
        """Whether an error goes down through this layer's rows."""
        return self.index > 0 and self.rules.feedback != "direct"

    @property
    def hears_directly(self) -> bool:
        """Whether the last layer's error comes to this one through fixed weights of its own."""
        return self.rules.feedback == "direct" and not self.layer.is_last

    @property
    def feedback_words(self) -> int:
        """Words of fixed feedback weights, two bits a lane."""
        if self.hears_directly:
            return self.classes * self.words_a_row
        return self.words if self.rules.feedback == "random" and self.sends_error else 0

    @property
    def coincidence(self) -> bool:
        return self.rules.update == "coincidence"

    @cached_property
    def bound(self) -> int:
        """Largest stored weight."""
        return self.layer.bits.stored_max(self.rules.stored_range)

    @cached_property
    def half(self) -> int:
        """A stored weight above it is visible: round half to even of ternary weights."""
        k_G = self.layer.bits.k_G
        return 1 << (k_G - 3) if k_G > 2 else 0

    # widths in bits, sign included

    @cached_property
    def a_bits(self) -> int:
        return self.limits[FORWARD]["a_in"].needed

    @cached_property
    def s_bits(self) -> int:
        return self.layer.bits.k_G

    @cached_property
    def e_bits(self) -> int:
        return self.layer.bits.k_E

    @cached_property
    def z_bits(self) -> int:
        return self.limits[NEURONS]["z_in"].needed

    @cached_property
    def g_bits(self) -> int:
        """Of the gradient of a weight."""
        return self.limits[FORWARD]["G"].needed

    @cached_property
    def d_bits(self) -> int:
        """Of the error that arrives."""
        return self.limits[NEURONS]["e_in"].needed

    @cached_property
    def back_bits(self) -> int:
        """Of the error that leaves."""
        return self.limits[TRANSPOSED]["e_out"].needed if self.sends_error else 1


def shapes(network: Network, rules: Rules, lanes: int = LANES[0]) -> tuple[LayerShape, ...]:
    """Return the shape of each layer, with at most so many lanes.

    Raises
    ------
    NetworkError, SettingError
        If the network or the rules have something that the core has not.

    >>> from wage_neuro import Dense
    >>> net = Network.parse("512FC-10FC", (784,))
    >>> [(s.lanes, s.words, s.z_bits) for s in shapes(net, Rules(batch=1, shift="held", update="ternary"))]
    [(16, 25088, 18), (2, 2560, 17)]
    """
    check(network, rules)
    if lanes not in LANES:
        raise SettingError(f"lanes={lanes}: want {', '.join(map(str, LANES))}")
    table = limits(network, rules, Widths())
    return tuple(
        LayerShape(
            layer,
            rules,
            next(n for n in LANES if n <= lanes and layer.weight_shape[-1] % n == 0),
            each,
            network.classes,
            len(network.layers),
        )
        for layer, each in zip(network.layers, table, strict=True)
    )


def check(network: Network, rules: Rules) -> None:
    """Refuse by name what the core has not."""
    SUPPORTS.check(network, rules)
    if rules.pipelined:
        rules.require(f"{WHO}, pipelined,", feedback=("transposed", "random"))
    if len(network.layers) > LAYERS_MAX:
        raise NetworkError(f"{len(network.layers)} layers: {WHO} has at most {LAYERS_MAX}")
    for layer in network.layers:
        inputs = max(prod(layer.in_shape), prod(layer.out_shape))
        if inputs > INPUTS_MAX:
            raise NetworkError(f"layer {layer.index} {layer}: {inputs} inputs, {WHO} takes {INPUTS_MAX}")
        if layer.window:
            _check_windows(layer)
    if network.bits.k_W != 2:
        raise NetworkError(f"bits {network.bits}: {WHO} has ternary weights only, k_W=2")


def _check_windows(layer: Layer) -> None:
    """Of a convolution and its pooling."""
    (_, stride), pool = layer.window or (0, 1), max_pool(layer.pool)
    if stride != 1:
        raise NetworkError(f"layer {layer.index} {layer}: stride {stride}, {WHO} has 1 only")
    if pool and (pool.step != pool.size or pool.size & (pool.size - 1)):
        raise NetworkError(
            f"layer {layer.index} {layer}: {WHO} has windows of 2, 4 or 8 places that lie side by side"
        )


def pipes(multipliers: int) -> tuple[int, bool]:
    """Return the entry of PIPES, or raise SettingError."""
    if multipliers not in PIPES:
        raise SettingError(f"multipliers={multipliers}: want {', '.join(map(str, PIPES))}")
    return PIPES[multipliers]
