"""Place a network on a chip: populations of neurons, the links between them, their pieces, and the cores.

A WAGE layer needs these populations. `forward`: a neuron a place of Z, with the layer's weights. `pool`: a
neuron a window. To learn: `error`, a neuron an activation, which sums V^T E and rescales it; each piece of a
population that rescales has a neuron that tracks its exponent. The links say which neuron hears which, and
what a synapse stores.

Prototypes in the last layer's place are one population, a neuron each; they send and hear no errors.

A population is cut into pieces by rows, columns, channels and inputs: a regular grid, the one with the fewest
pieces of all that fit a core. Pieces that hold a part of the inputs send partial sums to the first of them.
Pieces fill the cores in order, and the cores follow each other in a snake over the mesh, so neighbours stay
near. Nothing here is random, and no synapse is held by itself: only ranges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from mappings.chips.chip import Chip
from wage_neuro.kinds import Kind
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.specs import Conv, Dense, assert_never, max_pool
from wage_neuro.support import Support

CHIP = Support(who="a chip", kinds=frozenset({Kind.DENSE, Kind.CONV, Kind.MAX_POOL, Kind.PADDED_POOL}))
HOST = -1
"""Piece and core of everything off the chip: images and labels come from there, answers go there."""


@dataclass(frozen=True)
class Use:
    """What the chip shall do with a network.

    Parameters
    ----------
    training : bool
        Learn, or only answer.
    rules : Rules
        How it learns. Errors come back as `rules.feedback` says: 'transposed', through a learning copy of the
        weights; 'random', through fixed random weights of the same shape; or 'direct', from the output
        straight to every layer, classes x neurons fixed weights.
    frozen : int
        Layers, from the first on, that stay as they are: no error goes to them.
    prototypes : int
        Room for as many prototypes, which answer in the last layer's place; the layers below stay as they are
        then. 0 where it answers itself.
    """

    training: bool = False
    rules: Rules = Rules(batch=1, shift="held", update="ternary")  # noqa: RUF009 - frozen
    frozen: int = 0
    prototypes: int = 0

    def learns(self, layer: int) -> bool:
        """Whether the weights of a layer change."""
        return self.training and layer >= self.frozen and not self.prototypes

    def tracks_gradient(self, layer: int) -> bool:
        """Whether a layer holds an exponent of its gradient."""
        return self.learns(layer) and self.rules.update != "coincidence"

    def tracks_error(self, population: Population) -> bool:
        """Whether each piece of a population has a neuron that hears all others and holds their exponent."""
        return self.training and population.role == "error"


@dataclass(frozen=True)
class Population:
    """Neurons of one role of one layer, in a (height, width, channels) grid; `layer` is -1 for the input."""

    layer: int
    role: str
    shape: tuple[int, int, int]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __str__(self) -> str:
        return "input" if self.role == "input" else f"{self.layer} {self.role}"


@dataclass(frozen=True)
class Link:
    """Synapses from one population to another.

    Attributes
    ----------
    source, target : indices of populations
    role : 'forward', 'pool', 'mask', 'loss', 'third factor' or 'feedback'
    span : (kernel, stride, zeros above, zeros left) of a window of the source; None: all to all
    back : the windows are the target's: a convolution or pooling run backward
    depthwise : each channel hears its own channel alone
    shared : one stored weight serves every place
    bits : of one stored synapse
    learns : the synapses learn
    value : largest magnitude that one message can add to the target
    """

    source: int
    target: int
    role: str
    span: tuple[int, int, int, int] | None
    back: bool
    depthwise: bool
    shared: bool
    bits: int
    learns: bool
    value: int


# --- which populations and links a network needs -----------------------------------------------------


def grid(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(features,) as (1, 1, features); images as they are.

    >>> grid((512,)), grid((28, 28, 1))
    ((1, 1, 512), (28, 28, 1))
    """
    return (1, 1, shape[0]) if len(shape) == 1 else (shape[0], shape[1], shape[2])


