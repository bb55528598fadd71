"""`wage-neuro live`: a page on which a training is seen and steered."""

from __future__ import annotations

import asyncio
import secrets
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from experiments import datasets
from experiments.commands.command_line import busy, console
from experiments.commands.options import Found, Simulator, command_of
from experiments.live.learners import with_outputs
from experiments.live.session import NEW, Config, Session, View, fresh, opened
from experiments.live.watched import Watched
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.settings import OUTPUT, check_settings, setting

PORT = 8765
NEEDS = 'pip install "wage-neuro[live]"'


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Where the page is."""

    port: int = setting(
        PORT, "Port of the page; where it is in use, the next free one.", OUTPUT, least=1, most=65535
    )
    open: bool = setting(False, "Open the page in the browser.", OUTPUT, flag="--open")
    watch: bool = setting(
        False, "Watch RUN, which another command trains, and change nothing.", OUTPUT, flag="--watch"
    )

    def __post_init__(self) -> None:
        check_settings(self)


def live(
    config: Config,
    found: Found,
    machine: Simulator,
    shown: Shown,
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a run to go on from, or to watch; none begins anew.", show_default=False
        ),
    ] = None,
) -> None:
    """See and steer a training in the browser: draw, teach, freeze, and watch what is forgotten."""
    try:
        from experiments.live.server import Server, listening
    except ImportError as error:
        raise EngineError(f"live: {error}; it needs aiohttp: {NEEDS}") from None
    view = _view(config, found, machine, shown, run)
    try:
        server = Server(view, listening(shown.port), secrets.token_urlsafe(16))
        if server.port != shown.port:
            console.print(f"port {shown.port} is in use; {server.port} is free")

        def ready() -> None:
            console.print(f"open  {server.address}\nCtrl-C ends it; a closed page does not")
            if shown.open:
                webbrowser.open(server.address)

        asyncio.run(server.serve(ready))
        if isinstance(view, Session) and view.unsaved:
            console.print(f"both networks are in {view.save()}")
    finally:
        view.close()


def _view(config: Config, found: Found, machine: Simulator, shown: Shown, run: Path | None) -> View:
    if shown.watch:
        if run is None:
            raise SettingError(
                "--watch without a run: want its folder, such as `wage-neuro live runs/mine --watch`"
            )
        return Watched(run, found.data_dir)
    with busy(f"reading {run or config.data}"):
        if run is None:
            data = datasets.load(config.data, found.data_dir)
            saved = fresh(config, data.split(config.validation) if config.validation else data)
        else:
            saved, data = opened(run, found.data_dir)
            if saved.network.classes == data.classes:  # and not a session's, which has some
                saved = with_outputs(saved, NEW)
        data = data.split(config.validation) if config.validation else data
    with busy(f"starting engine {machine.engine}"):
        session = Session(saved, data, config, machine.engine, **machine.options)
    about = session.about()
    console.print(
        f"{about['network']}  {about['weights']:,} weights, bits {about['bits']}, engine {machine.engine};"
        f" one network with a memory of {config.memory} samples, one without"
    )
    return session


LIVE = command_of(live)
