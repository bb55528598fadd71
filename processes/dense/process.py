"""WageDense: a fully connected WAGE layer as a Lava Process."""

from __future__ import annotations

from processes.layer_process import WageLayer


class WageDense(WageLayer):
    """Fully connected WAGE layer; ports and Vars as WageLayer. Weight shape (n_in, n_out)."""
