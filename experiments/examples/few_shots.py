"""New classes from five images each, on the features of a network that has learned others."""

from pathlib import Path

import numpy as np

from experiments import datasets
from experiments.continual.bridges import learn_stream
from experiments.continual.features import features_data, write
from experiments.continual.learner import Learner
from experiments.continual.metrics import final_accuracy
from experiments.continual.settings import Learning
from experiments.continual.streams import Stream, tasks_of
from wage_neuro import Network, NumpyEngine, Rules
from wage_neuro.checkpoint import Checkpoint

SHOTS = 5


def main() -> None:
    known = datasets.load("digits:0-4")
    network = Network.parse("16C3-MP2-64FC", (8, 8, 1), classes=5)
    with NumpyEngine(network, Rules(batch=16)) as engine:
        for _ in range(5):
            engine.train(known.train_images, known.train_labels, log2_eta=3, last="drop")
        right = engine.predict(known.test_images).argmax(axis=1) == known.test_labels
        print(f"digits 0-4: {100 * right.mean():.1f} % of new images")
        saved = Checkpoint(network, engine.rules, engine.state)

    write(Path("features.npz"), features_data(saved, datasets.load("digits:5-9")))
    tasks = [task.few(SHOTS, seed=0) for task in tasks_of("split-features.npz", tasks=5)]
    stream = Stream(tuple(tasks), "class", passes=1)
    images = tasks[0].data.train_images
    settings = Learning(method="prototypes", memory=100, network="F")
    with Learner.start(settings, images.shape[1:], stream.outputs, "numpy") as learner:
        R = learn_stream(learner, stream)
    print(f"digits 5-9, one after the other, {SHOTS} images each: {100 * final_accuracy(R):.1f} %")
    print(f"{learner.memory_bytes:,} bytes of memory, of {np.prod(images.shape[1:])} features a sample")


if __name__ == "__main__":
    main()
