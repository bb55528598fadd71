"""How everything that is looked at looks: colours of pictures and pages, marks, and the pages' style sheet.

Colours are told apart without colour vision and on grey paper: series differ in their marks and dashes too,
all of them stand out from white by 3:1 or more (WCAG 2.2, 1.4.11), and a value's colour only gets lighter
with the value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

INK, PAPER = "#1f2933", "#ffffff"
MUTED, FAINT, EDGE = "#52606d", "#f1f3f5", "#d5dae0"
"""Words that come second, empty room, thin borders."""
OURS, OTHERS = "#0b4f9e", "#6b7480"
"""This project's numbers, and those they are compared with."""
SILENT = "#ffffff"
"""A neuron that sends nothing."""
VALUES = ("#efe3a0", "#8ac06f", "#2f8f83", "#1d5c7d", "#1c2a52")
"""Of a whole number from weak to strong, light to dark."""
ERRORS = ("#0d1b4c", "#2f6db5", "#c9660f", "#ffc27a")
"""Of a signed number: strongest and weakest below 0, weakest and strongest above."""
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class Series:
    """How one line of several is drawn: `dash` as matplotlib has it, `marker` and `bokeh` for the pages."""

    colour: str
    dash: Any
    marker: str
    bokeh_dash: str
    bokeh_marker: str


SERIES = (
    Series("#0b4f9e", "-", "o", "solid", "circle"),
    Series("#c2500b", (0, (5, 1.5)), "s", "dashed", "square"),
    Series("#17745c", (0, (1.5, 1.2)), "^", "dotted", "triangle"),
    Series("#8b2f8f", (0, (6, 1.5, 1.5, 1.5)), "D", "dashdot", "diamond"),
    Series("#7a6a00", (0, (3, 1)), "v", "dotdash", "inverted_triangle"),
    Series("#16222e", (0, (1, 2)), "X", "dotted", "x"),
    Series("#c22f5b", (0, (8, 2)), "P", "dashed", "plus"),
    Series("#55697a", (0, (2, 1, 1, 1)), "*", "dashdot", "star"),
)


def series(i: int) -> Series:
    """Style of the i-th line.

    >>> series(len(SERIES)) == series(0)
    True
    """
    return SERIES[i % len(SERIES)]


def contrast(one: str, other: str = PAPER) -> float:
    """Contrast of two colours, 1 to 21, as WCAG 2.2 defines it.

    >>> contrast("#000000"), contrast("#ffffff")
    (21.0, 1.0)
    """
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return round((high + 0.05) / (low + 0.05), 2)


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour, 0 to 1, as WCAG 2.2 defines it."""
    shares = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def ink_on(ground: str) -> str:
    """Black or white, whichever can be read on a colour: one of them stands out by 4.5:1 from any.

    >>> ink_on("#efe3a0"), ink_on("#1c2a52")
    ('#000000', '#ffffff')
    """
    return max(("#000000", "#ffffff"), key=lambda ink: contrast(ink, ground))


def shade(ends: tuple[str, ...], n: int) -> list[str]:
    """`n` colours from the first of `ends` to the last, through those between.

    >>> shade(("#000000", "#ffffff"), 3)
    ['#000000', '#808080', '#ffffff']
    """
    made = []
    for i in range(n):
        place = i * (len(ends) - 1) / max(1, n - 1)
        low = min(int(place), len(ends) - 2)
        pairs = ((int(ends[low][c : c + 2], 16), int(ends[low + 1][c : c + 2], 16)) for c in (1, 3, 5))
        made.append("#" + "".join(f"{int(a + (b - a) * (place - low) + 0.5):02x}" for a, b in pairs))
    return made


def value_colours(n: int = 256) -> list[str]:
    """Colours of a whole number, from weak to strong."""
    return shade(VALUES, n)


def error_colours(n: int = 256) -> list[str]:
    """Colours of a signed number, strongest below 0 to strongest above; each half has its hue."""
    return [*shade(ERRORS[:2], n // 2), *shade(ERRORS[2:], n - n // 2)]


_STEPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)


def decade_ticks(low: float, high: float, most: int = 9) -> list[float]:
    """Ticks of a logarithmic axis, two or more: the first at `low` or below it, the last at `high` or above.

    >>> decade_ticks(80, 9_000), decade_ticks(5, 5)
    ([50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0], [5.0, 6.0])
    """
    decades = range(math.floor(math.log10(low)) - 1, math.floor(math.log10(high)) + 3)
    ticks: list[float] = []
    for steps in _STEPS:
        every = [float(f"{step}e{decade}") for decade in decades for step in steps]
        first = max(i for i, tick in enumerate(every) if tick <= low)
        last = max(first + 1, min(i for i, tick in enumerate(every) if tick >= high))
        ticks = every[first : last + 1]
        if len(ticks) <= most:
            return ticks
    return [ticks[0], *ticks[1:-1][:: -(-len(ticks) // most)], ticks[-1]]


CSS = f"""
:root {{ color-scheme: light; --ink: {INK}; --paper: {PAPER}; --muted: {MUTED}; --faint: {FAINT};
  --edge: {EDGE}; --ours: {OURS}; --others: {OTHERS}; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 68rem; padding: 1.2rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 {FONT}; }}
h1 {{ font-size: 1.6rem; line-height: 1.2; margin: 0 0 .4rem; }}
h2 {{ font-size: 1.2rem; margin: 2rem 0 .5rem; border-top: 1px solid var(--edge); padding-top: 1rem; }}
h3 {{ font-size: 1rem; margin: 1rem 0 .3rem; }}
a {{ color: var(--ours); }}
p {{ max-width: 46rem; margin: .4rem 0; }}
.note, caption, figcaption {{ color: var(--muted); font-size: .9rem; text-align: left; }}
figure {{ margin: .6rem 0; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; }}
th, td {{ padding: .2rem .7rem .2rem 0; text-align: left; border-bottom: 1px solid var(--edge);
  vertical-align: top; }}
td.number, th.number {{ text-align: right; }}
code, pre {{ font: .9em/1.4 ui-monospace, 'DejaVu Sans Mono', monospace; background: var(--faint); }}
pre {{ padding: .6rem; overflow-x: auto; white-space: pre-wrap; }}
button, select, input {{ font: inherit; color: inherit; background: var(--paper);
  border: 1px solid var(--others); border-radius: .3rem; padding: .3rem .7rem; }}
button:focus-visible, select:focus-visible, input:focus-visible, a:focus-visible, summary:focus-visible
  {{ outline: 3px solid var(--ours); outline-offset: 2px; }}
nav ul {{ list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0; margin: .6rem 0; }}
.wide {{ overflow-x: auto; }}
@media print {{ body {{ max-width: none; font-size: 11pt; }} nav, .only-screen {{ display: none !important; }}
  figure, table {{ break-inside: avoid; }} }}
""".strip()
"""Style sheet of every page of ours."""
