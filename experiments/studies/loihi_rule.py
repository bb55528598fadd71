"""Digits learned on chip by lava-nc's stock engine and ours: `python -m experiments.studies.loihi_rule`.

Same images, same order, as many samples, one dense layer, sum of squared errors, one sample at a time, one
eta all along. Each side takes the setting that is best on a validation split of the training images; the
test images are read once for each seed. Writes experiments/results/loihi-rule.json.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from experiments import datasets
from experiments.runs.run_folder import check_writable, versions, write_json
from mappings.lava_stock.loihi_rule import STEPS_A_SAMPLE, learn
from wage_neuro import Bits, Dense, Flatten, Network, NumpyEngine, Rules
from wage_neuro.random_bits import permutation

RESULT = Path("experiments/results/loihi-rule.json")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is compared.

    Attributes
    ----------
    validation : int
        Training images that choose the settings; the last ones.
    choosing_seeds, seeds : seeds of the runs that choose, and of those that count
    engine_settings : (bits, log2_eta, to_even) of the stock engine
    our_settings : (log2_eta, stored_range, shift)
    """

    epochs: int = 5
    validation: int = 287
    choosing_seeds: tuple[int, ...] = (100, 101)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    engine_settings: tuple[tuple[str, int, bool], ...] = (
        ("2884", 0, False),
        ("2884", 1, False),
        ("2885", 1, False),
        ("2885", 1, True),
    )
    our_settings: tuple[tuple[int, str, str], ...] = tuple(
        (log2_eta, kept, shift)
        for shift in ("batch", "held")
        for kept in ("authors", "paper")
        for log2_eta in (-1, 0, 1, 2)
    )


@dataclass
class Side:
    """One way to learn: its settings with their validation accuracies, and the tests of the best one."""

    name: str
    settings: list[str]
    validation: list[float] = field(default_factory=list)
    chosen: str = ""
    test: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


Images = tuple[np.ndarray, np.ndarray]
Learner = Callable[[Any, int, Images, Images], float]


def in_the_engine(setting: tuple[str, int, bool], seed: int, train: Images, test: Images) -> float:
    """Accuracy on `test` after learning `train` in LearningDense."""
    bits, log2_eta, to_even = setting
    learned = learn(_network(train[0], bits), train, log2_eta, seed, to_even=to_even)
    return _accuracy(learned.predict(test[0]), test[1])


def in_ours(setting: tuple[int, str, str], seed: int, train: Images, test: Images) -> float:
    """Accuracy on `test` after learning `train` in the numpy engine: batch 1, ternary updates, SSE."""
    log2_eta, stored_range, shift = setting
    rules = Rules(batch=1, shift=shift, update="ternary", stored_range=stored_range)
    with NumpyEngine(_network(train[0], "2888"), rules, seed) as engine:
        engine.train(*train, log2_eta)
        return _accuracy(engine.predict(test[0]), test[1])


def compare(
    name: str, settings: tuple[Any, ...], learner: Learner, data: datasets.Dataset, config: Config
) -> Side:
    """Choose a setting on the validation split, then test it seed by seed."""
    images, labels, cut = data.train_images, data.train_labels, len(data.train_labels) - config.validation
    side = Side(name, [str(setting) for setting in settings])
    held_out = images[cut:], labels[cut:]
    for setting in settings:
        runs = [
            learner(setting, seed, _ordered((images[:cut], labels[:cut]), seed, config.epochs), held_out)
            for seed in config.choosing_seeds
        ]
        side.validation.append(mean(runs))
        print(f"{name} {setting}: validation {100 * side.validation[-1]:.2f} %", flush=True)
    best = settings[int(np.argmax(side.validation))]
    side.chosen = str(best)
    for seed in config.seeds:
        began = time.perf_counter()
        train = _ordered((images, labels), seed, config.epochs)
        side.test.append(learner(best, seed, train, (data.test_images, data.test_labels)))
        side.seconds.append(round(time.perf_counter() - began, 2))
        print(f"{name} {best} seed {seed}: test {100 * side.test[-1]:.2f} %", flush=True)
    return side


def run(config: Config, data: datasets.Dataset) -> dict[str, Any]:
    """Compare both sides; the record."""
    engine = compare("LearningDense", config.engine_settings, in_the_engine, data, config)
    ours = compare("wage-neuro", config.our_settings, in_ours, data, config)
    samples = config.epochs * len(data.train_labels)
    return {
        "command": "python -m experiments.studies.loihi_rule",
        "config": asdict(config),
        "network": str(_network(data.train_images, "2888")),
        "data_sha256": data.checksum,
        "samples": samples,
        "sides": [asdict(side) for side in (engine, ours)],
        "test_mean": {side.name: mean(side.test) for side in (engine, ours)},
        "ms_a_step": round(1e3 * mean(engine.seconds) / (samples * STEPS_A_SAMPLE), 3),
        "versions": versions(),
    }


def main() -> None:
    """Run it, print the means, write the record."""
    check_writable(RESULT)
    record = run(Config(), datasets.load("digits"))
    write_json(RESULT, record)
    for name, accuracy in record["test_mean"].items():
        print(f"{name}: test accuracy {100 * accuracy:.2f} %, mean of {len(record['config']['seeds'])} seeds")
    print(f"LearningDense: {record['ms_a_step']} ms a time step, {STEPS_A_SAMPLE} steps a sample")


def _ordered(images: Images, seed: int, epochs: int) -> Images:
    """Every epoch's samples, one after the other."""
    order = np.concatenate([permutation(seed, epoch, len(images[1])) for epoch in range(epochs)])
    return images[0][order], images[1][order]


def _network(images: np.ndarray, bits: str) -> Network:
    return Network((Flatten(), Dense(10)), images.shape[1:], Bits.parse(bits))


def _accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


if __name__ == "__main__":
    main()
