"""Every exception of wage-neuro, under one base class.

A message is one line and names the value that was refused. The command line prints
it as it is and ends with exit code 1.
"""


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
