"""`wage-neuro report`: one file that shows a run, offline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.command_line import busy, console, counter
from experiments.commands.options import Found, command_of
from experiments.engines import FASTEST, NAMES
from experiments.report import stream, sweep, training
from experiments.report.page import MOST_BYTES, Page, bokeh
from experiments.runs import run_folder
from mappings.chips.chip import CHIPS, Chip
from wage_neuro import checkpoint
from wage_neuro.errors import CheckpointError
from wage_neuro.settings import OUTPUT, SIMULATOR, setting


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the page is made with."""

    chip: str = setting(
        "loihi2",
        f"{', '.join(CHIPS)}, or a chip of your own: a `.toml` file.",
        SIMULATOR,
        complete=tuple(CHIPS),
    )
    engine: str = setting(FASTEST, "Engine that answers the images.", SIMULATOR, complete=NAMES)
    output: Path | None = setting(None, "The page.", OUTPUT, shown="RUN/report.html")


def report(
    run: Annotated[
        Path,
        typer.Argument(help="Folder of a run, of a continual run, or of several runs that are compared."),
    ],
    asked: Asked,
    found: Found,
) -> None:
    """Make one HTML file that shows a run: curve, mistakes, weights, activity, chip map and costs."""
    bokeh()
    chip = Chip.load(asked.chip)
    make = maker(run)
    output = asked.output or run / "report.html"
    run_folder.check_writable(output)
    with counter("image") as told:
        page = make(run, found.data_dir, asked.engine, chip, told)
    with busy(f"writing {output}"):
        text = page.html()
        run_folder.write_text(output, text)
    console.print(f"written to {output}, {len(text.encode()) / 1e6:.1f} MB")
    if len(text.encode()) > MOST_BYTES:
        console.print(f"warning: larger than {MOST_BYTES / 1e6:g} MB", style="yellow")


Make = Callable[[Path, Path | None, str, Chip, Callable[..., None]], Page]


def maker(run: Path) -> Make:
    """What makes the page of the runs in a folder.

    Raises
    ------
    CheckpointError
        If there are none.
    """
    if run.is_file():
        raise CheckpointError(f"{run}: a file; want the folder that it is in, {run.parent}")
    if (run / run_folder.CHECKPOINT).exists():
        header = checkpoint.read_header(run / run_folder.CHECKPOINT)
        if "stream" in header.get("extra", {}):
            raise CheckpointError(f"{run}: one seed of a continual run; want the folder of all, {run.parent}")
        return training.page
    if (run / stream.RECORD).exists():
        return stream.page
    if (run / stream.STUDY).exists():
        raise CheckpointError(
            f"{run}: a continual run that has not ended; `wage-neuro continual --resume` does"
        )
    if run.is_dir() and any(sweep.runs_in(run)):
        return sweep.page
    if not run.exists():
        run_folder.checkpoint_of(run)  # says what it is in its place
    raise CheckpointError(f"{run}: no run in it; want the folder of one, as `wage-neuro train` makes them")


REPORT = command_of(report)
