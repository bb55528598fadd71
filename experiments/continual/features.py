"""What a trained network's layers make of images, as a data set of its own: the features that stay frozen."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.datasets import Dataset
from experiments.runs.training import load_for
from wage_neuro import layers
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import NetworkError
from wage_neuro.files import written_whole
from wage_neuro.network import Network
from wage_neuro.train import visible_weights

CODES_BITS = 8
"""Of an activation at most, so that a grey level can stand for it."""
PART = 250


def features_of(saved: Checkpoint, images: np.ndarray) -> np.ndarray:
    """Activations before the last layer, as images whose input codes they are.

    Parameters
    ----------
    saved : a network of k_A <= 8 bits and two layers at least
    images : (n, ...) uint8, of its input's form

    Returns
    -------
    (n, 1, features, 1) uint8 grey levels. A network with unsigned input of as many bits (k_A) encodes them to
    the codes.

    Raises
    ------
    NetworkError
        If the network has one layer alone, or wider activations.
    """
    network = saved.network
    if len(network.layers) < 2:
        raise NetworkError(
            f"{network}: one layer; want one below it at least, whose activations are features"
        )
    if network.bits.k_A > CODES_BITS:
        raise NetworkError(f"k_A={network.bits.k_A}: want activations of {CODES_BITS} bits at most")
    V, parts = visible_weights(network, saved.state), []
    for first in range(0, len(images), PART):
        a = network.encode(np.asarray(images[first : first + PART]))
        for layer in network.layers[:-1]:
            a, _ = layers.forward(layer, V[layer.index], a.reshape(len(a), *layer.in_shape))
        parts.append(a.reshape(len(a), -1))
    return _levels(network)[np.concatenate(parts)][:, np.newaxis, :, np.newaxis]


def _levels(network: Network) -> np.ndarray:
    """The least grey level of each code, of a network with unsigned input."""
    codes = Network.parse("F", (1, 1, 1), 2, str(network.bits)).input_codes
    return np.searchsorted(codes, np.arange(int(codes.max()) + 1)).astype(np.uint8)


def features_data(saved: Checkpoint, data: Dataset) -> Dataset:
    """Features of all images of a data set, with its labels."""
    train, test = (features_of(saved, images) for images in (data.train_images, data.test_images))
    name = f"features of {data.name}"
    return Dataset(name, train, data.train_labels, test, data.test_labels, data.classes, signed=False)


def write(path: Path, data: Dataset) -> None:
    """Write a data set as an .npz that `npz.read` reads."""
    with written_whole(path) as file:
        np.savez_compressed(
            file,
            train_images=data.train_images,
            train_labels=data.train_labels,
            test_images=data.test_images,
            test_labels=data.test_labels,
            signed=np.array(data.signed),
        )


def features_file(saved: Checkpoint, name: str, path: Path, data_dir: Path | None = None) -> Dataset:
    """Write the features of a data set by its name; the images may be of other classes than it learned."""
    found = features_data(saved, load_for(saved, name, data_dir))
    write(path, found)
    return found
