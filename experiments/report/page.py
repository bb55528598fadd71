"""An HTML page that stands alone: sections, tables, charts of Bokeh, their scripts and styles within it.

A policy in its head forbids it to load anything, so it is the same offline, and asks no other host.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Any

from experiments.records.style import CSS
from wage_neuro.errors import EngineError

MOST_BYTES = 5_000_000
"""A page is smaller than this, Bokeh's script of 1.4 MB in it."""
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " base-uri 'none'; form-action 'none'"
)
_OWN_CSS = """
.charts { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; }
.charts figure { margin: 0 0 .6rem; width: 340px; }
.matrix td, .matrix th { padding: 0; text-align: center; border: 1px solid var(--paper); min-width: 2.4rem; }
.matrix th { padding: .1rem .4rem; }
.matrix button { width: 100%; border: 0; border-radius: 0; padding: .25rem .2rem; background: transparent;
  color: inherit; }
.matrix td.value { padding: .25rem .2rem; }
.images { display: flex; flex-wrap: wrap; gap: .3rem; min-height: 1rem; }
.images span { display: inline-block; image-rendering: pixelated; border: 1px solid var(--edge); }
.controls { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin: .5rem 0; }
img { max-width: 100%; height: auto; }
"""


@dataclass(frozen=True)
class Chart:
    """A chart of Bokeh with what it shows in words, and its numbers for who cannot see it."""

    model: Any
    alt: str
    numbers: str = ""


Part = str | Chart
"""HTML as it stands, or a chart."""


@dataclass
class Section:
    """A part of the page with a heading."""

    title: str
    parts: list[Part] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What a link calls it."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


@dataclass
class Page:
    """A whole page; `lead` is what stands below its title."""

    title: str
    lead: str
    sections: list[Section] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)

    def html(self) -> str:
        """The file's text."""
        charts = [part for section in self.sections for part in section.parts if isinstance(part, Chart)]
        library, script, divs = _embedded([chart.model for chart in charts])
        places = iter(divs)
        body = "".join(
            f'<section aria-labelledby="{s.name}"><h2 id="{s.name}">{escape(s.title)}</h2>'
            + "".join(part if isinstance(part, str) else _figure(part, next(places)) for part in s.parts)
            + "</section>\n"
            for s in self.sections
        )
        links = "".join(f'<li><a href="#{s.name}">{escape(s.title)}</a></li>' for s in self.sections)
        own = "".join(f"<script>{text}</script>\n" for text in self.scripts)
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<title>{escape(self.title)}</title>\n<link rel="icon" href="data:,">\n'
            f"<style>{CSS}{_OWN_CSS}</style>\n{library}\n</head>\n<body>\n"
            f"<header><h1>{escape(self.title)}</h1>{self.lead}"
            f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n<main>\n{body}</main>\n'
            f"{script}\n{own}</body>\n</html>\n"
        )


def bokeh() -> Any:
    """Bokeh's plotting.

    Raises
    ------
    EngineError
        If Bokeh is not installed.
    """
    try:
        from bokeh import plotting
    except ImportError:
        raise EngineError("report: Bokeh is not installed; want pip install 'wage-neuro[report]'") from None
    return plotting


def models() -> Any:
    """Bokeh's models; whether it is here was asked by `bokeh`."""
    from bokeh import models as found

    return found


def _embedded(models: Sequence[Any]) -> tuple[str, str, Sequence[str]]:
    """Bokeh's library, the charts' script, and the places of the charts."""
    if not models:
        return "", "", ()
    from bokeh.embed import components
    from bokeh.resources import Resources

    script, divs = components(tuple(models))
    return Resources(mode="inline", components=["bokeh"]).render_js(), script, divs


def _figure(chart: Chart, place: str) -> str:
    numbers = f"<details><summary>the numbers</summary>{chart.numbers}</details>" if chart.numbers else ""
    return (
        f'<figure><div role="img" aria-label="{escape(chart.alt, quote=True)}">{place}</div>'
        f"<figcaption>{escape(chart.alt)}</figcaption>{numbers}</figure>"
    )


# --- pieces of HTML ----------------------------------------------------------------------------------


def script(name: str, known: dict[str, Any] | None = None) -> str:
    """A script of the folder `scripts`, in a scope of its own, with what it must know."""
    text = files("experiments").joinpath("report", "scripts", name).read_text(encoding="utf-8")
    held = json.dumps(known).replace("</", "<\\/")  # or a name could end the script
    return f"(function (known) {{\n{text}}})({held});"


def words(text: object) -> str:
    """A paragraph."""
    return f"<p>{escape(str(text))}</p>"


def note(text: object) -> str:
    """A paragraph of what comes second."""
    return f'<p class="note">{escape(str(text))}</p>'


def side_by_side(parts: Iterable[Part]) -> list[Part]:
    """Several charts in rows."""
    return ['<div class="charts">', *parts, "</div>"]


def table(head: Sequence[object], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """A table; a column of numbers is to the right.

    >>> table(["a"], [[1]]).count('<td class="number">1</td>'), "<td>&lt;x" in table(["a"], [[1], ["<x>"]])
    (1, True)
    """
    shown = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = [[str(value) for value in row] for row in rows]
    sides = [_side(row[i] for row in body) for i in range(len(head))]
    names = "".join(f'<th scope="col"{s}>{escape(str(n))}</th>' for n, s in zip(head, sides, strict=True))
    lines = (zip(row, sides, strict=True) for row in body)
    cells = ("".join(f"<td{side}>{escape(value)}</td>" for value, side in line) for line in lines)
    held = "".join(f"<tr>{row}</tr>" for row in cells)
    return (
        f'<div class="wide" tabindex="0" role="group" aria-label="{escape(caption or "table", quote=True)}">'
        f"<table>{shown}<thead><tr>{names}</tr></thead><tbody>{held}</tbody></table></div>"
    )


def _side(cells: Iterable[str]) -> str:
    """Where a column stands: numbers, which may have units and gaps, to the right."""
    found = [cell for cell in cells if cell]
    return ' class="number"' if found and all(re.match(r"[-+]?\d", cell) for cell in found) else ""


def facts(values: dict[str, Any], caption: str) -> str:
    """A table of two columns, a fact a row."""
    rows = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th><td>{escape(str(value))}</td></tr>'
        for name, value in values.items()
    )
    return f"<table><caption>{escape(caption)}</caption><tbody>{rows}</tbody></table>"


def picture(png: bytes, alt: str, more: str = "") -> str:
    """A PNG within the page; `more` attributes."""
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt, quote=True)}"{more}>'