def populations_and_links(network: Network, chip: Chip, use: Use) -> tuple[list[Population], list[Link]]:
    """Populations and links; the first link into a population is the one whose inputs may be cut."""
    bits = network.bits
    populations = [Population(HOST, "input", grid(network.input_shape))]
    links: list[Link] = []
    forward, visible, error = {}, {HOST: 0}, {}
    learning = chip.synapse_bits
    if use.rules.samples_an_update > 1:
        learning += (
            max(layer.g_bound(use.rules.samples_an_update) for layer in network.layers).bit_length() + 1
        )

    def add(layer: Layer, role: str, shape: tuple[int, ...]) -> int:
        populations.append(Population(layer.index, role, grid(shape)))
        return len(populations) - 1

    for layer in network.layers:
        i = layer.index
        if layer.is_last and use.prototypes:
            target, value = add(layer, "prototypes", (use.prototypes,)), bits.activation_max**2
            source, learns = visible[i - 1], use.training
            links.append(Link(source, target, "forward", None, False, False, False, bits.k_A, learns, value))
            return populations, links
        forward[i] = visible[i] = add(layer, "forward", layer.z_shape)
        stored = learning if use.learns(i) else bits.k_W
        value = bits.weight_max * bits.activation_max
        links.append(_weights(layer, visible[i - 1], forward[i], False, chip, stored, use.learns(i), value))
        if max_pool(layer.pool):
            visible[i] = add(layer, "pool", layer.out_shape)
            links.append(_one(forward[i], visible[i], "pool", layer, False, bits.k_W, layer.z_bound))
        if use.learns(i):
            error[i] = add(layer, "error", layer.out_shape)
    if not use.training:
        return populations, links
    last = network.layers[-1]
    for layer in network.layers[use.frozen :]:
        i = layer.index
        value = bits.weight_max * bits.error_max
        if layer.is_last:
            links.append(_one(forward[i], error[i], "loss", layer, True, bits.k_W, layer.z_bound))
        elif use.rules.feedback == "direct":
            links.append(
                Link(
                    error[last.index], error[i], "feedback", None, False, False, False, bits.k_W, False, value
                )
            )
        else:
            above = network.layers[i + 1]
            sender = forward[i + 1] if above.pool else error[i + 1]  # the place that won has the error
            copy = use.rules.feedback == "transposed"
            stored = learning if copy else bits.k_W
            if copy and chip.reads_transposed:
                copy, stored = False, 0
            links.append(_weights(above, sender, error[i], True, chip, stored, copy, value))
        if not layer.is_last:
            links.append(_one(visible[i], error[i], "mask", layer, True, bits.k_W, bits.activation_max))
        links.append(
            _one(error[i], forward[i], "third factor", layer, layer.pool is None, bits.k_W, bits.error_max)
        )
    return populations, links


def _weights(
    layer: Layer, source: int, target: int, back: bool, chip: Chip, bits: int, learns: bool, value: int
) -> Link:
    """A layer's weights, forward or as a transposed copy."""
    span, role = None, "feedback" if back else "forward"
    match layer.spec:
        case Dense():
            pass
        case Conv(kernel=kernel, stride=stride):
            span = (kernel, stride, layer.padding[0], layer.padding[2])
        case _:
            assert_never(layer.spec)
    shared = span is not None and chip.shared_weights
    return Link(source, target, role, span, back, False, shared, bits, learns, value)


def _one(source: int, target: int, role: str, layer: Layer, same: bool, bits: int, value: int) -> Link:
    """One neuron to one, or between the places of a pooling window and their winner."""
    span = (1, 1, 0, 0)
    pool = max_pool(layer.pool)
    if pool and not same:
        span = (pool.size, pool.step, layer.pool_padding[0], layer.pool_padding[2])
    return Link(source, target, role, span, role == "third factor", True, False, bits, False, value)


# --- geometry: which sources a range of targets hears ------------------------------------------------


