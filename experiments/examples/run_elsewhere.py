"""A trained network leaves the house: two bits a weight in a file, read and run by numpy alone.

`wage-neuro export RUN --to onnx` (nir, netx, c ...) writes what other tools read without a line of code.
"""

from pathlib import Path

import numpy as np

import wage_neuro
from experiments import datasets
from mappings.formats import packed
from mappings.formats.inference import Inference
from wage_neuro import Network, NumpyEngine, Rules


def answer(layers: list[tuple[np.ndarray, int]], a: np.ndarray) -> np.ndarray:
    """All that a chip would do: products with -1, 0 and 1, a shift that rounds halves to even, a clip."""
    for V, shift in layers[:-1]:
        z = a @ V
        a = np.clip(np.rint(z / 2**shift), 0, 127).astype(np.int32)
    return a @ layers[-1][0]


def main() -> None:
    data = datasets.load("digits")
    network = Network.parse("64FC-32FC", (8, 8, 1), classes=10)
    with NumpyEngine(network, Rules(batch=32), seed=0) as engine:
        wage_neuro.fit(engine, data.train_images, data.train_labels, epochs=5)
        saved = wage_neuro.checkpoint.Checkpoint(network, engine.rules, engine.state)
        ours = engine.predict(data.test_images)
    packed.write(Path("digits.wage2"), Inference.of(saved))
    read = packed.read(Path("digits.wage2")).checkpoint()
    layers = [
        (V.astype(np.int32), layer.z_shift)
        for V, layer in zip(wage_neuro.Trained(read).V, read.network.layers, strict=True)
    ]
    codes = read.network.encode(data.test_images).reshape(len(data.test_images), -1).astype(np.int32)
    theirs = answer(layers, codes)
    size, same = Path("digits.wage2").stat().st_size, np.array_equal(ours, theirs)
    print(f"digits.wage2: {size:,} bytes for {network.n_weights:,} weights; every logit equal: {same}")


if __name__ == "__main__":
    main()
