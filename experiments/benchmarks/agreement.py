"""Agreement of the engines with the oracle, bit by bit: networks x modes x engines.

    python -m experiments.benchmarks.agreement

goes on with its record where it was stopped. An engine that is not installed is left out; run the command
again in an environment that has it, and its column is added to the same record.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.engines import ENGINES, make_engine
from experiments.runs import run_folder
from experiments.runs.compare import Batch, first_difference
from experiments.runs.jobs import Jobs
from processes.widths import Widths
from wage_neuro import AvgPool, Control, Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules
from wage_neuro.engine import Engine
from wage_neuro.errors import EngineError, SettingError, WageError
from wage_neuro.support import Support

RESULT = Path("experiments/results/agreement.json")

NETWORKS = {
    "dense": Network((Dense(24), Dense(5)), (30,)),
    "one layer": Network((Dense(5),), (30,)),
    "wide rows": Network((Dense(600), Dense(37), Dense(5)), (30,)),
    "dense on images": Network((Flatten(), Dense(5)), (6, 5, 2)),
    "conv SAME": Network((Conv(4, 3), Flatten(), Dense(5)), (6, 7, 2)),
    "conv VALID, stride 2": Network((Conv(4, 3, 2, "VALID"), Conv(3, 2), Flatten(), Dense(5)), (9, 8, 1)),
    "conv, average pooling": Network(
        (Conv(4, 3), AvgPool(2), Conv(6, 3), AvgPool(4), Flatten(), Dense(8), Dense(5)), (12, 13, 1)
    ),
    "conv, pooling": Network(
        (Conv(4, 3), MaxPool(2), Conv(6, 3), MaxPool(3, 2), Flatten(), Dense(8), Dense(5)), (12, 12, 1)
    ),
}
MODES = {
    "paper": Rules(batch=16),
    "paper's range, ternary": Rules(batch=16, update="ternary", stored_range="paper"),
    "held": Rules(batch=16, shift="held", hold=40),
    "held, ternary": Rules(batch=16, shift="held", hold=40, update="ternary"),
    "one-sided, margin": Rules(batch=16, loss="one-sided", margin=3),
    "softmax": Rules(batch=16, loss="softmax", margin=2),
    "sharp softmax, momentum": Rules(batch=16, loss="softmax", sharpness=3, momentum=3),
    "held, momentum": Rules(batch=16, shift="held", hold=40, update="ternary", momentum=1),
    "lower upper boundary": Rules(batch=16, shift="held", hold=40, gamma=8),
    "random feedback": Rules(batch=16, feedback="random"),
    "direct feedback": Rules(batch=16, shift="held", feedback="direct"),
    "one sample at a time": Rules(batch=1, shift="held", update="ternary", loss="one-sided", margin=3),
    "new and recalled in turn": Rules(batch=1, shift="held", update="ternary", new_shift=2),
    "new beside recalled": Rules(batch=16, shift="held", hold=40, new_shift=1, recalled=3),
    "metaplastic": Rules(batch=1, shift="held", update="ternary", metaplasticity=5),
    "consolidating": Rules(batch=4, shift="held", update="ternary", consolidation=4, metaplasticity=1),
    "coincidence": Rules(batch=1, shift="held", update="coincidence", loss="one-sided"),
    "pipelined": Rules(batch=12, shift="held", hold=30, update="ternary", pipelined=True),
    "pipelined coincidence": Rules(batch=16, shift="held", update="coincidence", pipelined=True),
    "pipelined, random feedback": Rules(
        batch=12, shift="held", update="ternary", pipelined=True, feedback="random"
    ),
    "pipelined, direct feedback": Rules(
        batch=12, shift="held", update="ternary", pipelined=True, feedback="direct"
    ),
    "narrow random bits": Rules(batch=1, shift="held", update="ternary", generator="philox4x32"),
    "coincidence, narrow random bits": Rules(
        batch=1, shift="held", update="coincidence", loss="one-sided", generator="philox4x32"
    ),
}
"""The tests of every engine go over these tables too (tests/agreement)."""


def modes_of(column: str) -> list[str]:
    """Modes that a column's engine has, and agrees in, as its `supports` says.

    >>> modes_of("compiled") == list(MODES)
    True
    """
    supports = supports_of(column)
    return [mode for mode, rules in MODES.items() if not supports.refusal(NETWORKS["dense"], rules)]


RECORDED = ("dense", "conv VALID, stride 2", "conv, pooling")
NORMALISED = {"normalised": Network.parse("4C3N-MP2-6C3N-F-8FCN-5FC", (12, 12, 1))}
"""Of layers that learn from batches alone, which most engines refuse."""
ROWS = (*RECORDED, *NORMALISED)
"""Networks of the record."""


PLACES = {
    "paper",
    "held, ternary",
    "one-sided, margin",
    "random feedback",
    "direct feedback",
    "coincidence",
    "pipelined",
    "pipelined coincidence",
}
"""Modes whose arithmetic is not that of one sample after the other in a dense layer."""


def is_slow(network: str, mode: str) -> bool:
    """Whether the simulators' tests leave this pair to `pytest -m slow`.

    Every rule meets a dense network, and what treats the places of a convolution in its own way meets one
    with pools; the recorded networks contain the rest.

    >>> is_slow("dense", "held"), is_slow("conv, pooling", "held"), is_slow("one layer", "paper")
    (False, True, False)
    """
    return network != "dense" and mode not in (
        PLACES if network == "conv, pooling" else ("paper", "coincidence")
    )


OVERLAP = Widths(error=9, post=10)  # overlapping windows add up to four errors at one place
COLUMNS: dict[str, tuple[str, dict[str, Any]]] = {
    "compiled": ("compiled", {}),
    "lava": ("lava", {}),
    "lava structural": ("lava", {"model": "structural", "widths": OVERLAP}),
    "brian2": ("brian2", {}),
    "torch": ("torch", {}),
    "rtl": ("rtl", {}),
}
"""Engines with their options."""

Build = Callable[[Network, Rules, int], Engine]


def supports_of(column: str) -> Support:
    """What the engine of a column takes, with its options."""
    name, options = COLUMNS[column]
    return ENGINES.find(name).supports_of(**options)


@dataclass(frozen=True)
class Cell:
    """What one engine gave in one mode of one network, against the numpy engine.

    Attributes
    ----------
    seeds, steps : runs, and batches that each of them learned
    weights : stored weights of the network, all of which were compared after each step
    changed : weights that learning changed, in the run that changed fewest
    difference : the first bit that differs, or None
    refused : the engine's own reason not to build this, or None
    """

    network: str
    mode: str
    engine: str
    seeds: int
    steps: int
    weights: int
    changed: int
    difference: str | None = None
    refused: str | None = None


def network_of(name: str) -> Network:
    """A network of these tables."""
    return {**NETWORKS, **NORMALISED}[name]


def pairs() -> list[tuple[str, str]]:
    """Networks of the record, each with the modes in which it can learn at all."""
    can = NumpyEngine.supports
    return [(name, mode) for name in ROWS for mode in MODES if not can.refusal(network_of(name), MODES[mode])]


def other_control(network: Network) -> Control:
    """Every layer with its own step size and hold; the middle one, which errors still pass, is frozen."""
    L = len(network.layers)
    etas = tuple(None if i == L // 2 > 0 else i % 2 for i in range(L))
    return Control(log2_eta=etas, hold=tuple(range(20, 20 + L)))


def batches(network: Network, rules: Rules, steps: int, seed: int) -> Iterator[Batch]:
    """Images as sparse as digits are; the second half of them is learned with another control."""
    rng = np.random.default_rng(seed)
    for step in range(steps):
        shape = (rules.batch, *network.input_shape)
        images = (rng.integers(0, 256, shape) * (rng.random(shape) < 0.3)).astype(np.uint8)
        control = 3 if step < steps // 2 else other_control(network)
        yield images, rng.integers(0, network.classes, rules.batch), control


def cell(network: str, mode: str, engine: str, build: Build, seeds: int) -> Cell:
    """Let an engine and the numpy engine learn the same, with several seeds, comparing after each step."""
    net, rules = network_of(network), MODES[mode]
    steps, changed = max(6, 48 // rules.batch), list[int]()

    def found(**what: Any) -> Cell:
        return Cell(network, mode, engine, seeds, steps, net.n_weights, min(changed, default=0), **what)

    for seed in range(seeds):
        oracle = NumpyEngine(net, rules, seed=seed)
        begin = oracle.state
        with ExitStack() as stack:
            try:
                other = stack.enter_context(build(net, rules, seed))
            except WageError as error:
                return found(refused=str(error))
            engines = {"numpy": oracle, engine: other}
            difference = first_difference(engines, batches(net, rules, steps, seed))
        if difference:
            return found(difference=f"seed {seed}, {difference}")
        changed.append(sum(int((a != b).sum()) for a, b in zip(begin.S, oracle.state.S, strict=True)))
    return found()


def build_column(column: str) -> Build:
    """How to build the engine of a column."""
    name, options = COLUMNS[column]
    return lambda network, rules, seed: make_engine(
        name, network, rules, NumpyEngine(network, rules, seed=seed).state, **options
    )


def work(
    output: Path,
    columns: list[str],
    seeds: int,
    show: Callable[[str, int, int], None],
    jobs: Jobs | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Cell]:
    """Fill in what the record lacks; it is written after every cell.

    show : called with what is compared next, or was last, how many cells are done, and how many there are
    """
    jobs = jobs or Jobs()
    versions, cells = _read(output)
    every = [(network, mode, column) for column in columns for network, mode in pairs()]
    left = [where for where in every if where not in cells or cells[where].seeds != seeds]
    done = len(every) - len(left)

    def compare(where: tuple[str, str, str]) -> Cell:
        show(named(where), done, len(every))
        return compared(seeds, where)

    with closing(jobs.each(compare if jobs.in_turn else partial(compared, seeds), left, named, say)) as found:
        for where, made in found:
            cells[where], done = made, done + 1
            versions[made.engine] = run_folder.versions()
            _write(output, versions, cells)
            if not jobs.in_turn:
                show(named(where), done, len(every))
    show("", len(every), len(every))
    return list(cells.values())


def forget(output: Path, columns: list[str]) -> None:
    """Take these columns out of the record, to be compared anew; the others stay."""
    versions, cells = _read(output)
    if output.exists():
        kept = {where: c for where, c in cells.items() if c.engine not in columns}
        _write(output, {name: each for name, each in versions.items() if name not in columns}, kept)


def _read(output: Path) -> tuple[dict[str, Any], dict[tuple[str, str, str], Cell]]:
    """Versions of each column, and the cells by their places; none where there is no record yet."""
    if not output.exists():
        return {}, {}
    record = json.loads(output.read_text())
    return record["versions"], {place(c): c for c in (Cell(**found) for found in record["cells"])}


def _write(output: Path, versions: dict[str, Any], cells: dict[tuple[str, str, str], Cell]) -> None:
    order = [(network, mode, column) for column in COLUMNS for network, mode in pairs()]
    rows = ",\n".join(json.dumps(asdict(cells[each])) for each in order if each in cells)
    head = json.dumps(versions, indent=1)
    run_folder.write_text(output, f'{{"versions": {head},\n"cells": [\n{rows}\n]}}\n')


def compared(seeds: int, where: tuple[str, str, str]) -> Cell:
    """The cell of a network, a mode and a column."""
    network, mode, column = where
    return cell(network, mode, column, build_column(column), seeds)


def named(where: tuple[str, str, str]) -> str:
    """A cell in words."""
    network, mode, column = where
    return f"{column}, {network}, {mode}"


def place(c: Cell) -> tuple[str, str, str]:
    """Where a cell stands."""
    return c.network, c.mode, c.engine


def agreement_table(folder: Path) -> str:
    """Modes and networks against engines: = where every bit is equal; reasons below."""
    cells = [Cell(**found) for found in json.loads((folder / RESULT.name).read_text())["cells"]]
    by_place = {place(c): c for c in cells}
    columns = [column for column in COLUMNS if any(c.engine == column for c in cells)]
    notes: list[str] = []
    lines = ["| mode | network | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for mode in MODES:
        rows: dict[tuple[str, ...], list[str]] = {}  # networks with the same outcomes share a row
        here = [network for network, other in pairs() if other == mode]
        for network in here:
            outcomes = tuple(_outcome(by_place.get((network, mode, column))) for column in columns)
            rows.setdefault(outcomes, []).append(network)
        for networks in rows.values():
            shown = [_with_note(by_place.get((networks[0], mode, column)), notes) for column in columns]
            names = "all" if len(networks) == len(here) else "; ".join(networks)
            lines.append(f"| {mode} | {names} | " + " | ".join(shown) + " |")
    equal = [c for c in cells if not c.difference and not c.refused]
    shapes = "; ".join(f"{name} is {network_of(name)}" for name in ROWS)
    lines += [
        "",
        f"=: equal to the numpy engine with {min(c.seeds for c in cells)} seeds over"
        f" {min(c.steps for c in cells)} to {max(c.steps for c in cells)} steps: after each, all stored"
        f" weights, held exponents and logits, {sum(c.seeds * c.steps * c.weights for c in equal):,} weights"
        f" in all. In every run at least {min(c.changed for c in equal):,} weights changed; in its second"
        f" half one layer is frozen and each has an eta and a hold of its own. Networks: {shapes}.",
    ]
    return "\n".join([*lines, *(f"<br>{number}: {note}" for number, note in enumerate(notes, start=1))])


def _outcome(found: Cell | None) -> str:
    """What lets networks share a row: to agree, or to be refused; each difference stands by itself."""
    if found is None:
        return "not run"
    return found.difference or ("–" if found.refused else "=")


def _with_note(found: Cell | None, notes: list[str]) -> str:
    note = found and (found.difference or found.refused)
    if not found or not note:
        return _outcome(found)
    if note not in notes:
        notes.append(note)
    return f"{'**≠**' if found.difference else '–'} <sup>{notes.index(note) + 1}</sup>"


def main() -> int:
    """Compare, write the record, and say whether every engine agrees."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.agreement",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--engines", default=",".join(COLUMNS), help="joined by commas (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each cell (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON record (default: %(default)s)")
    parser.add_argument(
        "--anew", action="store_true", help="compare these engines again, whatever the record holds of them"
    )
    parser.add_argument("--jobs", type=int, default=1, help="cells at the same time, each in its own process")
    parser.add_argument("--cluster", help="compare on Dask: local:N workers, or a scheduler's address")
    options = parser.parse_args()
    try:
        jobs = Jobs(jobs=options.jobs, cluster=options.cluster)
    except SettingError as error:
        parser.error(str(error))
    console, columns = Console(highlight=False, soft_wrap=True, markup=False), []
    for column in options.engines.split(","):
        if column not in COLUMNS:
            parser.error(f"engine {column!r}: want {', '.join(COLUMNS)}")
        try:
            ENGINES.find(COLUMNS[column][0])
            columns.append(column)
        except EngineError as error:
            console.print(f"left out: {error}")
    if options.seeds < 1:
        parser.error(f"--seeds {options.seeds}: want 1 or more")
    run_folder.check_writable(options.output)
    if options.anew:
        forget(options.output, columns)
    parts = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*parts, console=console) as progress:
        task = progress.add_task("")

        def show(what: str, done: int, of: int) -> None:
            progress.update(task, description=what, completed=done, total=of)
            if what and not console.is_terminal:
                print(f"{done + 1} of {of}: {what}", flush=True)

        cells = work(options.output, columns, options.seeds, show, jobs, console.print)
    wrong = [c for c in cells if c.difference]
    for c in wrong:
        console.print(f"{c.engine}, {c.network}, {c.mode}: {c.difference}", style="red")
    refused = sum(c.refused is not None for c in cells)
    console.print(
        f"{len(cells)} cells: {len(cells) - len(wrong) - refused} equal, {len(wrong)} different, {refused}"
        f" refused; written to {options.output}"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WageError as error:
        sys.exit(f"agreement: {error}")
