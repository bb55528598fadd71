"""RingBuffer -> two learning layers -> loss -> Monitor, on digits: the numpy engine's weights, bit for bit.

Every Process but the layers and the loss is Lava's own. One digit enters a time step.
"""

from dataclasses import replace

import numpy as np

import processes  # isort: skip  # noqa: F401  (before Lava)
from lava.proc.io.source import RingBuffer
from lava.proc.monitor.process import Monitor

from experiments import datasets
from mappings.engines.lava.graph import Graph
from processes.alone import ONLINE, Stream
from processes.dense.process import WageDense
from processes.loss.process import Loss
from wage_neuro import Network, NumpyEngine

HIDDEN, LAYERS = 32, 2
DRAIN = 2 * LAYERS  # time steps until the last error has come through


def main() -> None:
    data = datasets.load("digits")
    images, labels = data.train_images, data.train_labels
    n, network = len(images), Network.parse(f"{HIDDEN}", (8, 8, 1), classes=10)
    codes = np.zeros((64, n + DRAIN), int)
    codes[:, :n] = network.encode(images).reshape(n, -1).T
    targets = np.zeros((10, n + DRAIN), int)
    targets[labels, np.arange(n)] = 1

    source, right = RingBuffer(data=codes), RingBuffer(data=targets)
    first = WageDense((64, HIDDEN), clock=Stream(delay=4))
    last = WageDense((HIDDEN, 10), last=True, index=1, clock=Stream(delay=2, start=1))
    loss, monitor = Loss((HIDDEN, 10), delay=LAYERS), Monitor()
    source.s_out.connect(first.a_in)
    first.a_out.connect(last.a_in)
    last.z_out.connect(loss.z_in)
    right.s_out.connect(loss.y_in)
    loss.e_out.connect(last.e_in)
    last.e_out.connect(first.e_in)
    monitor.probe(loss.answer_out, n + DRAIN)

    with Graph(source) as graph:
        graph.run(n + DRAIN)
        learned = graph.ask(lambda: [layer.learned()["S"] for layer in (first, last)])
        answers = graph.ask(monitor.get_data)["loss"]["answer_out"].ravel()[LAYERS + 1 :][:n]

    engine = NumpyEngine(network, replace(ONLINE, batch=n))
    engine.train(images, labels, 3)
    same = all(np.array_equal(a, b) for a, b in zip(learned, engine.state.S, strict=True))
    late = slice(n * 3 // 4, n)
    print(f"answered right while it learned, last quarter: {100 * (answers == labels)[late].mean():.1f} %")
    print(f"every stored weight equal to the numpy engine's: {same}")


if __name__ == "__main__":
    main()
