"""What there is to see of one image in a network: integers on their way up, the error on its way down.

Everything is JSON; arrays are {"shape", "data"}, bytes of little-endian int16, or of int8, in base64.
"""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from experiments.commands.raster import record
from wage_neuro.layers import Layer, visible_weights
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.specs import Conv, Dense, assert_never
from wage_neuro.state import State

CELLS = 1 << 13  # neurons of a layer that are sent to be drawn, at most
SYNAPSES = 1 << 14  # synapses of a layer
ROW = 512  # synapses in a row


def packed(values: np.ndarray, dtype: str = "<i2") -> dict[str, Any]:
    """An array as JSON.

    >>> packed(np.array([1, -2]))
    {'shape': [2], 'data': 'AQD+/w=='}
    """
    return {"shape": list(values.shape), "data": base64.b64encode(values.astype(dtype).tobytes()).decode()}


def seen(
    network: Network, state: State, rules: Rules, image: np.ndarray, label: int | None
) -> dict[str, Any]:
    """What an image sets off in the network, and with a label what its error does.

    Computed by the oracle from the weights of whatever engine holds the network: the bits are the engine's.
    """
    activity = record(network, state, rules, image, 0 if label is None else label)
    bands: list[dict[str, Any]] = [{"errors": None} for _ in range(len(network.layers) + 1)]
    for volley in activity.volleys:
        if volley.is_error and label is None:
            continue
        what = "errors" if volley.is_error else "values"
        bands[volley.band][what] = {
            "spikes": int(np.count_nonzero(volley.values)),
            "neurons": int(volley.values.size),
            **packed(_maps(volley.values)),
        }
    logits = activity.logits
    return {
        "answer": int(logits.argmax()),
        "logits": logits.tolist(),
        "target": network.layers[-1].target,
        "no_error": activity.no_error.replace("\n", " ") if label is not None else "",
        "bands": bands,
    }


def _maps(values: np.ndarray) -> np.ndarray:
    """Values as (maps, height, width), as many maps as are sent; a flat layer is one map, near a square."""
    if values.ndim == 3:
        maps = np.moveaxis(values, -1, 0)
        return maps[: max(1, CELLS // (maps.shape[1] * maps.shape[2]))]
    flat = values.reshape(-1)[:CELLS]
    width = next(w for w in range(math.isqrt(len(flat) - 1) + 1, len(flat) + 1) if len(flat) % w == 0)
    width = width if width <= 4 * len(flat) // width else math.isqrt(len(flat) - 1) + 1
    padded = np.zeros(-(-len(flat) // width) * width, flat.dtype)
    padded[: len(flat)] = flat
    return padded.reshape(1, -1, width)


def moved(network: Network, before: State, after: State) -> list[dict[str, Any]]:
    """Synapses of each layer: the visible weights of some neurons, and where stored ones have moved."""
    found = []
    for layer, old, new in zip(network.layers, before.S, after.S, strict=True):
        step = np.sign(new.astype(np.int32) - old)
        V = visible_weights(layer, new)
        flipped = 0 if old is new else int((visible_weights(layer, old) != V).sum())
        neurons = max(1, SYNAPSES // layer.fan_in)
        part = slice(0, neurons)
        found.append(
            {
                "up": int((step > 0).sum()),
                "down": int((step < 0).sum()),
                "flipped": flipped,
                "neurons": V.shape[1],
                "tile": list(_tile(network, layer)),
                "V": packed(V[:, part].T, "i1"),
                "step": packed(step.reshape(V.shape)[:, part].T, "i1"),
            }
        )
    return found


def _tile(network: Network, layer: Layer) -> tuple[int, int]:
    """Rows and columns in which the synapses of one neuron are drawn: as what they look at lies."""
    match layer.spec:
        case Dense():
            image = layer.index == 0 and len(network.input_shape) == 3
            rows = network.input_shape[0] if image else 1
            if layer.fan_in // rows > ROW:
                rows = max(n for n in range(1, math.isqrt(layer.fan_in) + 1) if layer.fan_in % n == 0)
            return rows, layer.fan_in // rows
        case Conv(kernel=kernel):
            return kernel, layer.fan_in // kernel
        case _:
            assert_never(layer.spec)