def axis_pairs(link: Link, n_source: int, n_target: int, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """All connected (target, source) places along one axis of a window link."""
    assert link.span is not None
    kernel, stride, zeros = link.span[0], link.span[1], link.span[2 + axis]
    n_out, n_in = (n_source, n_target) if link.back else (n_target, n_source)
    out, offset = np.divmod(np.arange(n_out * kernel), kernel)
    place = out * stride - zeros + offset
    inside = (place >= 0) & (place < n_in)
    out, place = out[inside], place[inside]
    return (place, out) if link.back else (out, place)


class Geometry:
    """A link between two populations, asked for ranges."""

    def __init__(self, link: Link, source: Population, target: Population) -> None:
        self.link, self.source, self.target = link, source, target
        if link.span is not None:
            self.axes = [axis_pairs(link, source.shape[a], target.shape[a], a) for a in (0, 1)]

    @cached_property
    def inputs(self) -> int:
        """What may be cut into slices: channels of a window, all of an all-to-all source."""
        if self.link.depthwise:
            return 1
        return self.source.size if self.link.span is None else self.source.shape[2]

    @cached_property
    def connections(self) -> int:
        """Synapses, each place of a convolution counted."""
        h, w, c = self.target.shape
        return self.synapses((0, h), (0, w), c, self.inputs)

    def sources(self, axis: int, places: tuple[int, int]) -> np.ndarray:
        """Places of the source along an axis that a range of target places hears."""
        target, source = self.axes[axis]
        return np.unique(source[(target >= places[0]) & (target < places[1])])

    def pairs(self, axis: int, places: tuple[int, int]) -> int:
        """Connected places along an axis."""
        target = self.axes[axis][0]
        return int(((target >= places[0]) & (target < places[1])).sum())

    def synapses(self, rows: tuple[int, int], columns: tuple[int, int], channels: int, inputs: int) -> int:
        if self.link.span is None:
            return (rows[1] - rows[0]) * (columns[1] - columns[0]) * channels * inputs
        return self.pairs(0, rows) * self.pairs(1, columns) * channels * inputs

    def kinds(self, axis: int, size: int) -> list[tuple[int, int]]:
        """Sources and connected places of each kind of segment of `size` places along an axis."""
        if self.link.span is None:
            return [(1, size)]
        segments = _segments(self.target.shape[axis], size)
        return sorted({(len(self.sources(axis, s)), self.pairs(axis, s)) for s in segments})

    def heard(self, axis: int, size: int) -> np.ndarray:
        """(places,) target segments of `size` places that hear each place of the source along an axis."""
        n = self.source.shape[axis]
        if self.link.span is None:
            return np.full(n, -(-self.target.shape[axis] // size))
        target, source = self.axes[axis]
        pairs = np.unique(np.stack([source, target // size]), axis=1)
        return np.bincount(pairs[0], minlength=n)

    def fan_in(self, inputs: int) -> int:
        """Most sources of one neuron, of a slice of the inputs."""
        rows, columns = (max(pairs for _, pairs in self.kinds(axis, 1)) for axis in (0, 1))
        return rows * columns * inputs


def _segments(n: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, n, size):
        yield start, min(n, start + size)


def _sizes(n: int) -> np.ndarray:
    """Sizes of even cuts of n: ceil(n / 1), ceil(n / 2) ...

    >>> _sizes(10).tolist()
    [10, 5, 4, 3, 2, 1]
    """
    return np.unique(-(-n // np.arange(1, n + 1)))[::-1]


def list_bits(chip: Chip, synapses: np.ndarray, bits: int) -> np.ndarray:
    """Memory of one axon's synapses: lists with headers, in whole words."""

    def words(n: np.ndarray) -> np.ndarray:
        return -(-(n * bits + chip.list_header) // chip.word) * chip.word

    whole, rest = np.divmod(synapses, chip.list_synapses)
    return whole * words(np.array(chip.list_synapses)) + np.where(rest > 0, words(rest), 0)


# --- what a piece takes ------------------------------------------------------------------------------

RESOURCES = ("neurons", "memory", "axons_in", "axons_out")


@dataclass
class _Taken:
    """Resources of the largest piece, for arrays of (rows, columns, channels, inputs) it may have."""

    neurons: np.ndarray
    memory: np.ndarray
    axons_in: np.ndarray
    axons_out: np.ndarray
    slices: np.ndarray


Cut = tuple[int, int, int, int]
"""Rows, columns, channels and inputs of a piece."""


def _take(
    chip: Chip,
    use: Use,
    population: Population,
    geometries: list[Geometry],
    listeners: list[tuple[Geometry, Cut]],
    sizes: tuple[np.ndarray, ...],
) -> _Taken:
    """Resources of a first piece; `sizes` broadcast against each other, one axis each."""
    main = geometries[0]
    rows, columns, channels, inputs = sizes
    neurons = rows * columns * channels
    memory, axons_in = np.zeros_like(neurons), np.zeros_like(neurons)
    for geometry in geometries:
        depth = np.ones_like(inputs) if geometry.link.depthwise else inputs
        of_link, axons_of_link = np.zeros_like(neurons), np.zeros_like(neurons)
        # the most memory need not be where the most axons are: fewer of them have longer lists
        for (sources_y, pairs_y), (sources_x, pairs_x) in product(
            *(_kinds(geometry, sizes, a) for a in (0, 1))
        ):
            axons = sources_y * sources_x * (channels if geometry.link.depthwise else depth)
            synapses = pairs_y * pairs_x * channels * depth
            needed = _link_memory(chip, geometry, axons, synapses, channels, depth)
            of_link, axons_of_link = np.maximum(of_link, needed), np.maximum(axons_of_link, axons)
        memory, axons_in = memory + of_link, axons_in + axons_of_link
    slices = -(-main.inputs // inputs)
    helpers, told, extra = _beside(chip, use, population, main.link, neurons, axons_in)
    partial = (slices - 1) * neurons
    memory = memory + extra + partial * _one_synapse(chip)
    out = neurons * (use.tracks_error(population) or not listeners)  # to its tracker; to the host
    for geometry, cut in listeners:
        out = out + _axons_out(geometry, cut, rows, columns) * channels
    return _Taken(neurons + helpers, memory, axons_in + told + partial, out, slices)


def _kinds(geometry: Geometry, sizes: tuple[np.ndarray, ...], axis: int) -> np.ndarray:
    """(kinds, 2, *sizes) sources and connected places along an axis; a size of few kinds has one repeated."""
    found = [geometry.kinds(axis, int(n)) for n in sizes[axis].ravel()]
    most = max(map(len, found))
    table = np.array([kinds + kinds[:1] * (most - len(kinds)) for kinds in found], np.int64)
    return np.moveaxis(table, 0, -1).reshape(most, 2, *sizes[axis].shape)


def _one_synapse(chip: Chip) -> int:
    return int(list_bits(chip, np.array(1), 2))


def _beside(
    chip: Chip, use: Use, population: Population, link: Link, size: np.ndarray, axons: np.ndarray
) -> tuple[int, np.ndarray, np.ndarray]:
    """Neurons, axons in and memory of a first piece of `size` neurons beside those of its links.

    They are of the trackers of its exponents, of which that of the gradient hears all `axons` of the links,
    and of what the host names.
    """
    tracks = use.tracks_error(population)
    heard = size * (tracks + _is_told(use, population, link))
    gradient = population.role == "forward" and use.tracks_gradient(population.layer)
    return tracks + gradient, heard, heard * _one_synapse(chip) + axons * 2 * gradient


def _is_told(use: Use, population: Population, link: Link) -> bool:
    """Whether the host names one of a population's neurons: the label's, or the prototype that learns."""
    return use.training and (link.role == "loss" or population.role == "prototypes")


def _axons_out(geometry: Geometry, cut: Cut, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Axons from a channel of the largest piece to the pieces that hear it."""
    most = []
    for axis, sizes in enumerate((rows, columns)):
        heard = np.concatenate([[0], np.cumsum(geometry.heard(axis, cut[axis]))])
        n = len(heard) - 1
        sums = [max(heard[b] - heard[a] for a, b in _segments(n, int(size))) for size in sizes.ravel()]
        most.append(np.array(sums).reshape(sizes.shape))
    chunks = 1 if geometry.link.depthwise else -(-geometry.target.shape[2] // cut[2])
    return most[0] * most[1] * chunks


def _link_memory(
    chip: Chip,
    geometry: Geometry,
    axons: np.ndarray,
    synapses: np.ndarray,
    channels: np.ndarray,
    depth: np.ndarray,
) -> np.ndarray:
    link = geometry.link
    if link.shared:
        assert link.span is not None
        return depth * list_bits(chip, link.span[0] ** 2 * channels, link.bits)
    each = -(-synapses // np.maximum(axons, 1))
    return axons * list_bits(chip, each, link.bits)


# --- placement ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """A part of a population that sits in one core.

    Ranges are half open. `first` is the piece that owns the neurons: itself, unless it holds a later slice
    of the inputs and only sends partial sums. `neurons` counts trackers and partial sums too.
    """

    population: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    channels: tuple[int, int]
    inputs: tuple[int, int]
    first: int
    neurons: int
    synapses: int
    memory: int
    axons_in: int

    @property
    def size(self) -> int:
        """Neurons of the population that it computes, wholly or in part."""
        ranges = (self.rows, self.columns, self.channels)
        return int(np.prod([high - low for low, high in ranges]))


@dataclass(frozen=True)
class Edges:
    """Axons between pieces: `count` neurons of piece `source` are heard by piece `target`, through `link`.

    `link` is an index of a link, or `PARTIAL`, `LABEL`, `READ_OUT`, `TRACK`.
    """

    link: np.ndarray
    source: np.ndarray
    target: np.ndarray
    count: np.ndarray


PARTIAL, LABEL, READ_OUT, TRACK = -1, -2, -3, -4


class DoesNotFit(Exception):  # noqa: N818 - caught here, never shown
    """A population of which not even one neuron fits a core."""

    def __init__(self, population: Population, quantity: str, value: int, limit: int) -> None:
        super().__init__(f"{population}: {quantity} {value} > {limit}")
        self.population, self.quantity, self.value, self.limit = population, quantity, value, limit


@dataclass(frozen=True)
class Placement:
    """Where everything is.

    Attributes
    ----------
    core : (pieces,) core of each piece, over all chips; chip n holds cores n * chip.cores and on
    """

    network: Network
    chip: Chip
    use: Use
    populations: list[Population]
    links: list[Link]
    geometries: list[Geometry] = field(repr=False)
    pieces: list[Piece] = field(repr=False)
    edges: Edges = field(repr=False)
    core: np.ndarray = field(repr=False)

    @cached_property
    def cores(self) -> int:
        """Cores in use."""
        return len(np.unique(self.core))

    @cached_property
    def places(self) -> int:
        """Cores up to the last one in use: chips that are not full leave some out."""
        return int(self.core.max()) + 1

    @cached_property
    def chips(self) -> int:
        """Chips in use."""
        return -(-self.places // self.chip.cores)

    @cached_property
    def chip_columns(self) -> int:
        """Chips side by side."""
        return math.isqrt(self.chips - 1) + 1

    @cached_property
    def piece_resources(self) -> dict[str, np.ndarray]:
        """(pieces,) of each of `RESOURCES`."""
        return _piece_resources(self.pieces, self.edges)

    @cached_property
    def core_resources(self) -> dict[str, np.ndarray]:
        """(places,) of each of `RESOURCES`."""
        return {
            name: np.bincount(self.core, values, self.places).astype(np.int64)
            for name, values in self.piece_resources.items()
        }

    def limit(self, resource: str) -> int:
        """What a core has of a resource."""
        return _limit(self.chip, resource)

    def xy(self, core: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Column and row of cores' tiles over all chips, which form a near square grid; both in snakes."""
        chip = self.chip
        number, place = np.divmod(core, chip.cores)
        chip_row, chip_column = np.divmod(number, self.chip_columns)
        chip_column = np.where(chip_row % 2, self.chip_columns - 1 - chip_column, chip_column)
        row, column = np.divmod(place // chip.tile_cores, chip.mesh_columns)
        column = np.where(row % 2, chip.mesh_columns - 1 - column, column)
        return chip_column * chip.mesh_columns + column, chip_row * chip.mesh_rows + row

    @cached_property
    def first_piece(self) -> dict[int, Piece]:
        """A largest piece of each population."""
        return {piece.population: piece for piece in reversed(self.pieces)}

    @cached_property
    def steps(self) -> list[int]:
        """Time steps in which each population takes in one sample; see `_steps`."""
        return [0, *(self._steps(t) for t in range(1, len(self.populations)))]

    def _steps(self, population: int) -> int:
        """One, and more where the sum is wider than the accumulator: its parts come one after another."""
        main = next(g for g in self.geometries if g.link.target == population)
        if main.link.role == "pool":
            return main.fan_in(1)  # one place a step, the neuron keeps the largest
        if main.link.depthwise:
            return 1
        low, high = self.first_piece[population].inputs
        bound = main.fan_in(high - low) * main.link.value
        parts = -(-bound // ((1 << (self.chip.accumulator_bits - 1)) - 1))
        return parts + (high - low < main.inputs)  # and one for the partial sums


def _limit(chip: Chip, resource: str) -> int:
    return int(getattr(chip, {"neurons": "core_neurons", "memory": "core_memory"}.get(resource, resource)))


def place(network: Network, chip: Chip, use: Use) -> Placement:
    """Place a network on as many chips as it takes.

    Raises
    ------
    DoesNotFit
        If one neuron with one input needs more than a core has.
    """
    CHIP.check(network)
    populations, links = populations_and_links(network, chip, use)
    geometries = [Geometry(link, populations[link.source], populations[link.target]) for link in links]
    into = {t: [g for g in geometries if g.link.target == t] for t in range(1, len(populations))}
    pieces, owners = _pieces(chip, use, populations, into, _cuts(chip, use, populations, geometries, into))
    edges = _edges(use, populations, geometries, pieces, owners)
    core = _pack(chip, _piece_resources(pieces, edges))
    return Placement(network, chip, use, populations, links, geometries, pieces, edges, core)


def _cuts(
    chip: Chip,
    use: Use,
    populations: list[Population],
    geometries: list[Geometry],
    into: dict[int, list[Geometry]],
) -> dict[int, Cut]:
    """How each population is cut: the last first, as axons out depend on who listens.

    Populations that hear each other are cut again, smaller each time, until all axons find room.
    """
    cuts: dict[int, Cut] = {}
    caps = dict.fromkeys(into, chip.core_neurons)
    waiting = True
    while waiting:
        waiting = False
        for t in reversed(into):
            listeners = [
                (g, cuts[g.link.target]) for g in geometries if g.link.source == t and g.link.target in cuts
            ]
            taken = None
            if t in cuts:
                sizes = tuple(np.full((1, 1, 1, 1), n, np.int64) for n in cuts[t])
                taken = _take(chip, use, populations[t], into[t], listeners, sizes)
                if taken.axons_out <= chip.axons_out:
                    continue
                caps[t] = max(1, int(taken.neurons.item()) - 1)
            cuts[t] = _cut(chip, use, populations[t], into[t], listeners, caps[t])
            waiting = True
    return cuts


def _cut(
    chip: Chip,
    use: Use,
    population: Population,
    geometries: list[Geometry],
    listeners: list[tuple[Geometry, Cut]],
    cap: int,
) -> Cut:
    """Of all cuts whose pieces fit a core, the one that takes the fewest cores."""
    spans = (*population.shape, geometries[0].inputs)
    sizes = [_sizes(n) for n in spans]
    axes = tuple(size.reshape([-1 if a == b else 1 for b in range(4)]) for a, size in enumerate(sizes))
    taken = _take(chip, use, population, geometries, listeners, axes)
    shape = tuple(len(size) for size in sizes)
    fits = np.broadcast_to(taken.neurons <= cap, shape)
    for name in RESOURCES:
        fits = fits & (getattr(taken, name) <= _limit(chip, name))
    if not fits.any():
        one = np.ones((1, 1, 1, 1), np.int64)
        smallest = _take(chip, use, population, geometries, listeners, (one, one, one, axes[3]))
        over = {name: int(np.min(getattr(smallest, name))) for name in RESOURCES}
        worst = max(over, key=lambda name: over[name] / _limit(chip, name))
        raise DoesNotFit(population, worst, over[worst], _limit(chip, worst))
    count = np.ones((1, 1, 1, 1), np.int64)
    for span, axis in zip(spans, axes, strict=True):
        count = count * -(-span // axis)
    # cores that hold the pieces, and cores that the senders' axons fill
    cost = count * chip.axons_out + count * taken.axons_in
    order = np.lexsort([np.broadcast_to(key, shape)[fits] for key in (taken.slices, count, cost)])
    best = np.argwhere(fits)[order[0]]
    rows, columns, channels, inputs = (int(size[i]) for size, i in zip(sizes, best, strict=True))
    return rows, columns, channels, inputs


def _pieces(
    chip: Chip,
    use: Use,
    populations: list[Population],
    into: dict[int, list[Geometry]],
    cuts: dict[int, Cut],
) -> tuple[list[Piece], list[np.ndarray]]:
    pieces: list[Piece] = []
    owners = [np.full(population.shape, HOST, np.int32) for population in populations]
    for t, geometries in into.items():
        population, main = populations[t], geometries[0]
        ranges = [
            list(_segments(n, size))
            for n, size in zip((*population.shape, main.inputs), cuts[t], strict=True)
        ]
        known: dict[tuple[Any, ...], tuple[int, int, int, int]] = {}
        for rows in ranges[0]:
            for columns in ranges[1]:
                for channels in ranges[2]:
                    first = len(pieces)
                    owners[t][slice(*rows), slice(*columns), slice(*channels)] = first
                    for inputs in ranges[3]:
                        heard = geometries if len(pieces) == first else geometries[:1]
                        size = (channels[1] - channels[0], inputs[1] - inputs[0])
                        key = (rows, columns, *size, len(pieces) == first)
                        if key not in known:
                            known[key] = _measure(
                                chip, use, population, heard, rows, columns, key[2], inputs, ranges
                            )
                        pieces.append(Piece(t, rows, columns, channels, inputs, first, *known[key]))
    return pieces, owners


def _measure(
    chip: Chip,
    use: Use,
    population: Population,
    geometries: list[Geometry],
    rows: tuple[int, int],
    columns: tuple[int, int],
    channels: int,
    inputs: tuple[int, int],
    ranges: list[list[tuple[int, int]]],
) -> tuple[int, int, int, int]:
    """Neurons, synapses, memory and axons in of one piece, exactly."""
    size = (rows[1] - rows[0]) * (columns[1] - columns[0]) * channels
    depth, is_first = inputs[1] - inputs[0], inputs[0] == 0
    neurons, synapses, memory, axons_in = size, 0, 0, 0
    for geometry in geometries:
        each = 1 if geometry.link.depthwise else depth
        count = geometry.synapses(rows, columns, channels, each)
        places = 1
        if geometry.link.span is not None:
            places = len(geometry.sources(0, rows)) * len(geometry.sources(1, columns))
        axons = places * (channels if geometry.link.depthwise else each)
        synapses, axons_in = synapses + count, axons_in + axons
        memory += int(_link_memory(chip, geometry, *map(np.array, (axons, count, channels, each))))
    if is_first:
        partial = (len(ranges[3]) - 1) * size
        beside = _beside(chip, use, population, geometries[0].link, np.array(size), np.array(axons_in))
        helpers, told, extra = (int(n) for n in beside)
        neurons, axons_in = neurons + helpers, axons_in + told + partial
        memory += extra + partial * _one_synapse(chip)
    return neurons, synapses, memory, axons_in


def _edges(
    use: Use,
    populations: list[Population],
    geometries: list[Geometry],
    pieces: list[Piece],
    owners: list[np.ndarray],
) -> Edges:
    """Every axon between pieces, counted."""
    rows: list[tuple[int, int, int, int]] = []
    found: list[tuple[int, np.ndarray, int, np.ndarray]] = []
    by_target: dict[int, list[int]] = {}
    for index, piece in enumerate(pieces):
        by_target.setdefault(piece.population, []).append(index)
        if piece.first != index:
            rows.append((PARTIAL, index, piece.first, piece.size))
        elif use.tracks_error(populations[piece.population]):
            rows.append((TRACK, index, index, piece.size))
    is_main: set[int] = set()
    for number, geometry in enumerate(geometries):
        link = geometry.link
        main = link.target not in is_main
        is_main.add(link.target)
        owner = owners[link.source]
        for index in by_target[link.target]:
            piece = pieces[index]
            if not main and piece.first != index:
                continue
            if link.span is None:
                heard = owner.reshape(-1)[slice(*piece.inputs)]
            else:
                depth = piece.channels if link.depthwise else piece.inputs
                ys, xs = geometry.sources(0, piece.rows), geometry.sources(1, piece.columns)
                heard = owner[np.ix_(ys, xs, np.arange(*depth))]
            source, count = np.unique(heard, return_counts=True)
            found.append((number, source, index, count))
            if piece.first == index and _is_told(use, populations[link.target], link):
                rows.append((LABEL, HOST, index, piece.size))
    last = populations[-1].layer
    answers = {
        t for t, p in enumerate(populations) if p.layer == last and p.role in ("forward", "prototypes")
    }
    rows += [
        (READ_OUT, i, HOST, p.size) for i, p in enumerate(pieces) if p.first == i and p.population in answers
    ]
    extra = np.array(rows, np.int64).reshape(-1, 4).T
    lengths = [len(source) for _, source, _, _ in found]
    return Edges(
        np.concatenate([np.repeat([n for n, *_ in found], lengths), extra[0]]),
        np.concatenate([*(source for _, source, _, _ in found), extra[1]]).astype(np.int64),
        np.concatenate([np.repeat([t for _, _, t, _ in found], lengths), extra[2]]),
        np.concatenate([*(count for *_, count in found), extra[3]]).astype(np.int64),
    )


def _piece_resources(pieces: list[Piece], edges: Edges) -> dict[str, np.ndarray]:
    on_chip = edges.source != HOST
    out = np.bincount(edges.source[on_chip], edges.count[on_chip], len(pieces))
    table = {name: np.array([getattr(p, name) for p in pieces], np.int64) for name in RESOURCES[:3]}
    return {**table, "axons_out": out.astype(np.int64)}


def _pack(chip: Chip, resources: dict[str, np.ndarray]) -> np.ndarray:
    """Core of each piece: the one in hand while it has room, else the next."""
    limits = np.array([_limit(chip, name) for name in RESOURCES])
    table = np.stack([resources[name] for name in RESOURCES], axis=1)
    core, used = np.empty(len(table), np.int64), np.zeros(len(RESOURCES), np.int64)
    number = 0
    for index, taken in enumerate(table):
        if (used + taken > limits).any():
            number, used = number + 1, np.zeros_like(used)
        used = used + taken
        core[index] = number
    return core
