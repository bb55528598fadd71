"""Binary against graded spikes: the same answers, what they cost in time steps and in spikes."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.training import Run
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.train import predict

SLOTS = 16  # images side by side


def measure(run: Run, images: int) -> dict[str, Any]:
    """Answer the first test images with binary spikes in Brian2, and with the integer network.

    Returns
    -------
    network, images, same_logits, and two rows: kind of spikes, latency in time steps, spikes an image, those
    of the input and each hidden layer, accuracy

    Raises
    ------
    SettingError, EngineError
        If there are not so many images, or Brian2 is not installed.
    """
    if not 1 <= images <= len(run.data.test_labels):
        raise SettingError(f"images={images}: want 1..{len(run.data.test_labels)}")
    try:
        from mappings.bit_serial import BitSerial
    except ImportError as error:
        raise EngineError(f'{error}; binary spikes need Brian2: pip install "wage-neuro[brian2]"') from None
    network, state = run.network, run.saved.state
    x, labels = run.data.test_images[:images], run.data.test_labels[:images]
    serial = BitSerial(network, state, min(SLOTS, images))
    logits, trains = serial.answer(x)
    expected = predict(network, state, network.encode(x))

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
        "images": images,
        "same_logits": bool(np.array_equal(logits, expected)),
        "rows": [
            row("graded", len(network.layers), graded, expected),
            row("binary", serial.starts[-1], binary, logits),
        ],
    }
