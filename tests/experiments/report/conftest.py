"""Runs to be shown, and a page taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

from experiments.report import training
from experiments.runs import run_folder
from experiments.runs.training import Run
from mappings.chips.chip import Chip

collect_ignore_glob = [] if find_spec("bokeh") else ["test_*"]


@pytest.fixture(scope="session")
def trained(helpers, tmp_path_factory) -> Path:
    """A watched run of two epochs, with its record."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    run = Run.start(replace(helpers.small(), epochs=2), folder)
    with run.engine("numpy") as engine:
        run.fit(engine, watch=4)
    run.write_record(folder / "record.json", "numpy", "wage-neuro train --the <command> & more")
    return folder


@dataclass
class Shown(HTMLParser):
    """What a page has: its tags in order with their attributes, its words, what it would load."""

    text: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "input", "br"):
            self.unclosed.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.unclosed.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.unclosed or self.unclosed[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def loaded(self) -> list[str]:
        """Addresses of what a browser would fetch."""
        found = [
            value or ""
            for tag, attributes in self.tags
            for name, value in attributes.items()
            if name in ("src", "srcset", "data", "poster") or (name == "href" and tag == "link")
        ]
        return [address for address in found if not address.startswith("data:")]

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def headings(self) -> list[str]:
        return re.findall(r"<h2[^>]*>([^<]*)</h2>", self.text)


@pytest.fixture(scope="session")
def shown(trained) -> Shown:
    """The page of the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "RASTERS", 2)
        made = training.page(trained, None, "numpy", Chip.load("loihi2"), lambda done, of: None)
    return Shown(made.html())


@pytest.fixture
def page_of(wage_neuro, tmp_path, monkeypatch):
    """Make the page of a folder, and take it apart."""

    monkeypatch.setattr(training, "RASTERS", 1)

    def make(folder: Path, *more: object) -> Shown:
        output = tmp_path / "page.html"
        ended = wage_neuro("report", folder, "--output", output, "--engine", "numpy", *more)
        assert (ended.code, ended.err) == (0, "")
        assert run_folder.CHECKPOINT not in {path.name for path in tmp_path.iterdir()}
        shown = Shown(output.read_text())
        assert shown.unclosed == []
        return shown

    return make
