"""Chain: which layers of a network go to which of several cores, that pass spikes up and errors down.

Every core has random bits of its own, whose names do not tell cores apart, so the bits are those of one core.
One core at a time is at work: a chain is for networks that no single core has the memory for, not for speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

from mappings.chips.chip import Chip
from mappings.chips.placement import DoesNotFit, Use, place
from mappings.hardware.rtl.devices import device_of
from mappings.hardware.rtl.shape import WHO, LayerShape
from wage_neuro.errors import SettingError
from wage_neuro.network import Network


def parts_of(
    shapes: Sequence[LayerShape], network: Network, cores: int | str
) -> list[tuple[LayerShape, ...]]:
    """Return the layers of each of so many cores; or of as many devices of a name as the placer takes.

    Raises
    ------
    SettingError
        If there are not as many layers or no such device, if one has no room for a layer, or if the rules
        leave no way from core to core.
    """
    parts = split(shapes, cores) if isinstance(cores, int) else placed(shapes, network, cores)
    if len(parts) > 1:
        ways = {"pipelined": (False,), "feedback": ("transposed", "random")}
        shapes[0].rules.require(f"{WHO} on several cores", **ways)
    return parts


def split(shapes: Sequence[LayerShape], cores: int) -> list[tuple[LayerShape, ...]]:
    """Of all cuts the one whose fullest core has the fewest bits of weights."""
    depth = len(shapes)
    if not 1 <= cores <= depth:
        raise SettingError(f"cores={cores}: want 1..{depth}, a layer or more on each")
    bits = [shape.words * shape.lanes * shape.s_bits for shape in shapes]
    # best[i]: fullest core and cuts of the first i layers, on as many cores as the loop has reached
    best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, (0,))}
    for _ in range(cores):
        best = {
            end: min(
                (max(full, sum(bits[begin:end])), (*cuts, end))
                for begin, (full, cuts) in best.items()
                if begin < end
            )
            for end in range(1, depth + 1)
            if any(begin < end for begin in best)
        }
    return [tuple(shapes[a:b]) for a, b in pairwise(best[depth][1])]


def placed(shapes: Sequence[LayerShape], network: Network, device: str) -> list[tuple[LayerShape, ...]]:
    """As `mappings.chips` places them, by the memory of a device."""
    chip = Chip.load(device_of(device).name)
    try:
        found = place(network, chip, Use(training=True, rules=shapes[0].rules))
    except DoesNotFit as error:
        raise SettingError(f"cores={device}: {error}") from None
    homes: list[set[int]] = [set() for _ in shapes]
    for piece, core in zip(found.pieces, found.core.tolist(), strict=True):
        population = found.populations[piece.population]
        if population.role == "forward":
            homes[population.layer].add(core)
    for shape, home in zip(shapes, homes, strict=True):
        if len(home) > 1:
            raise SettingError(
                f"cores={device}: layer {shape.index} takes {len(home)}, and {WHO} has a layer whole"
            )
    return [tuple(shapes[i] for i in same) for _, same in groupby(range(len(shapes)), homes.__getitem__)]
