"""Files written whole or not at all, and what killed writes left swept away."""

from __future__ import annotations

import errno
import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # not on Windows: there an open file cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

UNFINISHED = ".part"
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)  # a file system without them


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary neighbour for writing; it takes the place of `path` only if the block succeeds.

    Its permissions are those of any new file, as the umask has them. File and folder are synchronized: after
    a power cut there is the old file or the new one.
    """
    name, descriptor = _begun(path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        name.unlink()
        raise
    _synchronize(path.parent)


def _begun(path: Path) -> tuple[Path, int]:
    """A new neighbour of `path` and its locked descriptor; another if it is swept before it is locked."""
    while True:
        name = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}{UNFINISHED}")
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        begun = False
        try:
            begun = lock(descriptor) and os.fstat(descriptor).st_nlink > 0
        finally:
            if not begun:
                os.close(descriptor)
                name.unlink(missing_ok=True)
        if begun:
            return name, descriptor


def _synchronize(folder: Path) -> None:
    """Write a folder's names to the disk, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    finally:
        os.close(descriptor)


def lock(descriptor: int) -> bool:
    """Lock an open file to this descriptor; False if another one has it.

    The lock ends with the descriptor, however its process ends. Where the system knows no locks nobody is
    kept out.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what killed writes of `name`, or of any file, left in a folder; what goes on is left alone."""
    known = "*" if name is None else glob.escape(name[:200])
    for path in folder.glob(f".{known}.{'[0-9a-f]' * 8}{UNFINISHED}"):
        with suppress(OSError), path.open("rb") as file:
            if lock(file.fileno()):
                path.unlink()
