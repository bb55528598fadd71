"""Images and labels of your own, learned inside the Lava simulator.

Grey levels are uint8, labels whole numbers from 0; `wage-neuro train --data mine.npz` reads both from a file.
"""

import numpy as np

from mappings.engines.lava.engine import LavaEngine
from wage_neuro import Network, Rules, fit


def bars(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images of 8 x 8, each with one bright row: its label."""
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 120, (n, 8, 8, 1)).astype(np.uint8), rng.integers(0, 8, n)
    images[np.arange(n), labels] = 255
    return images, labels


def main() -> None:
    images, labels = bars(512, seed=0)
    test = bars(100, seed=1)
    network = Network.parse("32FC", images.shape[1:], classes=8)
    with LavaEngine(network, Rules(batch=32), seed=0) as engine:
        fit(engine, images, labels, epochs=6, eta="8, 1@4")
        right = engine.predict(test[0]).argmax(axis=1) == test[1]
    print(f"{network}: {100 * right.mean():.0f} % of new images, learned inside Lava")


if __name__ == "__main__":
    main()
