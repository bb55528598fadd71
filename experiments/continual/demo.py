"""Digits arrive class by class: what a network without and one with a memory still know, as bars."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.continual.study import Config, Run
from wage_neuro.engine import Engine

STREAM, MEMORY, NETWORK = "split-digits", 100, "128FC"
FRAMES_A_TASK = 12
FRAME_S = 0.2  # on a terminal no frame is shorter, so that the bars can be watched
BAR = 24  # characters of 100 %


def learners(seed: int) -> dict[str, Config]:
    """The two that are compared; both see each image four times, its class once."""
    naive = Config(
        stream=STREAM, tasks=10, method="naive", memory=0, network=NETWORK, eta="4", seed=seed, passes=4,
        probes=FRAMES_A_TASK,
    )  # fmt: skip
    return {"naive": naive, "replay": replace(naive, method="replay", memory=MEMORY)}


def show(console: Console, engine_name: str, seed: int) -> None:
    """Run both side by side and draw the accuracy of every class seen so far after each few samples."""
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: Run.start(config, Path(folder) / name) for name, config in learners(seed).items()}
        console.print(
            f"scikit-learn's handwritten digits arrive one class after another; {runs['naive'].network},"
            f" ternary weights, integers alone.\nnaive: learns what comes. replay: keeps {MEMORY} images"
            f" ({runs['replay'].method.bytes:,} bytes) and learns one of them with each new one.\n"
        )
        for run in runs.values():
            run.folder.mkdir()
        naive, replay = (run.engine(engine_name) for run in runs.values())
        with naive, replay, Live(console=console, auto_refresh=False) as live:
            engines = {"naive": naive, "replay": replay}
            for place in runs["naive"].stops:
                due = time.monotonic() + FRAME_S
                for name, run in runs.items():
                    run.learn_to(engines[name], place)
                live.update(_frame(runs, engines, place), refresh=True)
                if console.is_terminal:
                    time.sleep(max(0.0, due - time.monotonic()))
        final = {name: float(np.mean(_by_class(run, engines[name]))) for name, run in runs.items()}
    console.print(
        "  ".join(f"{name} {100 * value:.1f} %" for name, value in final.items()) + " of all classes"
    )
    console.print("what next:\n  wage-neuro continual split-mnist --method replay --memory 2000 --seeds 3")


def _by_class(run: Run, engine: Engine) -> list[float]:
    return [run.accuracy(engine, task) for task in run.tasks]


def _frame(runs: dict[str, Run], engines: dict[str, Engine], place: int) -> Group:
    stream = runs["naive"].stream
    current = sum(end < place for end in stream.ends)
    table = Table("digit", *runs, box=None)
    bars = {name: _by_class(run, engines[name]) for name, run in runs.items()}
    for digit in range(len(runs["naive"].tasks)):
        style = "bold" if digit == current else ""
        cells = [_bar(bars[name][digit] if digit <= current else None) for name in runs]
        table.add_row(Text(str(digit), style), *cells)
    return Group(table, Text(f"sample {place:,} of {len(stream):,}, learning digit {current}\n"))


def _bar(accuracy: float | None) -> Text:
    if accuracy is None:
        return Text("·" * BAR + "      ", "dim")
    filled = round(accuracy * BAR)
    colour = "green" if accuracy >= 0.8 else "yellow" if accuracy >= 0.5 else "red"
    return Text("█" * filled, colour) + Text("░" * (BAR - filled), "dim") + Text(f"{100 * accuracy:4.0f} %")
