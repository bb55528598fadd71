"""An engine of your own: say what it takes, how it learns a batch, how it answers. All else is there.

A package that declares it as an entry point is found by name: `wage-neuro train --engine abacus`.

    [project.entry-points."wage_neuro.engines"]
    abacus = "my_package:AbacusEngine"
"""

import numpy as np

from experiments import datasets
from wage_neuro import Control, Engine, Network, NumpyEngine, Rules, State, initial_state, predict, train_step
from wage_neuro.errors import WageError
from wage_neuro.kinds import Kind
from wage_neuro.support import Support
from wage_neuro.train import Batch


class AbacusEngine(Engine):
    """Dense layers; the arithmetic is the oracle's here, and yours where you have your own."""

    name = "abacus"
    supports = Support(who="engine 'abacus'", kinds=frozenset({Kind.DENSE}), rules={"loss": ("sse",)})

    def __init__(
        self, network: Network, rules: Rules | None = None, seed: int = 0, state: State | None = None
    ) -> None:
        super().__init__(network, rules)  # refuses what `supports` does not name
        self._state = state or initial_state(network, seed)

    @property
    def state(self) -> State:
        return self._state

    def learn(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        logits = []
        for first in range(0, len(images), self.rules.batch):
            part = slice(first, first + self.rules.batch)
            x = self.network.encode(images[part])
            self._state, z = train_step(
                self.network, self._state, Batch(x, labels[part]), control, self.rules
            )
            logits.append(z)
        return np.concatenate(logits)

    def predict(self, images: np.ndarray) -> np.ndarray:
        return predict(self.network, self._state, self.network.encode(images))


def main() -> None:
    data = datasets.load("digits")
    network, rules = Network.parse("32FC", (8, 8, 1), classes=10), Rules(batch=32)
    with AbacusEngine(network, rules) as mine, NumpyEngine(network, rules) as oracle:
        for engine in (mine, oracle):
            engine.train(data.train_images, data.train_labels, log2_eta=3, last="drop")
        same = all(np.array_equal(a, b) for a, b in zip(mine.state.S, oracle.state.S, strict=True))
    print(f"every stored weight equal to the oracle's: {same}")
    try:
        AbacusEngine(Network.parse("8C3", (8, 8, 1), classes=10))
    except WageError as refusal:
        print(refusal)


if __name__ == "__main__":
    main()
