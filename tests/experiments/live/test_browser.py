"""The page in a headless Chromium: drawn on, taught, frozen; no error, no other host, all within reach."""

from __future__ import annotations

import asyncio
import math
import re
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("playwright", reason="no playwright here: make test-browser")
pytest.importorskip("aiohttp", reason="aiohttp is an optional extra")

from experiments.live import picture
from experiments.live.server import Server, listening
from experiments.live.session import Config, Session, View, fresh
from experiments.live.watched import Watched

SAMPLES = "least => parseInt(document.querySelector('#connection').innerText.replace(/\\D/g, '')) > least"


@pytest.fixture
def opened(open_page) -> Iterator[Callable[..., SimpleNamespace]]:
    """Open the page of a view; gives its `page`, its `address`, and what can `end` the server."""
    running = []

    def open_(view: View, **settings: Any) -> SimpleNamespace:
        server, ready = Server(view, listening(0), "token"), threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(ready.set)))
        thread.start()
        ready.wait()

        def end() -> None:
            if thread.is_alive():
                server.stop()
                thread.join(timeout=20)

        running.append((end, view))
        page = open_page(server.address, **settings)
        page.wait_for_selector("#outputs tbody tr")
        return SimpleNamespace(page=page, address=server.address, end=end)

    yield open_
    for end, view in running:
        end()
        view.close()


@pytest.fixture
def session(digits) -> Session:
    config = Config(network="32FC", memory=50)
    return Session(fresh(config, digits), digits, config, "numpy")


def draw_star(page: Any, tilt: float = 0.0) -> None:
    """With the mouse, in one stroke."""
    box = page.locator("#pad").bounding_box()
    angles = [tilt - math.pi / 2 + k * 4 * math.pi / 5 for k in range(6)]
    corners = [
        (
            box["x"] + box["width"] * (0.5 + 0.38 * math.cos(a)),
            box["y"] + box["height"] * (0.5 + 0.38 * math.sin(a)),
        )
        for a in angles
    ]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=5)
    page.mouse.up()


def text(page: Any, selector: str) -> str:
    return " ".join(page.inner_text(selector).split())


def wait_for(page: Any, selector: str, words: str) -> None:
    page.wait_for_function(
        "([where, words]) => document.querySelector(where).innerText.includes(words)", arg=[selector, words]
    )


# --- what a visitor does -----------------------------------------------------------------------------


def test_a_visitor_trains_draws_and_teaches(opened, session, assert_accessible):
    page = opened(session).page
    assert_accessible(page)
    assert "Train them" in text(page, "#intro")
    page.click("#train")
    page.wait_for_function("() => parseFloat(document.querySelector('#overall b').innerText) > 60")
    page.click("#train")
    wait_for(page, "#connection", "at rest")
    assert not page.is_visible("#intro")

    page.check("#labels input[value='10']")
    page.fill("#name", "star")
    page.press("#name", "Tab")
    for kept in range(5):
        draw_star(page, tilt=0.02 * kept)
        wait_for(page, "#shown", "Your drawing, as the network sees it: star")
        wait_for(page, "#keep", "Keep as star")
        page.wait_for_selector("#keep:enabled")
        page.click("#keep")
        page.wait_for_function(f"() => document.querySelectorAll('#kept button').length == {kept + 1}")
    assert text(page, "#teach") == "Teach star, 5 × 20"
    assert_accessible(page)
    before = text(page, "#connection")
    page.click("#teach")
    wait_for(page, "#connection", "lesson")
    wait_for(page, "#verdict", "After the lesson on star")
    assert len(re.findall(r"5 of 5", text(page, "#verdict"))) == 2
    assert_accessible(page)

    draw_star(page, tilt=0.05)
    wait_for(page, "#answer", "answer star")
    assert session.samples > 100
    page.click("#back")
    wait_for(page, "#connection", before)
    assert text(page, "#verdict") == ""
    assert not page.is_enabled("#back")


