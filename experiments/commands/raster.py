"""One sample on its way through a network and its error on the way back, as a raster plot.

The values are the oracle's own, placed at the time steps at which every engine sends them
(`wage_neuro.train`); no simulator is needed to draw them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.records.figure import picture
from experiments.records.style import EDGE, INK, MUTED, SILENT, error_colours, value_colours
from wage_neuro import layers
from wage_neuro.control import LayerControl
from wage_neuro.learner import LayerLearner, Site
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.schedule import Schedule
from wage_neuro.train import State, visible_weights

ROWS = 300  # of a layer's band; a larger layer shows the strongest of several neurons in a row
MAX_NAMES = 20  # outputs that are named beside their band


@dataclass(frozen=True)
class Volley:
    """The graded spikes that one layer sends in one time step.

    Attributes
    ----------
    step : int
        Time steps since the sample entered.
    band : int
        0 the input, i + 1 the neurons of weight layer i.
    values : (*shape) integers, 0 where there is no spike: activation codes, or error codes
    is_error : bool
    """

    step: int
    band: int
    values: np.ndarray
    is_error: bool


@dataclass(frozen=True)
class Activity:
    """Everything that one sample sets off, and what the network answers.

    no_error : why no error comes back, where none does
    """

    network: Network
    image: np.ndarray
    label: int
    logits: np.ndarray
    volleys: tuple[Volley, ...]
    no_error: str = ""

    @property
    def steps(self) -> int:
        return max(volley.step for volley in self.volleys) + 1

    def to_json(self) -> dict[str, Any]:
        """Everything that is drawn."""
        network = self.network
        return {
            "network": str(network),
            "input_shape": network.input_shape,
            "bits": str(network.bits),
            "signed_input": network.signed_input,
            "image": self.image.tolist(),
            "label": self.label,
            "logits": self.logits.tolist(),
            "no_error": self.no_error,
            "volleys": [{**vars(volley), "values": volley.values.tolist()} for volley in self.volleys],
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Activity:
        """Build what `to_json` returned."""
        shape = tuple(kept["input_shape"])
        network = Network.parse(kept["network"], shape, bits=kept["bits"], signed_input=kept["signed_input"])
        volleys = tuple(Volley(**{**v, "values": np.array(v["values"])}) for v in kept["volleys"])
        image = np.array(kept["image"], np.uint8)
        return cls(network, image, kept["label"], np.array(kept["logits"]), volleys, kept["no_error"])


def record(network: Network, state: State, rules: Rules, image: np.ndarray, label: int) -> Activity:
    """Send one uint8 image through the network and its error back; nothing is learned.

    Shift takes the exponents that the state holds, or, where none is held, those of this sample alone.
    """
    L, V = len(network.layers), visible_weights(network, state)
    a = network.encode(image[None])
    volleys, kept = [Volley(0, 0, a[0], False)], []
    for layer in network.layers:
        a, keep = layers.forward(layer, V[layer.index], a.reshape(1, *layer.in_shape))
        kept.append(keep)
        shown = a[0] if not layer.is_last else np.maximum(a[0] >> layer.z_shift, 0)
        volleys.append(Volley(layer.index + 1, layer.index + 1, shown, False))
    logits = a[0]
    message = layers.output_error(network.layers[-1], a, np.array([label]), rules)
    reasons = ("every output\nis at its target", "the right output\nleads by the margin")
    no_error = "" if message.any() else reasons[rules.margin > 0]
    schedule, frozen = Schedule(L, 1, rules.feedback == "direct"), LayerControl(None, rules.hold)
    for layer in reversed(network.layers):
        i, classes = layer.index, network.classes
        learner = LayerLearner(Site(layer, classes, rules, state.seed), state.layers[i])
        sent = learner.error(message, kept[i], frozen, state.step)
        assert learner.E is not None
        volleys.append(Volley(schedule.error_delay(i), i + 1, learner.E[0], True))
        message = message if sent is None else sent
    if not no_error and not any(volley.values.any() for volley in volleys if volley.is_error):
        no_error = "no exponent\nis held yet"
    return Activity(network, image, label, logits, tuple(volleys), no_error)


def draw(path: Path, activity: Activity, title: str) -> None:
    """Draw the raster: time steps on x, neurons by layer on y, graded spikes coloured by value."""
    network = activity.network
    bands = len(network.layers) + 1
    with picture(path, 4.2 + 0.85 * activity.steps, 1.6 + 1.35 * bands) as figure:
        grid = figure.add_gridspec(bands, 2, width_ratios=(1.5, 0.85 * activity.steps))
        _draw_image(figure.add_subplot(grid[-1, 0]), activity)
        axes = figure.add_subplot(grid[:, 1])
        axes.grid(False)
        drawn = {volley.is_error: _draw_volley(axes, volley, network) for volley in activity.volleys}
        _label(axes, activity)
        figure.colorbar(drawn[False], ax=axes, label="activation code", aspect=30, pad=0.01)
        figure.colorbar(drawn[True], ax=axes, label="error code", aspect=30, pad=0.02)
        figure.suptitle(title)


def _draw_volley(axes: Any, volley: Volley, network: Network) -> Any:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Rectangle

    low, high = (-network.bits.error_max, network.bits.error_max) if volley.is_error else (
        1, network.bits.activation_max
    )  # fmt: skip
    colours = ListedColormap(error_colours() if volley.is_error else value_colours())
    corner = volley.step - 0.42, volley.band - 0.42
    image = axes.imshow(
        np.ma.masked_equal(_rows(volley.values)[:, None].astype(float), 0),
        extent=(corner[0], corner[0] + 0.84, corner[1], corner[1] + 0.84),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap=colours.with_extremes(bad=SILENT),
        vmin=low,
        vmax=high,
    )
    axes.add_patch(Rectangle(corner, 0.84, 0.84, fill=False, edgecolor=EDGE, linewidth=0.8))
    spikes = f"{np.count_nonzero(volley.values):,}"
    place = volley.step, volley.band + 0.43
    axes.annotate(spikes, place, ha="center", va="bottom", fontsize=7, color=MUTED)
    return image


def _rows(values: np.ndarray) -> np.ndarray:
    """Neurons in one column, feature map after feature map; at most ROWS, each the strongest of its group."""
    flat = np.moveaxis(values, -1, 0).ravel().astype(int)
    size = -(-len(flat) // ROWS)
    groups = np.pad(flat, (0, -len(flat) % size)).reshape(-1, size)
    return groups[np.arange(len(groups)), np.abs(groups).argmax(axis=1)]


def _draw_image(axes: Any, activity: Activity) -> None:
    image = activity.image if activity.image.ndim == 3 else activity.image[..., None]
    if image.ndim == 3 and min(image.shape[:2]) > 1:
        axes.imshow(image[..., 0] if image.shape[-1] != 3 else image, cmap="gray_r", interpolation="nearest")
    axes.grid(False)
    answer = int(activity.logits.argmax())
    axes.set_title(f"label {activity.label}\nanswer {answer}", fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _label(axes: Any, activity: Activity) -> None:
    network, L = activity.network, len(activity.network.layers)
    names = [f"input\n{int(np.prod(network.input_shape)):,} neurons"]
    names += [f"{layer}\n{int(np.prod(layer.out_shape)):,} neurons" for layer in network.layers]
    axes.set_yticks(range(L + 1), names)
    axes.set_xticks(range(activity.steps))
    axes.set_xlim(-0.6, activity.steps - 0.4)
    axes.set_ylim(-0.6, L + 0.75)
    axes.axvline(L + 0.5, color=MUTED, linestyle=":", linewidth=1)
    for c in range(network.classes if network.classes <= MAX_NAMES else 0):
        height = L - 0.42 + 0.84 * (c + 0.5) / network.classes
        axes.text(L - 0.5, height, str(c), ha="center", va="center", fontsize=6, color=INK)
    style = {"ha": "center", "va": "top", "fontsize": 9, "color": INK}
    top = axes.get_xaxis_transform()
    axes.text(L / 2, 0.995, "activations, forward", transform=top, **style)
    axes.text((3 * L + 1) / 2, 0.995, "errors, back", transform=top, **style)
    if activity.no_error:
        text = f"no error:\n{activity.no_error}"
        axes.text((3 * L + 1) / 2, 0.25, text, transform=top, **{**style, "va": "center"})
    axes.set_xlabel("time step (above each layer: spikes that it sends; white: silent neurons)")
