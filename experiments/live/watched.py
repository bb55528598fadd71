"""A run that another command trains, as it stands in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.live import commands as told
from experiments.live.commands import Command
from experiments.live.look import moved
from experiments.live.session import View, opened
from experiments.runs import run_folder
from wage_neuro.errors import SettingError, WageError
from wage_neuro.state import State

LOOK_S = 0.25
"""Seconds between two looks into the folder."""


class Watched(View):
    """Looks into a run's folder whenever its checkpoint is written anew; changes nothing there."""

    learners = ("this run",)

    def __init__(self, run: Path, data_dir: Path | None = None) -> None:
        self.path = run_folder.checkpoint_of(run)
        self._written = self._stamp
        saved, data = opened(run, data_dir)
        self._before = saved.state
        super().__init__(saved, data)
        self.measure(at_once=True)

    @property
    def _stamp(self) -> tuple[int, int]:
        found = self.path.stat()
        return found.st_mtime_ns, found.st_size

    @property
    def states(self) -> list[State]:
        return [self.saved.state]

    @property
    def period(self) -> float:
        return LOOK_S

    def advance(self) -> None:
        """Read the checkpoint if there is a new one."""
        try:
            stamp = self._stamp
            if stamp == self._written:
                return
            saved = run_folder.load(self.path)
        except (OSError, WageError):  # gone, or another version writes there
            return
        if saved.network == self.network:
            self._written, self._before, self.saved = stamp, self.saved.state, saved
            self.measure(at_once=True)

    def do(self, command: Command) -> None:
        match command:
            case told.Draw() | told.Example():
                self.show(command)
            case _:
                raise SettingError(f"{type(command).__name__.lower()}: this run is watched, not steered")

    def about(self) -> dict[str, Any]:
        return {**super().about(), "kind": "watched", "engine": "", "run": str(self.path.parent)}

    def frame(self) -> dict[str, Any]:
        extra = self.saved.extra
        rows = extra.get("progress", {}).get("curve", [])
        return {
            "names": self.names,
            "writing": (self.path.parent / run_folder.LOCK).exists(),
            "updates": [self.saved.state.step],
            "epochs": [len(rows), extra.get("config", {}).get("epochs")],
            "accuracy": self.accuracy,
            "overall": [self.overall(each) for each in self.accuracy],
            "curve": [[row["epoch"] + 1, row["accuracy"]] for row in rows],
            "look": self._look(self.saved.state),
            "moved": moved(self.network, self._before, self.saved.state),
        }
