"""A continual method of your own: it keeps what the network answered wrong, and recalls that.

An entry point of your package in the group `wage_neuro.methods` makes it a `--method` of the command.
"""

import numpy as np

from experiments.continual.learner import Learner
from experiments.continual.methods import METHODS, Method, Samples
from experiments.continual.settings import Learning
from experiments.continual.streams import Stream, tasks_of
from wage_neuro import Network


class HardReplay(Method):
    """A reservoir of the images that were answered wrong."""

    what, needs, recalls = "recalls what was answered wrong", frozenset({"memory"}), True

    def __init__(self, settings: Learning, network: Network) -> None:
        super().__init__(settings, network)
        images = np.zeros((settings.memory, *network.input_shape), np.uint8)
        labels = np.zeros(settings.memory, np.int64)
        # saved with a run, and counted in its bytes
        self.held = {"images": images, "labels": labels, "wrong": np.zeros(1, np.int64)}

    def observe(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.image, self.label = images[0], labels[0]

    def recall(self, n: int) -> Samples:
        images, labels, wrong = self.held.values()
        self.rng = np.random.default_rng([self.settings.seed, wrong[0]])
        slots = self.rng.integers(max(1, min(wrong[0], len(labels))), size=n)
        return Samples(images[slots], labels[slots])

    def answered(self, logits: np.ndarray) -> None:
        images, labels, wrong = self.held.values()
        if logits[0].argmax() != self.label:
            slot = wrong[0] if wrong[0] < len(labels) else self.rng.integers(wrong[0] + 1)
            if slot < len(labels):
                images[slot], labels[slot] = self.image, self.label
            wrong += 1


def main() -> None:
    METHODS.add("hard-replay", HardReplay)
    stream = Stream(tasks_of("split-digits"), "class")
    tests = [task.test_samples() for task in stream.tasks]
    for method, memory, recalled in (("naive", 0, 1), ("hard-replay", 100, 3)):
        settings = Learning(method=method, memory=memory, recalled=recalled, network="128FC", eta="4")
        with Learner.start(settings, (8, 8, 1), stream.outputs, "numpy") as learner:
            learner.learn(*stream.samples(0, len(stream)))
            right = [(learner.predict(x).argmax(axis=1) == y).mean() for x, y in tests]
        print(f"{method}: {100 * np.mean(right):.1f} %")


if __name__ == "__main__":
    main()
