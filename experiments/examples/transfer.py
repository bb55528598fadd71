"""Does what was learned of five digits help with the other five? A new output layer on frozen features.

`wage-neuro transfer RUN --data NAME` compares this with learning all layers, and with a network from scratch.
"""

import numpy as np

from experiments import datasets
from wage_neuro import Control, Network, NumpyEngine, Rules, fit, initial_state

RULES = Rules(batch=1, shift="held", update="ternary", loss="one-sided", margin=3)


def main() -> None:
    low, high = datasets.load("digits:0-4"), datasets.load("digits:5-9")
    network = Network.parse("128FC", (8, 8, 1), classes=5)
    with NumpyEngine(network, Rules(batch=32), seed=0) as engine:
        fit(engine, low.train_images, low.train_labels, epochs=6)
        features = engine.state.S[0]
    few = np.concatenate([np.flatnonzero(high.train_labels == label)[:10] for label in range(5)])
    order = np.random.default_rng(0).permutation(np.tile(few, 20))
    fresh = initial_state(network, seed=1)
    for name, state in {
        "features of 0-4": fresh.having(S=(features, *fresh.S[1:])),
        "random features": fresh,
    }.items():
        with NumpyEngine(network, RULES, state=state) as engine:
            only_the_last = Control(log2_eta=(None, 3))
            engine.train(high.train_images[order], high.train_labels[order], only_the_last)
            right = engine.predict(high.test_images).argmax(axis=1) == high.test_labels
            print(f"{name}: {100 * right.mean():.1f} % of the digits 5 to 9 from 10 examples each")


if __name__ == "__main__":
    main()
