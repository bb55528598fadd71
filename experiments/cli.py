"""The command `wage-neuro`: which commands there are. Each is imported when it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from experiments.entry import say_stopped, stops_at_once

COMMANDS = {
    "train": (
        "commands.train:TRAIN",
        "Train a network; checkpoint, metrics and learning curve go to a run folder.",
    ),
    "demo": (
        "commands.train:DEMO",
        "Train a small ternary network on scikit-learn's handwritten digits, inside Lava, in under a minute.",
    ),
    "evaluate": ("commands.trained:EVALUATE", "Measure a trained network on test images, class by class."),
    "runs": ("commands.runs:RUNS", "List, show and compare the runs that are here."),
    "report": (
        "report.command:REPORT",
        "Make one HTML file that shows a run: curve, mistakes, weights, activity, chip map and costs.",
    ),
    "curves": (
        "commands.runs:CURVES",
        "Draw the accuracy of several runs against the samples they have seen.",
    ),
    "experiment": (
        "commands.paper:EXPERIMENT",
        "Run one of the paper's experiments; what was stopped goes on, what is finished is not run again.",
    ),
    "results": (
        "commands.paper:RESULTS_COMMAND",
        "Make the tables and pictures of the paper's experiments from the records of their runs.",
    ),
    "communication": (
        "commands.trained:COMMUNICATION",
        "Measure the bytes of each update against float32 gradients, and the memory of the weights.",
    ),
    "compare": (
        "commands.trained:COMPARE",
        "Let several engines go on with a run, and name the first bit in which they differ.",
    ),
    "raster": (
        "commands.trained:RASTER",
        "Draw one image's graded spikes through the network, and its error's on the way back.",
    ),
    "binary": (
        "commands.trained:BINARY",
        "Answer with binary spikes, a bit a time step, in Brian2 and Lava: their cost against graded ones.",
    ),
    "map": (
        "commands.chip_map:MAP",
        "Map a network onto a chip: does it fit, where does it go, what does a sample cost (an estimate).",
    ),
    "export": (
        "commands.export:EXPORT",
        "Write a trained network for other tools: NIR, ONNX, netx, packed weights, learning program.",
    ),
    "import": (
        "commands.export:IMPORT",
        "Make a checkpoint of an exported file, for `evaluate`; of a program also for `train --resume`.",
    ),
    "round-trip": (
        "commands.export:ROUND_TRIP",
        "Export to every format, import again, and compare the answers to all test images.",
    ),
    "continual": (
        "continual.command:CONTINUAL",
        "Learn tasks one after another and measure what stays: the matrix, its measures, a picture.",
    ),
    "transfer": (
        "transfer.command:TRANSFER",
        "Let a trained network learn another data set, one sample at a time, from few examples and from all.",
    ),
    "features": (
        "commands.trained:FEATURES",
        "Write what a network makes of images before its last layer, to learn on from: `split-FILE.npz`.",
    ),
    "rtl": (
        "commands.rtl:RTL",
        "Make a learning neurocore of a network: Verilog and a testbench, simulated, placed and routed.",
    ),
    "live": (
        "live.command:LIVE",
        "See and steer a training in the browser: draw, teach, freeze, and watch what is forgotten.",
    ),
    "data": (
        "commands.here:DATA_SETS",
        "List the data sets: what they are, where they were found, or how to get them.",
    ),
    "engines": (
        "commands.here:ENGINES",
        "Say which engines are here, what they run on, and how fast each learns one small net.",
    ),
}
"""Where each command is, below `experiments`, and its first line of help."""


@contextmanager
def _usage_in_a_line() -> Iterator[None]:
    """Make one line of what was typed wrongly, in the place of Typer's box."""
    try:
        yield
    except typer.Exit:  # of --help, which must be quick
        raise
    except Exception as error:
        from experiments.commands import usage

        if not isinstance(error, usage.UsageError) or usage.asks_for_help(error):
            raise
        _fail(usage.in_a_line(error, sys.argv[1:]), usage.USAGE)


def _command(name: str) -> Any:
    module, _, app = COMMANDS[name][0].partition(":")
    with stops_at_once():
        found = typer.main.get_command(getattr(import_module(f"experiments.{module}"), app))
    found.name = name
    return found


def options_of(name: str) -> set[str]:
    """Options that a command has, such as `--eta`; none where there is no such command."""
    return {each for param in _command(name).params for each in param.opts} if name in COMMANDS else set()


class _Commands(TyperGroup):
    """Commands by name and first line; the one that is used is imported."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        for name, (_, what) in COMMANDS.items():
            self.add_command(TyperCommand(name, help=what))

    def make_context(self, *words: Any, **more: Any) -> Any:
        """Read the options before the command."""
        with _usage_in_a_line():
            return super().make_context(*words, **more)

    def invoke(self, ctx: Any) -> Any:
        """Read the command's words and run it."""
        with _usage_in_a_line():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, found, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            if name != "train":
                from experiments.runs.ranks import refuse_ranks

                refuse_ranks(name)
            found = _command(name)
        return name, found, rest


app = typer.Typer(
    cls=_Commands,
    help="Train ternary networks with integers alone (WAGE), in numpy or inside the Lava simulator.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        from wage_neuro import __version__

        print(f"wage-neuro {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _fail(message: str, code: int = 1) -> NoReturn:
    from experiments.commands.command_line import tell
    from experiments.runs.ranks import end_all

    end_all(tell, message)
    tell(message)
    sys.exit(code)


def main() -> NoReturn:
    """Run the command; an error of ours is one line and exit code 1."""
    if any(name.endswith("RANK") for name in os.environ):  # started by mpiexec, it may be
        from experiments.runs.ranks import hush

        hush()
    try:
        app(prog_name="wage-neuro", standalone_mode=True)
    except MemoryError as error:
        _fail(f"not enough memory ({str(error) or 'none left'}); want a smaller network, batch or data set")
    except OSError as error:  # a full disk, say
        _fail(f"{error.filename or 'files'}: {error.strerror or error}")
    except SystemExit as ended:
        if isinstance(getattr(ended.__context__, "__cause__", None), KeyboardInterrupt):
            say_stopped()
        raise
    except Exception as error:
        from wage_neuro.errors import WageError

        if not isinstance(error, WageError):
            raise
        _fail(str(error))
    sys.exit(0)


if __name__ == "__main__":
    main()