def test_freeze_step_size_pace_and_classes(opened, session):
    page = opened(session).page
    page.click("[aria-label='Freeze layer 0']")
    wait_for(page, "[aria-label='Freeze layer 0']", "Frozen")
    page.focus("#eta")
    page.keyboard.press("ArrowLeft")
    wait_for(page, "#eta-value", "2")
    page.check("#pace input[value='20']")
    for digit in range(2, 10):
        page.uncheck(f"#which-classes input[value='{digit}']")
    frozen = session.states[0].S[0].copy()
    page.click("#train")
    page.wait_for_function(SAMPLES, arg=5)
    page.click("#train")
    wait_for(page, "#connection", "at rest")
    assert (session.frozen, session.log2_eta, session.pace, session.which) == ([True, False], 1, 20, [0, 1])
    assert (session.states[0].S[0] == frozen).all()
    assert session.pair[1].memory.seen == session.samples
    assert page.get_attribute("[aria-label='Freeze layer 0']", "aria-pressed") == "true"
    page.uncheck("#which-classes input[value='0']")
    page.click("#which-classes label:nth-child(2)")  # the last one stays
    wait_for(page, "#problem", "want one class or more")
    assert session.which == [1]


def test_everything_with_the_keyboard(opened, session):
    page = opened(session).page
    page.focus("#pad")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    for _ in range(5):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    wait_for(page, "#shown", "Your drawing, as the network sees it. Say what it is")
    assert session.shown[:, 3:5].any()
    assert page.is_visible("#pad-keys")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.id || document.activeElement.name || document.activeElement.ariaLabel"
            )
        )
        if page.evaluate("document.activeElement.name") == "label":
            page.keyboard.press("Space")
    # what is out of use, such as `teach` without drawings, is passed over
    assert {
        "train",
        "pace",
        "eta",
        "which",
        "pad",
        "clear",
        "example",
        "label",
        "learn",
        "looked",
        "save",
        "restart",
    } <= reached
    wait_for(page, "#learn", "Learn once")
    page.focus("#learn")
    page.keyboard.press("Enter")
    wait_for(page, "#connection", "1 sample")
    page.focus("#pad")
    page.keyboard.press("Backspace")
    page.wait_for_function("() => document.querySelector('#keep').disabled")
    assert not session.shown.any()


def test_a_closed_tab_and_a_second_one(opened, session):
    first = opened(session)
    first.page.click("#train")
    wait_for(first.page, "#connection", "training")
    other = first.page.context.new_page()
    other.goto(first.address)
    wait_for(other, "#connection", "training")
    first.page.close()
    seen = session.samples
    other.wait_for_function(SAMPLES, arg=seen + 20)
    other.click("#train")
    wait_for(other, "#connection", "at rest")
    assert not session.on


def test_save_and_export(opened, session, tmp_path, monkeypatch, assert_accessible):
    monkeypatch.chdir(tmp_path)
    page = opened(session).page
    page.click("#example")
    page.check("#labels input[value='3']")
    page.click("#learn")
    page.click("#save")
    wait_for(page, "#save", "Saved")
    assert (tmp_path / "runs/live-digits/with-memory/checkpoint.npz").exists()
    page.click("#export summary")
    assert_accessible(page)
    with page.expect_download() as download:
        page.click("text=packed >> nth=1")
    assert download.value.suggested_filename == "with-memory.packed"
    assert download.value.path().read_bytes().startswith(b"\x89WAGE")
    page.keyboard.press("Escape")
    assert not page.is_visible("#formats")


def test_the_program_ends_and_the_page_says_so(opened, session, assert_accessible):
    shown = opened(session)
    assert not shown.page.is_visible("#gone")
    shown.end()
    wait_for(shown.page, "#gone", "The program was ended")
    wait_for(shown.page, "#connection", "not connected")
    assert_accessible(shown.page)


@pytest.mark.parametrize("width", [360, 800, 1440])
def test_fits_every_width(opened, session, width, assert_accessible):
    page = opened(session, viewport={"width": width, "height": 800}).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert_accessible(page)


def test_a_watched_run(opened, helpers, tmp_path, assert_accessible):
    from experiments.runs.training import Run

    helpers.fit(Run.start(helpers.small(epochs=2), tmp_path / "run"))
    page = opened(Watched(tmp_path / "run")).page
    assert "2 of 2 epochs" in text(page, "#watching")
    assert "nobody trains it now" in text(page, "#watching")
    assert not page.is_visible("#train")
    draw_star(page)
    wait_for(page, "#shown", "Your drawing, as the network sees it")
    assert_accessible(page)


def test_the_picture_of_the_readme(browser, tmp_path, need_kernels):
    need_kernels()
    picture.draw(browser, tmp_path / "live.png")
    with Image.open(tmp_path / "live.png") as made, Image.open(picture.PICTURE) as kept:
        assert made.size == kept.size == (1440, 900)
        assert len(made.convert("RGB").getcolors(1 << 20)) > 100
