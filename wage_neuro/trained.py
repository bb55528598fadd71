"""A run in Python: what `wage-neuro` has left in a folder is read back, asked and trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wage_neuro import checkpoint
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.engine import Engine, NumpyEngine
from wage_neuro.errors import CheckpointError
from wage_neuro.fitting import as_frame, fit
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.train import State

CHECKPOINT = "checkpoint.npz"
"""What a run's folder holds; everything else in it follows from that."""


@dataclass
class Trained:
    """A network that has learned, with all that its run kept.

    Attributes
    ----------
    saved : Checkpoint
        Replaced when it is trained further.

    >>> import tempfile
    >>> from wage_neuro import Network, initial_state
    >>> network = Network.parse("16FC", (8, 8, 1), classes=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Trained(Checkpoint(network, Rules(batch=4), initial_state(network))).save(folder + "/new.npz")
    ...     run = load(folder + "/new.npz")
    >>> run.network == network, run.state.step, run.predict(np.zeros((2, 8, 8, 1), np.uint8)).shape
    (True, 0, (2, 10))
    """

    saved: Checkpoint

    @property
    def network(self) -> Network:
        return self.saved.network

    @property
    def rules(self) -> Rules:
        return self.saved.rules

    @property
    def state(self) -> State:
        return self.saved.state

    @property
    def V(self) -> tuple[np.ndarray, ...]:
        """Visible weights of each layer, k_W-bit codes: -1, 0 and 1 of ternary ones."""
        return self.engine().V

    @property
    def settings(self) -> dict[str, Any]:
        """What the run was asked to do; nothing of a network that comes from elsewhere."""
        extra = self.saved.extra
        return dict(extra.get("config") or extra.get("stream") or {})

    @property
    def metrics(self) -> Any:
        """A row an epoch, of a continual run one a measurement; a DataFrame where pandas is installed."""
        progress = self.saved.extra.get("progress", {})
        return as_frame(progress.get("curve") or progress.get("rows") or [])

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return (n, classes) int64 logits of (n, ...) uint8 images."""
        with self.engine() as engine:
            return engine.predict(images)

    def engine(self, kind: type[Engine] = NumpyEngine, **more: Any) -> Engine:
        """Build an engine that goes on where this stands; `more` as `options`, of the engine's own."""
        build: Any = kind  # an abstract class has no constructor that mypy could check
        made: Engine = build(self.network, self.rules, state=self.state, **more)
        return made

    def fit(self, images: np.ndarray, labels: np.ndarray, **more: Any) -> Any:
        """Train further in numpy, as `wage_neuro.fit` does, and keep the state; returns the metrics."""
        with self.engine() as engine:
            rows = fit(engine, images, labels, **more)
            self.saved = replace(self.saved, state=engine.state)
        return rows

    def save(self, path: Path | str) -> None:
        """Write it as a checkpoint, whole or not at all."""
        checkpoint.save(path, self.saved)


def load(run: Path | str) -> Trained:
    """Read a run's folder, or a checkpoint file.

    Raises
    ------
    CheckpointError
        If there is none, or it is damaged; the line says what is there in its place.
    """
    return Trained(checkpoint.load(checkpoint_of(Path(run))))


def checkpoint_of(run: Path) -> Path:
    """The checkpoint of a run's folder, or the file that `run` is itself.

    Raises
    ------
    CheckpointError
        If there is none; the line says what is there in its place.
    """
    if run.is_file():
        return run
    if (run / CHECKPOINT).exists():
        return run / CHECKPOINT
    runs = sorted(str(path.parent) for path in run.glob(f"*/{CHECKPOINT}"))[:3] if run.is_dir() else []
    path = run / CHECKPOINT if run.is_dir() else run
    raise CheckpointError(
        f"{path}: no such checkpoint" + (f"; want one of {', '.join(runs)}" if runs else "")
    )
