"""The page in a headless Chromium: no error, no request, all within reach, its controls work."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe here: make test-browser")


@pytest.fixture(scope="module")
def open_page(browser) -> Iterator[Callable[..., Any]]:
    """Open a file; its console has no warning, and it asks for nothing but itself."""
    wrong: list[str] = []

    def open_(path: Path, **settings: Any) -> Any:
        page = browser.new_context(**settings).new_page()
        page.on("console", lambda m: m.type in ("log", "info") or wrong.append(m.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        address = path.resolve().as_uri()
        page.on("request", lambda r: r.url.startswith((address, "data:")) or wrong.append(r.url))
        page.goto(address)
        page.wait_for_function("() => !window.Bokeh || Bokeh.index.roots.length > 0")
        return page

    yield open_
    assert wrong == []


@pytest.fixture(scope="module")
def page(shown, open_page, tmp_path_factory) -> Any:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(shown.text)
    return open_page(path)


def test_charts_are_drawn(page, shown):
    places = page.locator("figure [data-root-id]")
    assert places.count() == shown.text.count("data-root-id=")
    sizes = places.evaluate_all("all => all.map(e => e.firstElementChild.getBoundingClientRect().width)")
    assert min(sizes) > 150


def test_a_cell_shows_its_images(page, shown):
    button = page.locator("button[data-cell]").last
    cell, count = button.get_attribute("data-cell"), int(button.inner_text().replace(",", ""))
    button.focus()
    page.keyboard.press("Enter")
    label, answer = cell.split(",")
    name = page.locator("#cell-name").inner_text()
    assert name.startswith(f"{label} {'answered rightly' if label == answer else f'taken for {answer}'}: ")
    images = page.locator("#cell-images span")
    some, every = map(int, re.search(r"(\d+) of (\d+) images", name).groups())
    assert (images.count(), every) == (some, count)
    assert images.first.get_attribute("aria-label").endswith(f": {label}, answer {answer}")
    assert button.get_attribute("aria-pressed") == "true"
    assert images.first.evaluate("e => getComputedStyle(e).backgroundImage").startswith('url("data:image/png')


def test_another_image_can_be_chosen(page):
    seen = "all => all.filter(image => image.offsetWidth).map(image => image.alt)"
    before = page.locator("img.raster").evaluate_all(seen)
    page.select_option("#raster-of", "1")
    after = page.locator("img.raster").evaluate_all(seen)
    assert len(before) == len(after) == 1
    assert before != after


def test_a_core_says_what_it_holds(page):
    chart = page.locator('[aria-label^="Map of the"]')
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    for step in range(5):
        page.mouse.move(box["x"] + 40 + step, box["y"] + 95)
    page.wait_for_timeout(300)
    words = page.evaluate(
        "() => { const found = []; const walk = n => { if (n.shadowRoot) walk(n.shadowRoot);"
        " found.push(n.nodeType === 3 ? n.textContent : ''); n.childNodes.forEach(walk); };"
        " walk(document.body); return found.join(' '); }"
    )
    assert re.search(r"core\W+0 of chip 0", words)
    assert re.search(r"messages out\W+[\d,.]+ a sample", words)
    page.mouse.move(0, 0)


def test_everybody_can_reach_it(page):
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:150]) for v in found] == []


def test_it_prints_on_paper_as_wide_as_it_is(page, tmp_path):
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    assert page.locator(".only-screen").first.is_hidden()
    widths = page.locator("figure [data-root-id]").evaluate_all(
        "all => all.map(e => e.firstElementChild.getBoundingClientRect().width)"
    )
    assert max(widths) <= 700  # of A4 within its margins, at 96 pixels an inch
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").stat().st_size > 50_000
    page.emulate_media(media="screen")


def test_the_matrix_plays(open_page, wage_neuro, tmp_path):
    words = (
        "continual",
        "split-digits",
        "--network",
        "16FC",
        "--probes",
        3,
        "--engine",
        "numpy",
        "--run",
        "r",
    )
    assert wage_neuro(*words).code == 0
    assert wage_neuro("report", "r", "--output", "r.html").code == 0
    page = open_page(tmp_path / "r.html")
    now, after = page.locator("#now"), page.locator("#after")
    assert now.inner_text().startswith("after task 5 of 5, 8 9: ")
    rows = "() => new Set([...document.querySelectorAll('#matrix rect')].map(r => r.getAttribute('y'))).size"
    whole = page.evaluate(rows)
    page.click("#play")
    assert now.inner_text().startswith("after task 1 of 5, 0 1: ")
    assert page.evaluate(rows) < whole
    page.wait_for_function("() => document.querySelector('#after').value === '4'", timeout=15_000)
    page.wait_for_function("() => document.querySelector('#play').textContent === 'Play'")
    assert page.evaluate(rows) == whole
    after.focus()
    page.keyboard.press("ArrowLeft")
    assert now.inner_text().startswith("after task 4 of 5, 6 7: ")
    assert axe.Axe().run(page).response["violations"] == []
