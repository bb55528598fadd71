"""Studies beside the paper's experiments, each a module that is run by itself and writes a record."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from experiments.entry import STOPPED
from wage_neuro.errors import WageError


def alone(main: Callable[..., None]) -> None:
    """Run a study by its own words; what it refuses, or cannot read, is one line under its name."""
    import typer

    from experiments.commands import usage

    name, app = Path(sys.argv[0]).stem, typer.Typer(add_completion=False)
    app.command()(main)
    try:
        command = typer.main.get_command(app)
        code = command.main(prog_name=f"python -m {__name__}.{name}", standalone_mode=False)
    except usage.UsageError as error:
        print(f"{name}: {usage.in_a_line(error, sys.argv[1:])}", file=sys.stderr)
        raise SystemExit(usage.USAGE) from None
    except typer.Abort:  # Ctrl-C
        raise SystemExit(STOPPED) from None
    except WageError as error:
        raise SystemExit(f"{name}: {error}") from None
    if code:  # of typer.Exit, or of Ctrl-C where Typer returns it
        raise SystemExit(code)
