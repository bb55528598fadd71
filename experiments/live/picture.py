"""The picture of the page in the README: a lesson on a star, shown by the system's Chromium.

    python -m experiments.live.picture

It needs what `make test-browser` sets up.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import threading
from pathlib import Path

from playwright.sync_api import Browser, ViewportSize, sync_playwright

from experiments import datasets
from experiments.engines import FASTEST
from experiments.live import commands as told
from experiments.live.server import Server, listening
from experiments.live.session import Config, Session, fresh

PICTURE = Path(__file__).parent / "live.png"
SAMPLES = 12_000  # that are learned before the lesson
SIZE: ViewportSize = {"width": 1440, "height": 900}


def star(tilt: float) -> told.Draw:
    """A star of five points, drawn in one stroke."""
    angles = [tilt - math.pi / 2 + k * 4 * math.pi / 5 for k in range(6)]
    return told.Draw([tuple((0.5 + 0.4 * math.cos(a), 0.5 + 0.4 * math.sin(a)) for a in angles)], label=10)


def taught() -> Session:
    """A session in which both networks have been taught a star."""
    config, data = Config(), datasets.load("digits")
    session = Session(fresh(config, data), data, config, FASTEST)
    session.do(told.Name(10, "star"))
    session.do(told.Train(True))
    session.at_once = SAMPLES
    session.advance()
    for drawing in range(5):
        session.do(star(0.05 * drawing))
        session.do(told.Keep(10))
    session.do(told.Teach(10))
    while session.lesson:
        session.advance()
        session.count(at_once=True)  # and not when there is time
    session.do(told.Example(4))  # what was lost for it
    session.do(told.Learn(4))
    return session


def draw(browser: Browser, path: Path) -> None:
    """Write the picture."""
    session, ready = taught(), threading.Event()
    server = Server(session, listening(0), "picture")
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(ready.set)))
    thread.start()
    ready.wait()
    try:
        page = browser.new_page(viewport=SIZE, reduced_motion="reduce")
        page.goto(server.address)
        page.wait_for_selector("#verdict table")
        page.wait_for_timeout(500)  # for what is drawn after it
        page.screenshot(path=path)
    finally:
        server.stop()
        thread.join()
        session.close()


if __name__ == "__main__":
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        draw(chromium, PICTURE)
        chromium.close()
