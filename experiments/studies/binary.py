"""Binary against graded spikes: the same answers, what they cost in time steps and in spikes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.runs.training import Run
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.network import Network
from wage_neuro.train import State, predict

SLOTS = 16  # images side by side
Answer = Callable[[np.ndarray], tuple[np.ndarray, list[np.ndarray]]]


def measure(run: Run, images: int, report: Callable[[int], None] = lambda done: None) -> dict[str, Any]:
    """Answer the first test images with binary spikes in Brian2, in Lava, and with the integer network.

    report : called with the number of images answered

    Returns
    -------
    network, config of the run, images, same_logits (the integer network's), same_in_lava (logits and spikes,
    None without Lava), and two rows: kind of spikes, latency in time steps, spikes an image, those of the
    input and each hidden layer, accuracy

    Raises
    ------
    SettingError, EngineError
        If there are not so many images, or Brian2 is not installed.
    """
    if not 1 <= images <= len(run.data.test_labels):
        raise SettingError(f"images={images}: want 1..{len(run.data.test_labels)}")
    try:
        from mappings.binary_spikes.engine import BitSerial
    except ImportError as error:
        raise EngineError(f'{error}; binary spikes need Brian2: pip install "wage-neuro[brian2]"') from None
    report(0)
    network, state = run.network, run.saved.state
    x, labels = np.asarray(run.data.test_images[:images]), run.data.test_labels[:images]
    serial = BitSerial(network, state, min(SLOTS, images))
    expected = predict(network, state, network.encode(x))
    logits, trains = _in_parts(serial.answer, x, report)

    def row(spikes: str, latency: int, counts: list[int], answers: np.ndarray) -> dict[str, Any]:
        return {
            "spikes": spikes,
            "latency": latency,
            "an_image": sum(counts) / images,
            "by_layer": [count / images for count in counts],
            "accuracy": float((answers.argmax(axis=1) == labels).mean()),
        }

    # a graded spike is sent for every code that is not 0: one that has any bit set
    graded = [int(train.any(axis=1).sum()) for train in trains]
    binary = [int(train.sum()) for train in trains]
    return {
        "network": str(network),
        "bits": str(network.bits),
        "data": run.config.data,
        "config": run.config.to_json(),
        "images": images,
        "same_logits": bool(np.array_equal(logits, expected)),
        "same_in_lava": _same_in_lava(network, state, x, [logits, *trains]),
        "rows": [
            row("graded", len(network.layers), graded, expected),
            row("binary", serial.starts[-1], binary, logits),
        ],
    }


def _in_parts(
    answer: Answer, x: np.ndarray, report: Callable[[int], None]
) -> tuple[np.ndarray, list[np.ndarray]]:
    logits, trains = [], []
    for first in range(0, len(x), SLOTS):
        answers, spikes = answer(x[first : first + SLOTS])
        logits.append(answers)
        trains.append(spikes)
        report(first + len(answers))
    return np.concatenate(logits), [np.concatenate(band) for band in zip(*trains, strict=True)]


def _same_in_lava(
    network: Network, state: State, x: np.ndarray, expected: Sequence[np.ndarray]
) -> bool | None:
    try:
        import mappings.binary_spikes.lava_graph as bit_serial_lava
    except ImportError:
        return None
    logits, trains = bit_serial_lava.answer(network, state, x)
    return all(map(np.array_equal, expected, [logits, *trains]))


def binary_table(folder: Path) -> str:
    """Latency, spikes and accuracy of binary and graded spikes, of every record."""
    lines = [
        "| network, data | spikes | latency, time steps | spikes an image: input, hidden layers | accuracy |",
        "|---|---|---|---|---|",
    ]
    for path in sorted(folder.glob("binary/*.json")):
        record = json.loads(path.read_text())
        network = record["network"].replace("-F-", "-").removeprefix("F-")
        equal = {True: "yes", False: "**no**", None: "not run"}
        for row in record["rows"]:
            by_layer = ", ".join(f"{spikes:,.1f}" for spikes in row["by_layer"])
            lines.append(
                f"| {network}, {record['data']} | {row['spikes']} | {row['latency']}"
                f" | {by_layer} | {100 * row['accuracy']:.2f} % |"
            )
        lines += [
            "",
            f"First {record['images']:,} test images. Every logit equal to the integer network's:"
            f" {equal[record['same_logits']]}. Every spike and logit of Lava equal to Brian2's:"
            f" {equal[record['same_in_lava']]}.",
        ]
    return "\n".join(lines)
