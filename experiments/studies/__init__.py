"""Studies beside the paper's experiments, each a module that is run by itself and writes a record."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from wage_neuro.errors import WageError


def alone(main: Callable[..., None]) -> None:
    """Run a study by its own words; what it refuses is one line under its name."""
    import typer

    try:
        typer.run(main)
    except WageError as error:
        raise SystemExit(f"{Path(sys.argv[0]).stem}: {error}") from None
