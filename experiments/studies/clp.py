"""Our prototypes beside lava-nc's `proc/clp` on the same features: `python -m experiments.studies.clp`.

A small stream: classes arrive two at a time, each image once; both sides have room for all. CLP needs samples
of one length, so ours is measured on those too. Writes experiments/results/clp.json.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.continual.study import Config as Learner
from experiments.continual.study import Run
from experiments.runs.run_folder import check_writable, versions, write_json
from mappings.lava_stock.clp import UNKNOWN, Answers, learn_and_answer, of_one_length
from wage_neuro.prototypes import PrototypeEngine, Prototypes

RESULT = Path("experiments/results/clp.json")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is compared.

    Attributes
    ----------
    networks : what makes the features: the pixels, fixed random ternary features
    learned, asked : images of each task
    """

    stream: str = "split-digits"
    networks: tuple[str, ...] = ("F", "100FC")
    learned: int = 20
    asked: int = 10
    seed: int = 0


def run(config: Config = Config()) -> dict[str, Any]:
    """Learn and answer on both sides; return the record."""
    rows = [row for network in config.networks for row in _compare(config, network)]
    return {"config": asdict(config), "versions": versions(), "rows": rows}


def _compare(config: Config, network: str) -> list[dict[str, Any]]:
    learner = Learner(stream=config.stream, method="prototypes", network=network, seed=config.seed)
    started = Run.start(learner, Path())
    x, labels, asked, right = _features(started, config)
    scaled = [of_one_length(part).astype(np.int8) for part in (x, asked)]
    sides: dict[str, Callable[[], Answers]] = {
        "lava-nc proc/clp": lambda: learn_and_answer(x, labels, asked),
        "ours, same lengths": lambda: _ours(config.seed, scaled[0], scaled[1], labels),
        "ours": lambda: _ours(config.seed, x, asked, labels),
    }
    return [{"features": network, "side": name, **_measure(side, right)} for name, side in sides.items()]


def _features(run: Run, config: Config) -> tuple[np.ndarray, ...]:
    """Features and labels of the stream's first images of each task, and of its first test images."""
    begins = (0, *run.stream.ends[:-1])
    learned = [run.stream.samples(begin, config.learned) for begin in begins]
    asked = [task.test_samples(config.asked) for task in run.tasks]
    (images, labels), (questions, right) = (
        [np.concatenate(arrays) for arrays in zip(*parts, strict=True)] for parts in (learned, asked)
    )
    assert isinstance(run.method.memory, Prototypes)
    engine = PrototypeEngine(run.network, run.config.rules, run.saved.state, run.method.memory)
    return engine.features(images), labels, engine.features(questions), right


def _ours(seed: int, x: np.ndarray, asked: np.ndarray, labels: np.ndarray) -> Answers:
    prototypes = Prototypes.empty(len(x), x.shape[1], x.dtype.type, seed)
    prototypes.learn(x, labels)
    answers = prototypes.logits(asked, int(labels.max()) + 1).argmax(axis=1)
    return Answers(answers, (prototypes.count, prototypes.count))


def _measure(side: Callable[[], Answers], right: np.ndarray) -> dict[str, Any]:
    began = time.monotonic()
    answers = side()
    return {
        "accuracy": round(100 * float((answers.labels == right).mean()), 2),
        "no answer": int((answers.labels == UNKNOWN).sum()),
        "asked": len(right),
        "prototypes after learning": answers.prototypes[0],
        "prototypes after answering": answers.prototypes[1],
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    """Run it, print a line a side, write the record."""
    check_writable(RESULT)
    record = run()
    for row in record["rows"]:
        print(row)
    write_json(RESULT, record)


if __name__ == "__main__":
    main()
