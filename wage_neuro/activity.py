"""Activity: what the layers of a network do, counted while it runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wage_neuro.errors import SettingError
from wage_neuro.kernels import numpy_kernels as kernels
from wage_neuro.layers import Kept, Layer, _unpool
from wage_neuro.specs import Dense

FIELDS = {
    "inputs": "activations other than 0 that arrive: graded spikes",
    "spikes": "activations other than 0 that leave; of the last layer, its logits",
    "synaptic_operations": "a spike meets a synapse of the forward path",
    "errors": "error codes other than 0",
    "error_operations": "an error spike meets a synapse of the feedback path",
    "learning_operations": "a pre and a post factor other than 0 meet at a synapse",
    "updates": "stored weights that change",
}
"""What is counted of each layer."""

_PLACE = {name: place for place, name in enumerate(FIELDS)}


@dataclass(frozen=True)
class Activity:
    """Counts of some samples.

    Attributes
    ----------
    samples : int
    counts : (layers, fields) int64
    """

    samples: int
    counts: np.ndarray

    def a_sample(self, field: str) -> list[float]:
        """Mean of one field a sample, of each layer."""
        return (self.counts[:, _PLACE[field]] / max(1, self.samples)).tolist()

    def to_json(self) -> dict[str, list[float]]:
        """Every field a sample, of each layer."""
        return {field: [round(value, 3) for value in self.a_sample(field)] for field in FIELDS}


class Watch:
    """Counts every `every`-th update step, none if 0.

    Attributes
    ----------
    samples, counts : as `Activity`
    """

    def __init__(self, layers: int, every: int) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 0:
            raise SettingError(f"watch every={every!r}: want a whole number >= 0; 0 counts nothing")
        self.every, self.samples = every, 0
        self.counts = np.zeros((layers, len(FIELDS)), np.int64)

    def wants(self, step: int) -> bool:
        """Whether an update step is counted."""
        return bool(self.every) and step % self.every == 0

    def take(self) -> Activity:
        """Return what was counted, and count from 0 again."""
        activity = Activity(self.samples, self.counts)
        self.samples, self.counts = 0, np.zeros_like(self.counts)
        return activity


def count_forward(counts: np.ndarray, layer: Layer, a_in: np.ndarray, out: np.ndarray) -> None:
    """Add a forward pass of some samples to the (fields,) counts of a layer."""
    counts[_PLACE["inputs"]] += np.count_nonzero(a_in)
    counts[_PLACE["spikes"]] += np.count_nonzero(out)
    counts[_PLACE["synaptic_operations"]] += (
        int(_inputs_of_places(layer, a_in).sum()) * layer.weight_shape[-1]
    )


def count_error(
    counts: np.ndarray, layer: Layer, kept: Kept, E: np.ndarray, factors: tuple[np.ndarray, np.ndarray] | None
) -> None:
    """Add an error that passed a layer; `factors` are the (pre, post) its weights learn from, if they do."""
    counts[_PLACE["errors"]] += np.count_nonzero(E)
    if factors:
        pre, post = factors
        pairs = _inputs_of_places(layer, pre) * _errors_of_places(layer, kept, post)
        counts[_PLACE["learning_operations"]] += int(pairs.sum())


def count_feedback(counts: np.ndarray, layer: Layer, kept: Kept, E: np.ndarray) -> None:
    """Add an error that goes back through a layer's own weights, or fixed ones in their place."""
    inside = _inputs_of_places(layer, np.ones((1, *layer.in_shape), np.int8))  # taps that padding leaves
    counts[_PLACE["error_operations"]] += int((_errors_of_places(layer, kept, E) * inside).sum())


def count_direct_feedback(counts: np.ndarray, layer: Layer, message: np.ndarray) -> None:
    """Add the operations of the last layer's error that arrives at every output of this one."""
    counts[_PLACE["error_operations"]] += np.count_nonzero(message) * int(np.prod(layer.out_shape))


def count_updates(counts: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
    """Add the stored weights that an update changed."""
    if before is not after:
        counts[_PLACE["updates"]] += np.count_nonzero(before != after)


def _inputs_of_places(layer: Layer, a: np.ndarray) -> np.ndarray:
    """(n, positions) inputs other than 0 that each place of Z sums up."""
    active = (a != 0).reshape(len(a), *layer.in_shape)
    if isinstance(layer.spec, Dense):
        return active.sum(axis=1, keepdims=True)
    planes = active.sum(axis=3, keepdims=True)  # of a place's channels, all or none are in its window
    padded = kernels.pad_images(planes, layer.padding, np.float64, "padded")
    rows = kernels.patches(padded, layer.spec.kernel, layer.spec.stride, layer.z_shape[:2], "patches")
    return rows.sum(axis=1).astype(np.int64).reshape(len(a), -1)


def _errors_of_places(layer: Layer, kept: Kept, E: np.ndarray) -> np.ndarray:
    """(n, positions) errors other than 0 at each place of Z; where pooling windows overlap, their sum."""
    E_z = _unpool(layer, kept, E.reshape(len(E), *layer.out_shape))
    return (E_z != 0).reshape(len(E), -1, layer.weight_shape[-1]).sum(axis=2)
