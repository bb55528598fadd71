"""What is learned of a data set helps with another: few examples, one sample at a time, on the chip's terms.

Three learners get the same examples in the same order: one starts from the hidden weights of a trained
network and learns on in every layer, one keeps those as fixed features and learns the output layer alone, one
starts from scratch. All draw the same output layer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments import datasets
from experiments.continual.settings import OneByOne, eta_of
from experiments.datasets import Dataset
from experiments.engines import make_engine
from experiments.runs import run_folder
from experiments.runs.forms import TransferCell, TransferHead, TransferRow
from experiments.runs.jobs import Jobs
from experiments.runs.resumed import require_data
from experiments.runs.stopping import stops_on_signals
from experiments.runs.training import SAVE_EVERY_S, predict_all
from experiments.runs.unchanged import unchanged
from wage_neuro import checkpoint
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.control import Control
from wage_neuro.errors import CheckpointError, DataError, SettingError
from wage_neuro.network import Network
from wage_neuro.random_bits import STREAM, permutation, words
from wage_neuro.rules import Rules
from wage_neuro.settings import DATA, RULE, check_settings, like, setting
from wage_neuro.specs import Dense
from wage_neuro.train import State, initial_state
from wage_neuro.typed import checked, read_rows, reading

RECORD = "record.jsonl"
CELLS = "cells"
"""Folder of the checkpoints of cells that are not finished."""
LEARNERS = {
    "pretrained": "starts from the trained hidden layers, all layers learn",
    "frozen": "keeps the trained first layers, the head learns",
    "scratch": "starts from drawn weights, all layers learn",
}
ALL = "all"
PART = 500  # samples that the engine is given at once


@dataclass(frozen=True, kw_only=True)
class Config(OneByOne):
    """What a transfer study is; all of it decides the bits. A seed draws examples, order and new weights."""

    data: str = setting(
        "", "What it learns now: a data set as in `train`; `mnist:5-9` takes some classes alone.", DATA
    )
    examples: str = setting("1, 5, 25, 100, all", "Of each class; `all` takes all.", DATA)
    seeds: int = setting(1, "Draws of examples and new weights.", RULE, least=1)
    passes: int = setting(
        100,
        "Most over the examples: as many as fit in --samples, at least one.",
        RULE,
        least=1,
    )
    samples: int = setting(
        10_000,
        "Most that a learner gets, unless one pass over its examples takes more.",
        RULE,
        least=1,
    )
    head: int = setting(
        1, "Last layers that learn where the features are frozen; 1: the output layer alone.", RULE, least=1
    )
    eta: str = like(OneByOne, "eta", default="32, 8@50%, 2@75%")

    def __post_init__(self) -> None:
        eta_of(self.eta, 100)
        check_settings(self)
        _ = self.shots, self.rules

    @cached_property
    def shots(self) -> tuple[str, ...]:
        """Examples of each class, one number of them after the other, or 'all'."""
        parts = tuple(part.strip() for part in self.examples.split(","))
        for part in parts:
            if part != ALL and not re.fullmatch(r"[1-9]\d{0,8}", part):
                raise SettingError(f"examples {part!r}: want numbers of 1 or more, or all, such as 1, 5, all")
        return parts

    @property
    def rules(self) -> Rules:
        """One sample at a time."""
        return Rules(
            batch=1, shift="held", hold=self.hold, update=self.update, loss=self.loss, margin=self.margin
        )


@dataclass(frozen=True)
class Source:
    """The network that was trained before, and where: its data, and a checksum of its weights."""

    network: Network
    S: tuple[np.ndarray, ...]
    stored_range: str
    data: str
    accuracy: float | None

    @classmethod
    def read(cls, run: Path) -> Source:
        """Read a run folder or a checkpoint file."""
        return cls.of(run_folder.load(run))

    @classmethod
    def of(cls, saved: Checkpoint) -> Source:
        """Take what is needed of a checkpoint."""
        name = saved.extra.get("config", {}).get("data", "unknown data")
        curve = saved.extra.get("progress", {}).get("curve") or [{}]
        return cls(
            saved.network, saved.state.S, saved.rules.stored_range, Path(name).name, curve[-1].get("accuracy")
        )

    def shown(self, config: Config, data_dir: Path | None) -> Dataset:
        """Read a study's data, in the form of the images that the network learned.

        Raises
        ------
        DataError
            If there is none, or its images cannot be brought into that form.
        """
        data = datasets.load(config.data, data_dir)
        data = data.split(config.validation) if config.validation else data
        return data.like(self.network.input_shape, self.network.signed_input)

    def with_outputs(self, classes: int) -> Network:
        """Return the network with an output for each class."""
        specs = (*self.network.specs[:-1], Dense(classes))
        return Network(specs, self.network.input_shape, self.network.bits, self.network.signed_input)

    def state(self, network: Network, learner: str, seed: int) -> State:
        """Return where a learner begins."""
        fresh = initial_state(network, seed)
        return fresh if learner == "scratch" else fresh.having(S=(*self.S[:-1], fresh.S[-1]))


def draw_examples(labels: np.ndarray, shot: str, seed: int) -> np.ndarray:
    """Indices of so many examples of each class, in the order in which a seed draws them.

    Fewer examples are the first of more. The order is a function of the seed and the index alone.

    Raises
    ------
    SettingError
        If a class has fewer.

    >>> draw_examples(np.array([0, 0, 0, 1, 1]), "2", seed=1).tolist()
    [2, 1, 4, 3]
    """
    order = np.argsort(words((seed, STREAM, 0, 0), 0, len(labels)), kind="stable")
    if shot == ALL:
        return order
    fewest = np.bincount(labels).min()
    if int(shot) > fewest:
        raise SettingError(f"examples {shot}: a class has {fewest} training images")
    mine = [order[labels[order] == label][: int(shot)] for label in np.unique(labels)]
    return order[np.isin(order, np.concatenate(mine))]


@dataclass(frozen=True)
class Cell:
    """One learner, of one seed, with so many examples of each class."""

    shot: str
    learner: str
    seed: int

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.shot} of each class, {self.learner}"

    @property
    def checkpoint(self) -> Path:
        """Where it is kept until it is finished, in the folder of its study."""
        return Path(CELLS, f"{self.learner}-{self.shot}-s{self.seed}.npz")


class Study:
    """Every cell of a study, in a folder that holds what is finished."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        source: Source,
        data: Dataset,
        rows: list[dict[str, Any]],
        data_dir: Path | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.folder, self.config, self.source, self.data, self.rows = folder, config, source, data, rows
        self.network = source.with_outputs(data.classes)
        if config.head > len(self.network.layers):
            raise SettingError(f"head={config.head}: want 1..{len(self.network.layers)}, its layers")
        self.stop_wanted = False
        self.lock = run_folder.Lock(folder)
        for shot in config.shots:
            draw_examples(data.train_labels, shot, config.seed)

    @classmethod
    def start(
        cls, run: Path, config: Config, folder: Path, engine: str, data_dir: Path | None = None
    ) -> Study:
        """Begin a study of the network in `run`, which is copied to the folder for when it goes on."""
        saved = run_folder.load(run)
        source = Source.of(saved)
        study = cls(folder, config, source, source.shown(config, data_dir), [], data_dir)
        study.rows.append(study.head(engine))
        with study.lock:
            for held in (RECORD, CELLS):
                run_folder.refuse_held(folder / held, "study")
            run_folder.prepare(folder, new=True)
            checkpoint.save(folder / run_folder.CHECKPOINT, saved)
            study.write()
        return study

    @classmethod
    def resume(cls, folder: Path, data_dir: Path | None = None) -> Study:
        """Go on with the study in a folder, in the middle of the cells that it was stopped in.

        Raises
        ------
        CheckpointError
            If there is none, it is damaged, or its data has changed.
        """
        rows = read(folder / RECORD, CheckpointError)
        config = Config(**rows[0]["config"])
        source = Source.read(folder)
        data = source.shown(config, data_dir)
        require_data(folder, config.data, rows[0]["data_sha256"], data.checksum)
        return cls(folder, config, source, data, rows, data_dir)

    def cells(self) -> Iterator[Cell]:
        """Every cell, seed after seed."""
        for seed in range(self.config.seed, self.config.seed + self.config.seeds):
            for shot in self.config.shots:
                for learner in LEARNERS:
                    yield Cell(shot, learner, seed)

    @property
    def left(self) -> list[Cell]:
        """Cells that are not finished."""
        done = set(map(_place, self.rows[1:]))
        return [cell for cell in self.cells() if (cell.shot, cell.learner, cell.seed) not in done]

    def samples_of(self, cell: Cell) -> int:
        """Samples that a cell learns."""
        n = len(draw_examples(self.data.train_labels, cell.shot, cell.seed))
        return n * max(1, min(self.config.passes, self.config.samples // n))

    def run(
        self,
        engine: str,
        report: Callable[[Cell, int], None] = lambda cell, seen: None,
        jobs: Jobs | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> bool:
        """Do what is left; return whether all of it is done. `report` gets a cell and its samples so far.

        Ctrl-C and SIGTERM end it; the cells in hand keep a checkpoint, from which they go on.
        """
        jobs = jobs or Jobs()
        learn: Callable[[Cell], dict[str, Any] | None] = partial(self.learn, engine, report)
        if not jobs.in_turn:
            learn = partial(_learn_there, self.folder.resolve(), self.data_dir, engine)
        stops = stops_on_signals(self) if jobs.in_turn else suppress(KeyboardInterrupt)
        with self.lock, stops, closing(jobs.each(learn, self.left, str, say)) as done:
            for cell, row in done:
                if row is None:
                    break
                self.rows.append(row)
                self.write()
                (self.folder / cell.checkpoint).unlink(missing_ok=True)
                report(cell, row["samples"])
        return not self.left

    def learn(self, engine: str, report: Callable[[Cell, int], None], cell: Cell) -> dict[str, Any] | None:
        """Learn a cell; return its row of the record, or None if a stop was wanted before its end."""
        config, data, L = self.config, self.data, len(self.network.layers)
        chosen = draw_examples(data.train_labels, cell.shot, cell.seed)
        total = self.samples_of(cell)
        eta, kept_at = eta_of(config.eta, total), time.monotonic()
        rules = replace(config.rules, stored_range=self.source.stored_range)
        begin = self.source.state(self.network, cell.learner, cell.seed)
        state, seen = self._place_of(cell, Checkpoint(self.network, rules, begin))
        frozen = L - config.head if cell.learner == "frozen" else 0
        with make_engine(engine, self.network, rules, state) as machine:
            while seen < total:
                order = chosen[permutation(cell.seed, seen // len(chosen), len(chosen))]
                for first in range(seen % len(chosen), len(order), PART):
                    if self.stop_wanted or time.monotonic() - kept_at > SAVE_EVERY_S:
                        self._keep(cell, Checkpoint(self.network, rules, machine.state), seen)
                        kept_at = time.monotonic()
                    if self.stop_wanted:
                        return None
                    part, log2_eta = order[first : first + PART], eta.log2_at(seen)
                    control = Control(log2_eta=(*(None,) * frozen, *(log2_eta,) * (L - frozen)))
                    machine.train(data.train_images[part], data.train_labels[part], control)
                    seen += len(part)
                    report(cell, seen)
            answers = predict_all(machine, data.test_images).argmax(axis=1)
            same = unchanged(self.network, rules, begin, machine.state, control)
        return {
            "kind": "result",
            "seed": cell.seed,
            "examples": cell.shot,
            "learner": cell.learner,
            "samples": total,
            "accuracy": float((answers == data.test_labels).mean()),
            **({"unchanged": same} if same else {}),
        }

    def _place_of(self, cell: Cell, begin: Checkpoint) -> tuple[State, int]:
        """State and samples seen that a cell goes on from."""
        path = self.folder / cell.checkpoint
        if not path.exists():
            return begin.state, 0
        saved = checkpoint.load(path)
        with reading(path, "cell of a transfer study"):
            kept = checked(TransferCell, saved.extra)
            if (saved.network, saved.rules, kept["cell"]) != (begin.network, begin.rules, asdict(cell)):
                raise ValueError(f"it is of {kept['cell']}, {saved.network}; want {asdict(cell)}")
        return saved.state, kept["seen"]

    def _keep(self, cell: Cell, saved: Checkpoint, seen: int) -> None:
        path = self.folder / cell.checkpoint
        path.parent.mkdir(exist_ok=True)
        checkpoint.save(path, replace(saved, extra={"cell": asdict(cell), "seen": seen}))

    def head(self, engine: str) -> dict[str, Any]:
        """The first row of the record: what the study is."""
        return {
            "kind": "transfer",
            "config": asdict(self.config),
            "from": self.source.data,
            "from_accuracy": self.source.accuracy,
            "network": str(self.network),
            "weights": self.network.n_weights,
            "training_images": len(self.data.train_labels),
            "classes": self.data.classes,
            "images": self.data.name,
            "measured_on": self.config.held_out,
            "data_sha256": self.data.checksum,
            "engine": engine,
            "versions": run_folder.versions(),
        }

    def write(self) -> None:
        """Write the record as far as it is, its cells in their order, whoever was done first."""
        order = {(cell.shot, cell.learner, cell.seed): i for i, cell in enumerate(self.cells())}
        self.rows[1:] = sorted(self.rows[1:], key=lambda row: order[_place(row)])
        run_folder.write_rows(self.folder / RECORD, self.rows)


def _place(row: dict[str, Any]) -> tuple[str, str, int]:
    """Which cell a row of the record is of."""
    return row["examples"], row["learner"], row["seed"]


def _learn_there(folder: Path, data_dir: Path | None, engine: str, cell: Cell) -> dict[str, Any] | None:
    """Learn a cell of the study in a folder whose lock another process or thread holds."""
    study = Study.resume(folder, data_dir)
    with stops_on_signals(study):
        return study.learn(engine, lambda cell, seen: None, cell)


def read(path: Path, problem: type[DataError] | type[CheckpointError] = DataError) -> list[dict[str, Any]]:
    """Read a record: the row of the study, then one a cell.

    Raises
    ------
    DataError, or what `problem` names
        If there is none, or it is damaged.
    """
    rows = read_rows(path, dict, "transfer study", problem)
    with reading(path, "transfer study", problem):
        if not rows or rows[0].get("kind") != "transfer":
            raise ValueError("its first row is not of a transfer study")
        head = checked(TransferHead, rows[0], "line 1")
        checked(Config, head["config"], "line 1.config")
        for i, row in enumerate(rows[1:], start=2):
            checked(TransferRow, row, f"line {i}")
    return rows


def accuracies(rows: list[dict[str, Any]], learner: str, shot: str) -> list[float]:
    """Accuracy, %, of each seed that is finished."""
    return [100 * r["accuracy"] for r in rows[1:] if (r["learner"], r["examples"]) == (learner, shot)]
