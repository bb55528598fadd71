"""An event stream that learns online: the events of a moving camera, a frame a digit, one digit a time step.

Events come from a file, an `.npz` of x, y, t and polarity; here it is made of digits (or of MNIST, when its
name is given) by the saccades of N-MNIST. A frame counts events, or with --surfaces tells how fresh they are.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import processes  # isort: skip  # noqa: F401  (before Lava)
from lava.proc.io.source import RingBuffer

from experiments import datasets
from experiments.datasets.events import STEP_US, Events, counted, seen_by_saccades, time_surfaces
from mappings.engines.lava.graph import Graph
from processes.alone import Stream
from processes.dense.process import WageDense
from processes.loss.process import Loss

HIDDEN, TIMES, DRAIN, GAIN = 64, 3, 4, 100  # GAIN: code of one event


def frames_of(path: Path, shape: tuple[int, int], surfaces: bool) -> tuple[np.ndarray, np.ndarray]:
    """(m, h * w * 2) activation codes of 8 bits, and labels."""
    events = Events.load(path)
    frames = time_surfaces(events, shape, STEP_US) if surfaces else counted(events, shape) * GAIN
    return np.minimum(frames, 127).reshape(len(frames), -1), events.label


def main(name: str = "digits", surfaces: bool = False, most: int = 10_000) -> None:
    data = datasets.load(name)
    shape = data.train_images.shape[1:3]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.npz"
        seen_by_saccades(data.train_images[:most], data.train_labels[:most]).save(path)
        frames, labels = frames_of(path, shape, surfaces)
    frames, labels = np.concatenate([frames] * TIMES), np.concatenate([labels] * TIMES)
    n, n_in = frames.shape
    stream, targets = np.zeros((n_in, n + DRAIN), int), np.full((1, n + DRAIN), -1)
    stream[:, :n], targets[0, :n] = frames.T, labels

    source, right = RingBuffer(data=stream), RingBuffer(data=targets)
    first = WageDense((n_in, HIDDEN), clock=Stream(delay=4))
    last = WageDense((HIDDEN, 10), last=True, index=1, clock=Stream(delay=2, start=1))
    loss = Loss((HIDDEN, 10), delay=2, targets="labels")
    source.s_out.connect(first.a_in)
    first.a_out.connect(last.a_in)
    last.z_out.connect(loss.z_in)
    right.s_out.connect(loss.y_in)
    loss.e_out.connect(last.e_in)
    last.e_out.connect(first.e_in)

    before = seen = 0
    with Graph(source) as graph:
        for part in range(TIMES):
            graph.run(n // TIMES + (DRAIN if part == TIMES - 1 else 0))
            seen, hits = (int(v) for v in graph.ask(lambda: [loss.seen.get()[0], loss.right.get()[0]]))
            share, before = 100 * (hits - before) * TIMES / n, hits
            print(
                f"after {seen} samples: {share:.1f} % of the last {n // TIMES} answered right before learned"
            )


if __name__ == "__main__":
    names = [word for word in sys.argv[1:] if word != "--surfaces"]
    main(names[0] if names else "digits", "--surfaces" in sys.argv)
