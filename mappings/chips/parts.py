"""Which chip each core goes to, where a network takes several: as few messages between chips as can be found.

METIS cuts the graph of cores, whose edges are the axons between them: a message each for every neuron that
fires. Today's order, in which cores fill one chip after another, stays where it is not worse.

Source: Karypis and Kumar, SIAM J. Sci. Comput. 20, 359 (1998); pymetis.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import numpy as np

from mappings.chips.placement import HOST, Placement
from wage_neuro.errors import EngineError

TRIES = 8
"""Seeds with which METIS is asked: the cut with the fewest axons that fits is taken."""


def axons_between_chips(placement: Placement) -> int:
    """Neurons heard on another chip, counted once for each piece that hears them."""
    edges, on_chip = placement.edges, _inside(placement)
    chip = placement.core // placement.chip.cores
    apart = chip[edges.source[on_chip]] != chip[edges.target[on_chip]]
    return int(edges.count[on_chip][apart].sum())


def cut_between_chips(placement: Placement) -> Placement:
    """The same pieces in the same cores, which are on other chips where that takes fewer messages.

    Raises
    ------
    EngineError
        If pymetis is not installed.
    """
    if placement.chips == 1:
        return placement
    try:
        metis = import_module("pymetis")
    except ImportError as error:
        raise EngineError(f'cut of chips: {error}; it needs pip install "wage-neuro[chips]"') from None
    starts, neighbours, weights = _graph(placement)
    best, fewest = placement, axons_between_chips(placement)
    for seed in range(TRIES):
        options = metis.Options(seed=seed, ufactor=1)
        graph = metis.CSRAdjacency(starts, neighbours)
        _, part = metis.part_graph(placement.chips, graph, eweights=weights, options=options)
        found = replace(placement, core=_numbered(np.array(part), placement)[placement.core])
        axons = axons_between_chips(found)
        if axons < fewest:
            best, fewest = found, axons
    return best


def _inside(placement: Placement) -> np.ndarray:
    """Edges between cores, not from or to what is off the chip."""
    return (placement.edges.source != HOST) & (placement.edges.target != HOST)


def _graph(placement: Placement) -> tuple[list[int], list[int], list[int]]:
    """Axons between cores, in METIS's form: where each core's neighbours start, which they are, how many."""
    edges, inside, n = placement.edges, _inside(placement), placement.cores
    table = np.zeros((n, n), np.int64)
    pair = placement.core[edges.source[inside]], placement.core[edges.target[inside]]
    np.add.at(table, pair, edges.count[inside])
    table = table + table.T
    np.fill_diagonal(table, 0)
    rows, columns = np.nonzero(table)
    # METIS holds sums of weights in 32 bits
    scale = 1 + int(table.sum()) // (2**31 - 1)
    weights = np.maximum(1, table[rows, columns] // scale)
    starts = np.searchsorted(rows, np.arange(n + 1))
    return starts.tolist(), columns.tolist(), weights.tolist()


def _numbered(part: np.ndarray, placement: Placement) -> np.ndarray:
    """Place of each core: those of a chip in their order; what is too much for it goes where room is."""
    room, chips = placement.chip.cores, placement.chips
    for chip in range(chips):
        over = np.flatnonzero(part == chip)[room:]
        for core in over:
            part[core] = np.argmin(np.bincount(part, minlength=chips))
    # chips in the order of their first cores, so that neighbours stay near
    first = [np.flatnonzero(part == chip)[:1].sum() for chip in range(chips)]
    rank = np.argsort(np.argsort(first, kind="stable"), kind="stable")
    place = np.empty(len(part), np.int64)
    for chip in range(chips):
        mine = np.flatnonzero(part == chip)
        place[mine] = rank[chip] * room + np.arange(len(mine))
    return place
