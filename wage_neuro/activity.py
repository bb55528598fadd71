"""Activity: what the layers of a network do, counted while it runs.

Operations are counted as NeuroBench does: an effective one has a spike and a weight that are not 0. Beside it
stands how many stored synapses the spikes reach, weights of 0 too: what a chip reads that must keep them, as
they may learn. Source: Yik et al., arXiv:2304.04640.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wage_neuro.errors import SettingError
from wage_neuro.layers import Kept, Layer, spread_errors
from wage_neuro.specs import Conv, Dense, assert_never
from wage_neuro.team import ALONE, Team

FIELDS = {
    "inputs": "activations other than 0 that arrive: graded spikes",
    "spikes": "activations other than 0 that leave; of the last layer, its logits",
    "synaptic_operations": "a spike meets a weight other than 0 of the forward path",
    "synapses_reached": "a spike meets a synapse of the forward path, also one of weight 0",
    "errors": "error codes other than 0",
    "error_operations": "an error spike meets a weight other than 0 of the feedback path",
    "error_synapses_reached": "an error spike meets a synapse of the feedback path, also one of weight 0",
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

    def take(self, team: Team = ALONE) -> Activity:
        """Return what was counted, by all members of a team, and count from 0 again."""
        samples, counts = team.total([self.samples]), team.total(self.counts)
        activity = Activity(int(samples[0]), counts)
        self.samples, self.counts = 0, np.zeros_like(self.counts)
        return activity


def count_forward(counts: np.ndarray, layer: Layer, V: np.ndarray, a_in: np.ndarray, out: np.ndarray) -> None:
    """Add a forward pass of some samples through the visible weights V to the (fields,) counts of a layer."""
    count_inputs(counts, layer, V, a_in)
    count_spikes(counts, out)


def count_inputs(counts: np.ndarray, layer: Layer, V: np.ndarray, a_in: np.ndarray) -> None:
    """Add the activations that arrive at a layer, and the synapses of V, (fan_in, n_out), that they reach."""
    active = (a_in != 0).reshape(len(a_in), *layer.in_shape).sum(axis=0)
    counts[_PLACE["inputs"]] += active.sum()
    _add(counts, "synaptic_operations", "synapses_reached", _windows(layer, active[None]).sum(axis=(0, 1)), V)


def count_dense_inputs(counts: np.ndarray, W: np.ndarray, x: np.ndarray) -> None:
    """Add (n, n_in) values that arrive where each meets all synapses of its row of W, (n_in, n_out)."""
    met = (x != 0).sum(axis=0)
    counts[_PLACE["inputs"]] += met.sum()
    _add(counts, "synaptic_operations", "synapses_reached", met, W)


def count_spikes(counts: np.ndarray, out: np.ndarray) -> None:
    """Add the activations that leave a layer."""
    counts[_PLACE["spikes"]] += np.count_nonzero(out)


def count_error(
    counts: np.ndarray, layer: Layer, kept: Kept, E: np.ndarray, factors: tuple[np.ndarray, np.ndarray] | None
) -> None:
    """Add an error that passed a layer; `factors` are the (pre, post) its weights learn from, if they do."""
    counts[_PLACE["errors"]] += np.count_nonzero(E)
    if factors:
        pre, post = factors
        active = (pre != 0).reshape(len(pre), *layer.in_shape)
        if len(layer.in_shape) == 3:
            active = active.sum(axis=3, keepdims=True)  # of a place's channels, all or none are in its window
        inputs, errors = _windows(layer, active).sum(axis=2), _errors_of_places(layer, kept, post).sum(axis=2)
        counts[_PLACE["learning_operations"]] += int((inputs * errors).sum())


def count_feedback(counts: np.ndarray, layer: Layer, W_back: np.ndarray, kept: Kept, E: np.ndarray) -> None:
    """Add an error that goes back through a layer's own weights, or fixed ones in their place."""
    errors = _errors_of_places(layer, kept, E).sum(axis=0)
    inside = np.ones((1, *layer.in_shape), np.int8)  # taps that padding leaves
    met = _windows(layer, inside)[0].T.astype(np.int64) @ errors
    _add(counts, "error_operations", "error_synapses_reached", met, W_back)


def count_direct_feedback(counts: np.ndarray, B: np.ndarray, message: np.ndarray) -> None:
    """Add the operations of the last layer's error that arrives at a layer through B, (classes, n_out)."""
    met = (message != 0).reshape(len(message), -1).sum(axis=0)
    _add(counts, "error_operations", "error_synapses_reached", met, B)


def count_updates(counts: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
    """Add the stored weights that an update changed."""
    if before is not after:
        counts[_PLACE["updates"]] += np.count_nonzero(before != after)


def _add(counts: np.ndarray, effective: str, reached: str, met: np.ndarray, W: np.ndarray) -> None:
    """Add the spikes that (n_in,) rows or (n_in, n_out) synapses of W, (n_in, n_out), met."""
    each = met if met.ndim == 2 else np.broadcast_to(met[:, None], W.shape)
    counts[_PLACE[reached]] += int(each.sum())
    counts[_PLACE[effective]] += int(each.sum(where=W != 0))


def _windows(layer: Layer, values: np.ndarray) -> np.ndarray:
    """(n, positions, fan_in) of (n, *in_shape) values, or of one channel of them: what places of Z sum up."""
    match layer.spec:
        case Dense():
            return values[:, None]
        case Conv(kernel=size, stride=step):
            top, bottom, left, right = layer.padding
            padded = np.pad(values, ((0, 0), (top, bottom), (left, right), (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, (1, size, size, 1))
            windows = windows[:, ::step, ::step, :, 0, :, :, 0].transpose(0, 1, 2, 4, 5, 3)  # channels last
            return windows.reshape(len(values), layer.positions, -1)
        case _:
            assert_never(layer.spec)


def _errors_of_places(layer: Layer, kept: Kept, E: np.ndarray) -> np.ndarray:
    """(n, positions, n_out) where errors at places of Z are not 0; those of overlapping windows add up."""
    E_z = spread_errors(layer, kept, E.reshape(len(E), *layer.out_shape))
    return (E_z != 0).reshape(len(E), layer.positions, layer.weight_shape[-1])
