"""A continual method of your own: a memory with the same room for every class, beside the network.

Classes arrive two at a time, each image once. New samples are learned one by one, each with a recalled one.
"""

import numpy as np

from experiments.continual.streams import Stream, tasks_of
from wage_neuro import Network, NumpyEngine, Rules

ROOM = 20  # images of each class


class BalancedMemory:
    """The first images of each class, then some of them replaced at random."""

    def __init__(self) -> None:
        self.images: dict[int, list[np.ndarray]] = {}
        self.rng = np.random.default_rng(0)

    def keep(self, image: np.ndarray, label: int) -> None:
        mine = self.images.setdefault(label, [])
        if len(mine) < ROOM:
            mine.append(image)
        elif self.rng.random() < 0.2:
            mine[self.rng.integers(ROOM)] = image

    def recall(self) -> tuple[np.ndarray, int]:
        label = int(self.rng.choice(list(self.images)))
        return self.images[label][self.rng.integers(len(self.images[label]))], label


def learn(stream: Stream, memory: BalancedMemory | None) -> float:
    """Accuracy over all classes at the end of the stream."""
    network = Network.parse("128FC", (8, 8, 1), classes=10)
    rules = Rules(batch=1, shift="held", update="ternary", loss="one-sided", margin=3)
    images, labels = stream.samples(0, len(stream))
    with NumpyEngine(network, rules, seed=0) as engine:
        for image, label in zip(images, labels.tolist(), strict=True):
            x, y = [image], [label]
            if memory:
                memory.keep(image, label)
                recalled, its = memory.recall()
                x.append(recalled)
                y.append(its)
            engine.train(np.array(x), np.array(y), 2)
        return float(
            np.mean(
                [
                    (engine.predict(tested).argmax(axis=1) == outputs).mean()
                    for tested, outputs in (task.test_samples() for task in stream.tasks)
                ]
            )
        )


def main() -> None:
    stream = Stream(tasks_of("split-digits", "class", None, 0, 0), "class", 0, 1, 1)
    for name, memory in (("naive", None), (f"{ROOM} images a class", BalancedMemory())):
        print(f"{name}: {100 * learn(stream, memory):.1f} %")


if __name__ == "__main__":
    main()
