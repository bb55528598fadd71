"""WAGE in integers: ternary weights, 8-bit activations, gradients and errors, scaling by powers of two.

A network reads like the paper: hidden layers, a bit pattern, an engine.

>>> import numpy as np
>>> from wage_neuro import Network, NumpyEngine, Rules
>>> network = Network.parse("64FC", (4,), classes=2, bits="2888")
>>> images = np.array([[250, 250, 0, 0], [0, 0, 250, 250]] * 8, np.uint8)
>>> labels = np.array([0, 1] * 8)
>>> with NumpyEngine(network, Rules(batch=16), seed=0) as engine:
...     for _ in range(40):
...         logits = engine.train(images, labels, log2_eta=0)
...     print((engine.predict(images).argmax(axis=1) == labels).all())
True
"""

from wage_neuro.activity import Activity
from wage_neuro.bits import Bits
from wage_neuro.control import Control
from wage_neuro.engine import Engine, NumpyEngine
from wage_neuro.fitting import fit, save_best, stop_early
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.specs import AvgPool, Conv, Dense, Flatten, MaxPool
from wage_neuro.train import State, initial_state, predict, train_step
from wage_neuro.trained import Trained, load

__version__ = "0.2.0"
__all__ = [
    "Activity",
    "AvgPool",
    "Bits",
    "Control",
    "Conv",
    "Dense",
    "Engine",
    "Flatten",
    "MaxPool",
    "Network",
    "NumpyEngine",
    "Rules",
    "State",
    "Trained",
    "fit",
    "initial_state",
    "load",
    "predict",
    "save_best",
    "stop_early",
    "train_step",
]
