"""The parts of a page that show a network on a chip: the map, and what a sample costs there."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from experiments.commands.chip_map import COST_ROWS, MODES, Report, Subject, known, summary
from experiments.records import chip_geometry as geometry
from experiments.records.chip_picture import LINES, arcs
from experiments.records.style import EDGE, FAINT, INK, series
from experiments.report.charts import WIDTH, blank, hover
from experiments.report.page import Chart, Part, Section, models, note, table, words
from mappings.chips.chip import GRADES, Chip
from mappings.chips.cost import Cost
from mappings.chips.placement import RESOURCES, Placement
from wage_neuro.errors import WageError

HATCH = {"pool": "horizontal_line", "error": "right_diagonal_line"}
LARGEST = 110
"""Pixels of a tile, at most."""
MOST_CORES = 1500
"""A map of more cores has no hover of each: the page would grow too large."""


def sections(subject: Subject, chip: Chip) -> list[Section]:
    """The map of learning, or of answering where learning has no room, and the costs of both."""
    reports: dict[str, Report] = {}
    refused = Section(f"On the chip {chip.name}")
    for mode in reversed(MODES):
        try:
            reports[mode] = subject.mapped(chip, subject.use(mode))
        except WageError as error:
            refused.parts.append(note(f"{mode}: {error}"))
    drawn = [report for report in reports.values() if report.placement and report.cost]
    if not drawn:
        return [refused]
    place = Section(f"On the chip {chip.name}", [*refused.parts, *_place(drawn[0])])
    return [place, Section("What a sample costs", [p for report in drawn for p in _cost(report)])]


def _place(report: Report) -> list[Part]:
    placement, cost = report.placement, report.cost
    assert placement
    assert cost
    parts: list[Part] = [words(f"{report.title}: {'it fits' if report.fits else 'it does not fit'}.")]
    if report.limits:
        rows = [
            [each.where, each.quantity, f"{each.value:,}", f"{each.limit:,} {each.unit}", each.way_out]
            for each in report.limits
        ]
        heads = ("where", "quantity", "wanted", "the chip has", "way out")
        parts.append(table(heads, rows, "Limits that it breaks; places and costs are as if they were met"))
    if len(placement.pieces) <= MOST_CORES:
        parts.append(chip_map(placement, cost))
    parts.append(_layers(placement))
    return [*parts, *map(note, report.notes)]


def _layers(placement: Placement) -> str:
    heads = ("layer", "role", "neurons", "cores", *(name.replace("_", " ") for name in RESOURCES))
    rows = []
    for t, population in enumerate(placement.populations[1:], 1):
        mine = np.array([piece.population == t for piece in placement.pieces])
        fills = [
            f"{100 * placement.piece_resources[name][mine].max() / placement.limit(name):.0f} %"
            for name in RESOURCES
        ]
        cores = len(np.unique(placement.core[mine]))
        name = placement.network.layers[population.layer]
        rows.append(
            [
                f"layer {population.layer} {name}",
                population.role,
                f"{population.size:,}",
                f"{cores:,}",
                *fills,
            ]
        )
    return table(heads, rows, "Populations, and how much of a core their fullest piece takes")


def chip_map(placement: Placement, cost: Cost) -> Chart:
    """Cores in use with what fills them, and the messages between them; hovering reads each."""
    window = geometry.Window.of(placement)
    side = min(WIDTH / window.width, LARGEST)
    figure = blank(
        "", "", int(side * window.width), int(side * window.height),
        x_range=(window.left, window.right), y_range=(window.bottom, window.top), match_aspect=True,
    )  # fmt: skip
    figure.axis.visible = False
    figure.grid.grid_line_color = None
    x, y, size = geometry.corners(placement, geometry.shown_cores(placement, window))
    figure.quad(x, x + size, y + size, y, fill_color=FAINT, line_color=EDGE)
    pieces = figure.quad(
        "left", "right", "bottom", "top", source=models().ColumnDataSource(_pieces(placement, cost)),
        fill_color="colour", line_color="white", hatch_pattern="hatch", hatch_color="white", hatch_alpha=0.7,
    )  # fmt: skip
    tips = {
        "core": "@core", "layer": "@layer", "neurons": "@neurons{0,0}", "fills": "@fill{0.0} % of the core",
        "messages in": "@came{0,0.[0]} a sample", "messages out": "@went{0,0.[0]} a sample",
    }  # fmt: skip
    figure.add_tools(hover(pieces, list(tips.items())))
    used = np.unique(placement.core)
    if len(used) <= 150:
        cx, cy, _ = geometry.corners(placement, used)
        figure.text(
            cx + 0.08 * size, cy + 0.08 * size, [str(core % placement.chip.cores) for core in used],
            text_font_size="11px", text_color=INK, text_baseline="top",
            background_fill_color="white", background_fill_alpha=0.8,
        )  # fmt: skip
    pairs = _lines(figure, placement, cost)
    some = f"{placement.cores:,} of {placement.chips * placement.chip.cores:,} cores of {placement.chips}"
    chips = "chip" if placement.chips == 1 else "chips"
    alt = (
        f"Map of the {some} {chips}, those in use and their neighbours: each as full as its scarcest"
        f" resource, coloured by layer; hatched: errors; {pairs}. Hovering reads core, layer, fill and"
        " messages."
    )
    return Chart(figure, alt)


def _pieces(placement: Placement, cost: Cost) -> dict[str, list[object] | np.ndarray]:
    """What is drawn and read of each piece."""
    heights, below = geometry.fill(placement)
    x, y, size = geometry.corners(placement, placement.core)
    gap = 0.05 * size
    room = size - 2 * gap
    bottom = y + gap + room * (1 - below)
    edges, n = placement.edges, len(placement.pieces)
    on_chip_source, on_chip_target = edges.source >= 0, edges.target >= 0
    went = np.bincount(edges.source[on_chip_source], cost.edge_messages[on_chip_source], n)
    came = np.bincount(edges.target[on_chip_target], cost.edge_messages[on_chip_target], n)
    colours = [_hex(colour) for colour in geometry.colours(placement)]
    populations = [placement.populations[piece.population] for piece in placement.pieces]
    cores = placement.chip.cores
    return {
        "left": x + gap, "right": x + gap + room, "bottom": bottom, "top": bottom - heights * room,
        "colour": [colours[piece.population] for piece in placement.pieces],
        "hatch": [HATCH.get(population.role, "blank") for population in populations],
        "core": [f"{core % cores} of chip {core // cores}" for core in placement.core.tolist()],
        "layer": [str(population) for population in populations],
        "neurons": [piece.neurons for piece in placement.pieces],
        "fill": 100 * heights, "came": came, "went": went,
    }  # fmt: skip


def _lines(figure: object, placement: Placement, cost: Cost) -> str:
    """Draw the messages between cores, the most first; return what was drawn, in words."""
    traffic = geometry.between_cores(placement, cost)
    x, y, size = geometry.corners(placement, np.arange(placement.places))
    middle = np.stack([x + size / 2, y + size / 2], axis=1)
    most = max(traffic.messages[:1].tolist() or [1.0])
    for i, (is_error, name) in enumerate(((False, "activations"), (True, "errors"))):
        mine = np.flatnonzero(traffic.errors == is_error)[:LINES]
        if not len(mine):
            continue
        curves = arcs(middle[traffic.source[mine]], middle[traffic.target[mine]], 0.46 * size)
        ends = zip(traffic.source[mine], traffic.target[mine], strict=True)
        source = {
            "xs": [curve[:, 0] for curve in curves], "ys": [curve[:, 1] for curve in curves],
            "width": 0.6 + 3 * (traffic.messages[mine] / most) ** 0.5, "messages": traffic.messages[mine],
            "way": [f"core {a} to core {b}" for a, b in ends],
        }  # fmt: skip
        drawn = figure.multi_line(  # type: ignore[attr-defined]
            "xs", "ys", source=source, line_width="width", line_color=series(i).colour, line_alpha=0.6,
            line_dash=series(i).bokeh_dash,
        )  # fmt: skip
        tips = [(name, "@way"), ("messages", "@messages{0,0.[0]} a sample")]
        figure.add_tools(hover(drawn, tips))  # type: ignore[attr-defined]
    pairs, shown = len(traffic.messages), min(LINES, len(traffic.messages))
    return f"lines: messages between {shown:,} of {pairs:,} pairs of cores, activations whole, errors dashed"


def _hex(colour: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * share):02x}" for share in colour)


def _cost(report: Report) -> list[Part]:
    """Operations, energies and time of a sample, each number with its grade of evidence."""
    assert report.cost
    chip, energy = report.chip, report.cost.energy()
    operations = asdict(report.cost.operations())
    rows: list[list[str]] = []
    for name, key, number, kind in COST_ROWS:
        seen = chip.evidence[number] if number else None
        rows.append(
            [
                name.replace("  ", "· "),
                f"{operations[key]:,.0f}",
                known(getattr(chip, number), "g") if number else "",
                known(energy[kind] * 1e-6, ",.3f") if kind else "",
                f"{seen.grade}: {seen.source}" if seen else "",
            ]
        )
    static = chip.evidence["static_power"]
    rest = f"{static.grade}: {static.source}"
    rows.append(["at rest meanwhile", "", "", known(energy["static"] * 1e-6, ",.3f"), rest])
    rows.append(["total", "", "", known(sum(energy.values()) * 1e-6, ",.3f"), ""])
    caption = f"{report.mode.capitalize()}: one sample, alone in the network; activity of {report.counted_on}"
    grades = "; ".join(f"{grade} {what}" for grade, what in GRADES.items())
    return [
        *map(words, summary(report)),
        table(("operation", "a sample", "pJ each", "µJ", "grade and source of the pJ"), rows, caption),
        note(f"Grades of evidence: {grades}."),
    ]
