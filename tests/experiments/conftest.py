"""Helpers of the experiments' tests: small runs, the command in this process, checkpoints made to lie."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments import cli
from experiments.runs.training import Config, Run
from wage_neuro.rules import Rules

BATCH_SHIFT, HELD_SHIFT = Rules(batch=32), Rules(batch=32, shift="held", hold=48)
SMALL = Config(
    data="digits", network="8C3-MP2-48FC", bits="2888", epochs=3, eta="8, 4@1, 1@2", seed=3, train_images=400
)


def _small(rules: Rules = BATCH_SHIFT, **changes: Any) -> Config:
    return replace(SMALL, rules=rules, **changes)


def _fit(
    run: Run, engine: str = "numpy", lanes: int | None = None, stop: tuple[int, int] | None = None
) -> Run:
    """Train, and stop once `samples` of `epoch` are seen: stop = (epoch, samples)."""

    def report(seen) -> None:
        if stop and (seen.epoch, seen.samples) >= stop:
            run.stop_wanted = True

    with run.engine(engine, lanes=lanes) as machine:
        run.fit(machine, report)
    return run


def _without_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def _tamper(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the JSON text of a checkpoint, in place or by what `change` returns."""
    with np.load(file) as saved:
        arrays = dict(saved)
    header = json.loads(bytes(arrays["header"]))
    changed = change(header)
    text = json.dumps(header if changed is None else changed).encode()
    np.savez(file, **{**arrays, "header": np.frombuffer(text, np.uint8)})


@pytest.fixture(scope="session")
def helpers() -> SimpleNamespace:
    """The functions above, and the two rules that differ in what a batch needs."""
    return SimpleNamespace(
        small=_small,
        fit=_fit,
        without_seconds=_without_seconds,
        tamper=_tamper,
        batch_shift=BATCH_SHIFT,
        held_shift=HELD_SHIFT,
    )


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The runs that never stopped, numpy engine, by their `shift`."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    runs = {}
    for rules in (BATCH_SHIFT, HELD_SHIFT):
        path = folder / rules.shift
        path.mkdir()
        runs[rules.shift] = _fit(Run.start(_small(rules), path))
    return runs


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int | None
    out: str
    err: str

    @property
    def last(self) -> str:
        return self.out.splitlines()[-1]


@pytest.fixture
def wage_neuro(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ended]:
    """Run `wage-neuro WORDS` in this process, in a fresh current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def command(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["wage-neuro", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return Ended(ended.value.code, out, err)  # type: ignore[arg-type]

    return command


# --- pages in a browser ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium of the system; skips where there is none, or nothing to drive it with.

    Of one module, as its driver leaves no other event loop in the thread.
    """
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium here: the pages are not opened")
    driver = pytest.importorskip("playwright.sync_api", reason="no playwright here: make test-browser")
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser) -> Iterator[Callable[..., Any]]:
    """Open a page of ours: `open_page(address)`. Its console stays empty, and it asks no other host."""
    contexts, wrong = [], []

    def open_(address: str, **settings: Any) -> Any:
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        ours = (address, "data:", "blob:", address.replace("http:", "ws:"))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: request.url.startswith(ours) or wrong.append(request.url))
        page.on("websocket", lambda socket: socket.url.startswith(ours) or wrong.append(socket.url))
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def assert_accessible() -> Callable[[Any], None]:
    """Nothing that axe knows of is hard to read or to reach: WCAG 2.2 at level AA, and its good practices."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe here: make test-browser"
    )
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

    def check(page: Any) -> None:
        found = axe.Axe().run(page, options={"runOnly": rules})
        assert found.violations_count == 0, found.generate_report()

    return check
