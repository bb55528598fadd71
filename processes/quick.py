"""What makes a ProcessModel quick: Vars that are fetched when asked for, and attributes that are no ports."""

from __future__ import annotations

from typing import Any

from lava.magma.core.model.py.model import PyLoihiProcessModel


class PyQuickModel(PyLoihiProcessModel):
    """A model whose Vars may lie elsewhere while it runs."""

    stale = False  # whether the Vars are behind
    _running = False

    def start(self) -> None:
        """Begin with the Vars as they stand."""
        self.on_var_update()
        self._running = True
        super().start()

    def fetch(self) -> None:
        """Bring the Vars up to date."""

    def __setattr__(self, key: str, value: Any) -> None:
        # Lava looks at each value, whether it is a port; there are no new ones once it runs
        if self._running:
            self.__dict__[key] = value
        else:
            super().__setattr__(key, value)

    def advance_to_time_step(self, ts: int) -> None:
        """Nothing: ports of Python have no clock."""

    def _fetch_if_stale(self) -> None:
        if self.stale:
            self.fetch()
            self.stale = False

    def _get_var(self) -> None:
        self._fetch_if_stale()
        super()._get_var()

    def _set_var(self) -> None:
        self._fetch_if_stale()
        super()._set_var()

    def _handle_var_port(self, var_port: Any) -> None:
        self._fetch_if_stale()
        super()._handle_var_port(var_port)
        self.on_var_update()  # it may have been set
