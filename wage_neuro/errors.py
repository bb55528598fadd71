"""Every exception of wage-neuro, under one base class.

A message is one line and names the value that was refused. The command line prints
it as it is and ends with exit code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class WageError(Exception):
    """Base of every error that wage-neuro raises on purpose."""


class BitWidthError(WageError):
    """A bit width outside 2..16, or a code that does not fit its width."""


class NetworkError(WageError):
    """Layers that do not chain, or a layer that cannot be built."""


class SettingError(WageError):
    """A training setting that has no meaning (eta, lanes, batch, ...)."""


class DataError(WageError):
    """Images or labels that are missing, damaged or of the wrong form."""


class CheckpointError(WageError):
    """A checkpoint that is damaged, newer than this version, or of another network."""


class EngineError(WageError):
    """An engine that failed while it ran, or that cannot run what was asked of it."""


class DoubtWarning(UserWarning):
    """Something that can be done, and that was probably meant otherwise. A message is one line."""


def either(words: Iterable[object]) -> str:
    """Words as a choice.

    >>> either(("wide", "ternary", 3))
    'wide, ternary or 3'
    """
    *others, last = map(str, words)
    return f"{', '.join(others)} or {last}" if others else last


def did_you_mean(text: str, known: Iterable[str], called: Mapping[str, str] | None = None) -> str:
    """What was probably meant, to be put behind a message, or nothing.

    called : names that others give to what is known here

    >>> did_you_mean("mnsit", ["mnist", "svhn"]), did_you_mean("ewc", ["replay"], {"ewc": "consolidation"})
    ('; did you mean mnist?', '; did you mean consolidation?')
    """
    called = called or {}
    names = [*known, *called]
    alike = 0.6 if len(text) > 2 else 1.0
    near = difflib.get_close_matches(text.lower()[:100], names, n=1, cutoff=alike)
    return f"; did you mean {called.get(near[0], near[0])}?" if near else ""
