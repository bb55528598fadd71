"""What of a chip a network breaks: every limit at once, each with the way out if there is one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mappings.chips.chip import Chip
from mappings.chips.placement import CHIP, DoesNotFit, Placement, Use
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.specs import max_pool
from wage_neuro.update import MOMENTUM_BITS

_ANSWER = "train off the chip and map with --mode inference"
_OFF_CHIP = f"another chip, or {_ANSWER}"


@dataclass(frozen=True)
class Limit:
    """A limit that a network breaks.

    Attributes
    ----------
    where : the layer, or what else of the network
    quantity, value, limit, unit : what is wanted, and what the chip has; an ability is wanted (1) or not
        there (0)
    way_out : what would help
    """

    where: str
    quantity: str
    value: int
    limit: int
    unit: str
    way_out: str

    def __str__(self) -> str:
        if self.unit == "ability":
            return f"{self.where}: needs {self.quantity}, which the chip has not; {self.way_out}"
        return f"{self.where}: {self.quantity} {self.value:,} > {self.limit:,} {self.unit}; {self.way_out}"


def signed_bits(bound: int) -> int:
    """Width of whole numbers in -bound .. bound.

    >>> [signed_bits(n) for n in (1, 127, 128)]
    [2, 8, 9]
    """
    return bound.bit_length() + 1


def broken(network: Network, chip: Chip, use: Use) -> list[Limit]:
    """Every limit of widths and abilities that a network breaks, whatever the data; room is `place`'s
    matter."""
    CHIP.check(network)
    found = [*_message_limits(network, chip, use)]
    for layer in network.layers[: -1 if use.prototypes else None]:
        found += _layer_limits(layer, chip, use)
    if use.prototypes:
        found += _prototype_limits(network, chip, use)
    elif use.training:
        found += _learning_limits(network, chip, use)
    return found


def _prototype_limits(network: Network, chip: Chip, use: Use) -> Iterator[Limit]:
    bits, features = network.bits, network.layers[-1].in_shape[0]
    if bits.k_A > chip.weight_bits:
        yield Limit("prototypes", "code", bits.k_A, chip.weight_bits, "bits", "fewer bits (k_A)")
    signed = network.signed_input and len(network.layers) == 1
    needed = signed_bits((3 if signed else 1) * features * bits.activation_max**2)  # 2 x P - P P
    if needed > chip.state_bits:
        way_out = "fewer features, or fewer bits (k_A)"
        yield Limit("prototypes", "nearness 2 x P - P P", needed, chip.state_bits, "bits of state", way_out)
    if use.training and not chip.learning:
        yield Limit("prototypes", "synapses that learn", 1, 0, "ability", _OFF_CHIP)


def _payload(codes_max: int, signed: bool) -> int:
    """Bits beside the spike itself: a spike of one kind says 1."""
    return codes_max.bit_length() + 1 if signed else (codes_max.bit_length() if codes_max > 1 else 0)


def _message_limits(network: Network, chip: Chip, use: Use) -> Iterator[Limit]:
    bits = network.bits
    graded = "a chip with graded spikes"
    code = f"{graded}, or k_A = 2"
    messages = [
        (
            "input",
            "payload of an input code",
            bits.activation_max,
            network.signed_input,
            f"{graded}, or k_A = 2",
        )
    ]
    for layer in network.layers[:-1]:
        where = f"layer {layer.index} {layer}"
        messages.append((where, "payload of an activation", bits.activation_max, False, code))
    for layer in network.layers[use.frozen :] if use.training and not use.prototypes else ():
        messages.append((f"layer {layer.index} {layer}", "payload of an error", bits.error_max, True, graded))
    for where, quantity, value, signed, way_out in messages:
        if (needed := _payload(value, signed)) > chip.payload_bits:
            yield Limit(where, quantity, needed, chip.payload_bits, "bits", way_out)


def _layer_limits(layer: Layer, chip: Chip, use: Use) -> Iterator[Limit]:
    where, bits = f"layer {layer.index} {layer}", layer.bits
    if bits.k_W > chip.weight_bits:
        yield Limit(where, "weight", bits.k_W, chip.weight_bits, "bits", "fewer bits (k_W)")
    sums = {"product Z": 2 * layer.z_bound if layer.is_last and use.training else layer.z_bound}
    if use.training and layer.index > use.frozen and use.rules.feedback != "direct":
        sums["error V^T E"] = layer.d_bound
    for quantity, bound in sums.items():
        if signed_bits(bound) > chip.state_bits:
            way_out = "fewer channels, or fewer bits (k_A, k_E, k_W)"
            yield Limit(where, quantity, signed_bits(bound), chip.state_bits, "bits of state", way_out)
    pool = max_pool(layer.pool)
    if pool and not chip.programmable_neurons:
        strided = f"{layer.weight_shape[-1]}C{layer.weight_shape[0]}S{pool.step}"
        way_out = f"a stride of {pool.step} instead of {pool} (such as {strided})"
        yield Limit(where, "max-pooling (programmable neurons)", 1, 0, "ability", way_out)


def _learning_limits(network: Network, chip: Chip, use: Use) -> Iterator[Limit]:
    bits, rules = network.bits, use.rules
    for ability, name in (("learning", "synapses that learn"), ("third_factor", "a third factor, the error")):
        if not getattr(chip, ability):
            yield Limit("all layers", name, 1, 0, "ability", _OFF_CHIP)
    if bits.k_G > chip.tag_bits:
        yield Limit(
            "all layers", "stored weight in the tag", bits.k_G, chip.tag_bits, "bits", "fewer bits (k_G)"
        )
    if rules.loss == "softmax":
        way_out = "train with the one-sided loss (train --mode onchip)"
        yield Limit("output", "softmax", 1, 0, "ability", way_out)
    if rules.momentum:
        way_out = "train without momentum (train --mode onchip)"
        yield Limit("all layers", "momentum", MOMENTUM_BITS, 0, "bits a synapse", way_out)
    if rules.shift == "batch":
        way_out = "hold the exponents (train --shift held, or --mode onchip)"
        yield Limit("all layers", "a maximum over the batch", 1, 0, "ability", way_out)
    for layer in network.layers[use.frozen :]:
        where = f"layer {layer.index} {layer}"
        if layer.window and not chip.shared_learning:
            yield Limit(where, "a convolution that learns", 1, 0, "ability", f"dense layers, or {_ANSWER}")
        if rules.samples_an_update > 1:
            needed = signed_bits(layer.g_bound(rules.samples_an_update))
            if needed > chip.gradient_bits:
                way_out = "learn one sample at a time (train --mode onchip)"
                yield Limit(
                    where, "gradient of a batch", needed, chip.gradient_bits, "bits a synapse", way_out
                )


def broken_by_parts(placement: Placement) -> list[Limit]:
    """Limits of a network whose layers' inputs had to be cut: partial sums are messages too."""
    found, chip = [], placement.chip
    cut = sorted({p.population for i, p in enumerate(placement.pieces) if p.first != i})
    for t in cut:
        population = placement.populations[t]
        layer = placement.network.layers[population.layer]
        main = next(g for g in placement.geometries if g.link.target == t)
        needed = signed_bits(main.fan_in(main.inputs) * main.link.value)
        if needed > chip.payload_bits:
            where = f"layer {layer.index} {layer}, {population.role}"
            way_out = "fewer channels below, so that its inputs fit one core, or a chip with graded spikes"
            found.append(Limit(where, "payload of a partial sum", needed, chip.payload_bits, "bits", way_out))
    return found


_WORDS = {
    "neurons": ("neurons of one piece", "neurons a core", "another chip"),
    "memory": ("synapses of one neuron", "bits a core", "fewer channels, or another chip"),
    "axons_in": ("inputs of one neuron", "axons a core", "fewer channels, or another chip"),
    "axons_out": (
        "cores that hear one neuron",
        "axons a core",
        "fewer channels above, direct feedback, or another chip",
    ),
}


def no_room(network: Network, error: DoesNotFit) -> Limit:
    """The limit behind a placement that failed."""
    quantity, unit, way_out = _WORDS[error.quantity]
    layer = network.layers[error.population.layer]
    where = f"layer {layer.index} {layer}, {error.population.role}"
    return Limit(where, quantity, error.value, error.limit, unit, way_out)
