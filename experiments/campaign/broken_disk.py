"""`wage-neuro` on a disk that fails: `python -m experiments.campaign.broken_disk N ERROR FILE WORDS...`.

Counts what asks the disk to change something in the current folder (open, write, fsync, replace, mkdir) and
fails from the N-th such operation on, or at it alone where N ends in `!`. The count is in FILE, one
for the command and the workers that it starts: they import this module too, and find all three in SETTING.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import functools
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITING = set("wax+")
SETTING = "WAGE_NEURO_BROKEN_DISK"


class BrokenDisk:
    """Counts operations and fails the wanted ones.

    Parameters
    ----------
    counter : file of the count, which other processes go on with
    """

    def __init__(self, at: int, once: bool, error: int, counter: Path) -> None:
        self.home = os.getcwd()
        self.at, self.once, self.error = at, once, error
        self._counter = OS_OPEN(counter, os.O_RDWR | os.O_CREAT, 0o600)

    @property
    def count(self) -> int:
        """Operations so far, of every process."""
        return int(os.pread(self._counter, 20, 0) or 0)

    def _next(self) -> int:
        fcntl.lockf(self._counter, fcntl.LOCK_EX)
        number = self.count + 1
        os.pwrite(self._counter, str(number).encode(), 0)
        fcntl.lockf(self._counter, fcntl.LOCK_UN)
        return number

    def ask(self, path: Any) -> None:
        """Count an operation on a path or descriptor of ours; raise OSError if it is one that fails."""
        if not self._is_ours(path):
            return
        number = self._next()
        if number == self.at or (number > self.at and not self.once):
            raise OSError(self.error, os.strerror(self.error), path if isinstance(path, str) else None)

    def _is_ours(self, path: Any) -> bool:
        try:
            real = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fspath(path)
        except (OSError, TypeError):
            return False
        # a pipe's descriptor leads to `pipe:[7]`
        where = os.fsdecode(real) if isinstance(path, int) else os.path.join(self.home, os.fsdecode(real))
        return where.startswith(self.home + os.sep)

    def guard(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Ask before a call whose first argument is the path."""

        @functools.wraps(call)
        def guarded(path: Any, *args: Any, **options: Any) -> Any:
            self.ask(path)
            return call(path, *args, **options)

        return guarded

    def open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        *texts: Any,
        closefd: bool = True,
        opener: Callable[..., int] | None = None,
        **options: Any,
    ) -> Any:
        """`open` whose files fail as the disk does, when their buffers are written."""
        if not WRITING & set(mode) or not self._is_ours(file):
            options |= {"closefd": closefd, "opener": opener}
            return OPEN(file, mode, buffering, *texts, **options)
        if opener is None:  # which asks itself
            self.ask(file)
        raw = _File(self, file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, *texts, **options)

    def os_open(self, path: Any, flags: int, *args: Any, **options: Any) -> int:
        """`os.open`, asking where it may write."""
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.ask(path)
        return OS_OPEN(path, flags, *args, **options)

    def install(self) -> None:
        """Put them in the place of Python's own."""
        builtins.open = io.open = self.open  # type: ignore[assignment,unused-ignore]
        os.open = self.os_open
        for name in ("write", "fsync", "replace", "rename", "mkdir", "truncate", "ftruncate"):
            setattr(os, name, self.guard(getattr(os, name)))


OPEN, OS_OPEN = builtins.open, os.open


class _File(io.FileIO):
    def __init__(
        self, disk: BrokenDisk, file: Any, mode: str, closefd: bool, opener: Callable[..., int] | None
    ) -> None:
        super().__init__(file, mode, closefd, opener)
        self.disk = disk

    def write(self, data: Any) -> int:
        self.disk.ask(self.fileno())
        return super().write(data)


def install(at: str, error: str, counter: str) -> None:
    """Break the disk of this process."""
    BrokenDisk(int(at.rstrip("!")), at.endswith("!"), getattr(errno, error), Path(counter)).install()


def main() -> None:
    """Run the command."""
    at, error, file, *words = sys.argv[1:]
    sys.argv = ["wage-neuro", *words]
    os.environ[SETTING] = " ".join((at, error, file))
    Path(file).write_text("0")
    from experiments import cli

    install(at, error, file)
    cli.main()


if __name__ == "__main__":
    Path.cwd()
    main()
elif __name__ == "__mp_main__":  # a worker's name for the command that has started it
    install(*os.environ[SETTING].split(" ", 2))
