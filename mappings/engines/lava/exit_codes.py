"""What the exit code of a child process means to people."""

from __future__ import annotations

import signal


def how_it_ended(exit_code: int) -> str:
    """Say how a process ended.

    >>> how_it_ended(3), how_it_ended(-7)
    ('ended with exit code 3', 'was killed (SIGBUS)')
    >>> how_it_ended(-9)
    'was killed (SIGKILL), as it happens where memory runs out'
    """
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    why = ", as it happens where memory runs out" if exit_code == -signal.SIGKILL else ""
    return f"was killed ({signal.Signals(-exit_code).name}){why}"
