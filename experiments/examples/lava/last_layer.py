"""A frozen ternary network between a stock encoder and a LIF; only its last layer learns, while it runs.

The network has learned the digits 0 to 4. In the graph its last layer is replaced by a new one, which learns
all ten. Lava's Delta and Sigma encode and decode the images, its LIF spikes for the answer.
"""

import numpy as np

import processes  # isort: skip  # noqa: F401  (before Lava)
from lava.proc.io.source import RingBuffer
from lava.proc.lif.process import LIF
from lava.proc.monitor.process import Monitor
from lava.proc.sdn.process import Delta, Sigma

from experiments import datasets
from mappings.engines.lava.graph import Graph
from processes.alone import Stream
from processes.dense.process import WageDense
from processes.frozen.process import FrozenDense
from processes.loss.process import Loss
from wage_neuro import Network, NumpyEngine, Rules
from wage_neuro.layers import visible_weights

HIDDEN, TIMES = 128, 3  # TIMES: how often each image is seen
DRAIN = 4  # time steps until the last image has been answered and learned


def ternary_features(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(64, HIDDEN) ternary weights of a network that has learned five classes."""
    network = Network.parse(f"{HIDDEN}", (8, 8, 1), classes=5)
    engine = NumpyEngine(network, Rules(batch=1, shift="held", update="ternary", loss="one-sided", margin=3))
    for _ in range(5):
        engine.train(images, labels, 3)
    return visible_weights(network.layers[0], engine.state.S[0])


def main() -> None:
    data = datasets.load("digits")
    images, labels, old = data.train_images, data.train_labels, data.train_labels < 5
    weights = ternary_features(images[old], labels[old])
    encode = Network.parse("1", (8, 8, 1), classes=10).encode
    train, test = (encode(x).reshape(len(x), -1) for x in (images, data.test_images))
    codes, known = np.concatenate([*[train] * TIMES, test]), np.concatenate([labels] * TIMES)
    n, learning = len(codes), len(known)
    stream, targets = np.zeros((64, n + DRAIN), int), np.full((1, n + DRAIN), -1)
    stream[:, :n] = codes.T
    targets[0, :learning] = known  # the test images have none

    source, right = RingBuffer(data=stream), RingBuffer(data=targets)
    encoder, decoder = Delta(shape=(64,), vth=0), Sigma(shape=(64,))
    frozen = FrozenDense(weights)
    last = WageDense((HIDDEN, 10), last=True, index=1, clock=Stream(delay=2, start=1))
    loss = Loss((HIDDEN, 10), delay=2, targets="labels")
    threshold = last.proc_params["layer"].target // 4
    neurons, spikes = LIF(shape=(10,), vth=threshold, du=4095, dv=4095), Monitor()
    source.s_out.connect(encoder.a_in)
    encoder.s_out.connect(decoder.a_in)
    decoder.s_out.connect(frozen.a_in)
    frozen.a_out.connect(last.a_in)
    last.z_out.connect([loss.z_in, neurons.a_in])
    right.s_out.connect(loss.y_in)
    loss.e_out.connect(last.e_in)
    spikes.probe(neurons.s_out, n + DRAIN)

    with Graph(source) as graph:
        graph.run(learning + DRAIN)
        graph.ask(lambda: last.learning.set(np.array([0])))
        graph.run(n - learning)
        seen, hits = (int(v) for v in graph.ask(lambda: [loss.seen.get()[0], loss.right.get()[0]]))
        fired = next(iter(graph.ask(spikes.get_data).values()))["s_out"][2 : n + 2]
    tested = fired[learning:].astype(bool)
    right_one = tested[np.arange(len(tested)), data.test_labels]
    alone = right_one & (tested.sum(axis=1) == 1)
    print(f"answered right while it learned: {100 * hits / seen:.1f} % of {seen} images")
    print(f"new images for which the right LIF spikes: {100 * right_one.mean():.1f} %,")
    print(f"and no other does: {100 * alone.mean():.1f} %")


if __name__ == "__main__":
    main()
