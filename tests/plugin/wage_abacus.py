"""An engine, a continual method, a chip, a format and a data set of somebody else's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.continual.methods import Replaying
from experiments.datasets import Dataset, Known
from mappings.formats.registry import Format
from wage_neuro import checkpoint
from wage_neuro.engine import Engine
from wage_neuro.kinds import Kind
from wage_neuro.support import Support
from wage_neuro.train import Batch, initial_state, predict, train_step

HERE = Path(__file__).parent


class AbacusEngine(Engine):
    """Dense layers, one batch after another."""

    name = "abacus"
    supports = Support(
        who="engine 'abacus'", kinds=frozenset({Kind.DENSE}), rules={"shift": ("batch", "held")}
    )

    def __init__(self, network, rules=None, seed=0, state=None):
        super().__init__(network, rules)
        self._state = state or initial_state(network, seed)

    def learn(self, images, labels, control):
        logits = []
        for i in range(0, len(images), self.rules.batch):
            part = slice(i, i + self.rules.batch)
            x = self.network.encode(images[part])
            self._state, Z = train_step(
                self.network, self._state, Batch(x, labels[part]), control, self.rules
            )
            logits.append(Z)
        return np.concatenate(logits)

    def predict(self, images):
        return predict(self.network, self._state, self.network.encode(images))

    @property
    def state(self):
        return self._state


class ToughReplay(Replaying):
    what = "replay whose weights are hard to unlearn"
    defaults = {"metaplasticity": 1}  # noqa: RUF012


CHIP = HERE / "abacus.toml"
FORMAT = Format(
    what="a checkpoint under another name",
    write=checkpoint.save,
    read=checkpoint.load,
    is_one=lambda path, head: path.suffix == ".beads",
)


def _read(data_dir, download) -> Dataset:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = rng.integers(0, 99, (60, 6, 6, 1)).astype(np.uint8)
    images[labels == 1, :, 3:] += 150
    return Dataset("halves", images[:40], labels[:40], images[40:], labels[40:], classes=2, signed=False)


HALVES = Known("40 + 20 images of 6x6x1, 2 classes", "none", "made here", _read, lambda data_dir: HERE)
