"""Training runs: epochs over a data set with either engine, checkpoints, exact resume, records."""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, TypedDict

import numpy as np

from experiments import datasets
from experiments.datasets import Dataset
from experiments.datasets.augment import Augment
from experiments.engines import ENGINES, make_engine
from experiments.runs import ranks, run_folder
from experiments.runs.forms import Epoch, Number, config_of
from experiments.runs.resumed import require_begun, require_data, require_seed
from experiments.runs.spread import Spread
from experiments.runs.stopping import stops_on_signals
from experiments.runs.unchanged import unchanged
from wage_neuro import checkpoint, softmax
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.engine import Engine, InTeam
from wage_neuro.errors import CheckpointError, DoubtWarning, SettingError
from wage_neuro.eta import EtaSchedule
from wage_neuro.network import PRESETS, Network
from wage_neuro.random_bits import permutation
from wage_neuro.room import check_learning
from wage_neuro.rules import Rules
from wage_neuro.settings import DATA, NETWORK, RULE, check_settings, setting
from wage_neuro.team import ALONE, Team, cut, whole
from wage_neuro.train import initial_state
from wage_neuro.typed import Count, built, checked, reading

SAVE_EVERY_S = 60.0
KEEP_AT_MOST = (
    20  # epochs that are shorter than writing takes are not all written: a 20th of the time goes there
)
REPORT_EVERY_S = 0.5
AT_ONCE_BYTES = 1 << 23  # of images that are made ready together
PREDICT_AT_ONCE = 10_000
_DRAWING = Lock()  # matplotlib is for one thread
LIMB = 40  # bits of a large number that the processes of a team add up at once
TOP5_CLASSES = 10  # with more, the error among the five best answers is measured too, as for ImageNet


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a training run is. Everything but `epochs` decides the bits, so a resumed run must keep it.

    `validation` images are taken from the end of the training set, or are the data's own, and stand in for
    the test set. `signed` says how grey levels are read, -1..1 or 0..1; None is the data's own way.
    """

    data: str = setting(
        "digits",
        f"{', '.join(datasets.NAMES)}, or an `.npz` or a folder of `.npy` with images and labels.",
        DATA,
        complete=datasets.NAMES,
    )
    network: str = setting(
        "lenet",
        f"{', '.join(PRESETS)}, or hidden layers as in the paper: `32C5-MP2-64C5-MP2-512FC`.",
        NETWORK,
        complete=tuple(PRESETS),
    )
    bits: str = setting("2888", "k_W k_A k_G k_E, each 2 to 16: `2888`, `28C8` or `2-8-12-8`.", NETWORK)
    epochs: int = setting(10, "Passes over the training images.", RULE, least=1, resumes=True)
    eta: str = setting(
        "8", "Step size, a power of two; `8, 1@10, 1/8@13` changes it at epochs 10 and 13 (from 0).", RULE
    )
    seed: int = setting(0, "Names every random bit: weights, order of the data, rounding.", RULE)
    validation: int = setting(
        0, "Measure on this many training images, held out; the test set is not read.", DATA
    )
    train_images: int | None = setting(None, "Use the first N training images only.", DATA, shown="all")
    augment: str = setting(
        "none",
        "`crop4-flip`: pad 4, crop at random, mirror; `crop1` shifts by up to 1 pixel; `window224-flip`: a"
        " window of each image, drawn in training, the middle in tests; `none`.",
        DATA,
    )
    rules: Rules = Rules()  # noqa: RUF009 - frozen
    signed: bool | None = setting(
        None,
        "Grey levels are read as -1..1, or as 0..1.",
        DATA,
        flag="--signed/--unsigned",
        shown="as is best for the data set; an `.npz` says it, or is signed where it has three colours",
    )

    def __post_init__(self) -> None:
        EtaSchedule.parse(self.eta)
        Augment.parse(self.augment)
        check_settings(self)

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if (name, value) != ("signed", None)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Config:
        return config_of(cls, values, {"signed"})  # runs of before have none

    @property
    def held_out(self) -> str:
        """Name of the part that the run is measured on."""
        return "validation" if self.validation else "test"


@dataclass
class Progress:
    """Where a run stands; the place in the data is all it takes to go on."""

    epoch: Count = 0
    batch: Count = 0
    wrong: Count = 0  # this epoch, before each update
    squared_error: Annotated[int, (0, 2**256)] = 0  # this epoch, in squared units of Z
    seconds: Number = 0.0
    curve: Annotated[list[dict[str, Any]], list[Epoch]] = field(default_factory=list)  # metrics

    def __post_init__(self) -> None:
        if len(self.curve) != self.epoch:
            raise CheckpointError(f"progress.epoch={self.epoch}: its curve has {len(self.curve)} rows")


class Told(TypedDict, total=False):
    """The engine of a run, and what it was told that goes for every machine; runs of before kept none."""

    engine: str
    lanes: int | None
    model: str | None


@dataclass(frozen=True)
class Kept:
    """What the checkpoint of a training run holds beside the network."""

    config: Config
    progress: Progress
    data_sha256: str
    simulator: Mapping[str, Any]


def kept_of(run: Path, saved: Checkpoint) -> Kept:
    """Read it.

    Raises
    ------
    CheckpointError
        If the checkpoint is of something else, or a field of it cannot be.
    """
    if "stream" in saved.extra:
        raise CheckpointError(
            f"{run}: of a continual run, not of a training run; want the folder of training"
        )
    for name in ("config", "progress"):
        if name not in saved.extra:
            raise CheckpointError(f"{run}: its checkpoint is not of a training run (no {name} in it)")
    with reading(run, "checkpoint of a training run"):
        extra = checked(_Extra, saved.extra)
        config = Config.from_json(extra["config"])
        require_seed("config", config.seed, saved.state.seed)
        progress = built(Progress, extra["progress"], "progress")
        for row in progress.curve:
            for what, values in row.get("activity", {}).items():
                if not isinstance(values, list) or len(values) != len(saved.network.layers):
                    raise CheckpointError(f"progress.curve: {what} not of {len(saved.network.layers)} layers")
        return Kept(config, progress, extra["data_sha256"], extra.get("simulator", {}))


class _Whole(TypedDict):
    config: dict[str, Any]
    progress: dict[str, Any]
    data_sha256: str


class _Extra(_Whole, total=False):
    simulator: Told


@dataclass(frozen=True)
class Report:
    """What a progress display is told."""

    epoch: int
    epochs: int
    samples: int  # seen in this epoch
    samples_an_epoch: int
    seen: int  # in this call of `fit`
    train_error: float
    samples_per_s: float
    last_error: float | None


def _limbs(value: int) -> list[int]:
    """A number below 2**256 in parts, lowest first, which sums of 2**23 of them do not overflow.

    >>> _limbs(2**40 + 5)[:3]
    [5, 1, 0]
    """
    return [value >> LIMB * i & (1 << LIMB) - 1 for i in range(7)]


def top_error(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of samples whose label is not among the k largest logits; of equal ones the first classes count.

    >>> top_error(np.array([[3, 5, 5], [1, 0, 0]]), np.array([0, 1]), 2)
    0.5
    """
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return 1 - int((best == labels[:, None]).sum()) / len(labels)


def open_data(config: Config, data_dir: Path | None = None) -> Dataset:
    """Load the data set of a run, cut as the run wants it."""
    data = datasets.load(config.data, data_dir)
    if config.validation:
        data = data.split(config.validation)
    if config.train_images is not None:
        data = data.subset(config.train_images, None)
    if config.signed is not None:
        data = replace(data, signed=config.signed)
    window = Augment.parse(config.augment).window
    return data.windowed(window) if window else data


def doubt_of(network: str, classes: int) -> None:
    """Warn of a network whose last hidden layer is as wide as the output layer that is added to it."""
    last = network.split("-")[-1]
    if "-" in network and last in (f"{classes}FC", f"{classes}"):
        warnings.warn(
            f"network {network!r}: ends with {last} as wide as the {classes} classes, and the output layer is"
            f" added after it; want {network.rpartition('-')[0]!r}",
            DoubtWarning,
            stacklevel=3,
        )


def predict_all(
    engine: Engine, images: np.ndarray, report: Callable[[int], None] | None = None
) -> np.ndarray:
    """Logits of images, which may be in files: as many at once as fit in memory.

    `report` gets the number that is done; then a part takes about REPORT_EVERY_S.
    """
    done, size = 0, PREDICT_AT_ONCE if report is None else 1
    parts: list[np.ndarray] = []
    while done < len(images) or not parts:
        began = time.monotonic()
        parts.append(engine.predict(np.asarray(images[done : done + size])))
        done = min(done + size, len(images))
        if report:
            report(done)
            share = REPORT_EVERY_S / max(time.monotonic() - began, 1e-6)
            size = max(1, min(4 * size, int(size * share), PREDICT_AT_ONCE))
    return np.concatenate(parts)


def load_for(saved: Checkpoint, name: str, data_dir: Path | None = None) -> Dataset:
    """Load a data set for a trained network: what learned from windows sees the middle of images."""
    data = datasets.load(name, data_dir)
    window = Augment.parse(saved.extra.get("config", {}).get("augment", "none")).window
    return data.windowed(window) if window else data


def build_network(config: Config, data: Dataset) -> Network:
    """Build the network of a run for the images of its data."""
    return Network.parse(config.network, data.input_shape, data.classes, config.bits, data.signed)


class Run:
    """One training run in a folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = Run.start(Config(network="16FC", epochs=1, rules=Rules(batch=32)), Path(folder))
    ...     with run.engine("numpy") as engine:
    ...         row = run.fit(engine)[-1]
    >>> sorted(row)
    ['accuracy', 'epoch', 'error', 'eta', 'samples', 'seconds', 'train_error', 'train_loss']
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        data: Dataset,
        saved: Checkpoint,
        progress: Progress,
        team: Team = ALONE,
    ) -> None:
        self.team = team
        self.folder, self.config, self.data = folder, config, data
        self.network = saved.network
        self.saved = saved
        self.progress = progress
        self.eta = EtaSchedule.parse(config.eta)
        self.augment = Augment.parse(config.augment)
        self.batches = len(data.train_labels) // config.rules.batch
        if not self.batches:
            raise SettingError(
                f"batch={config.rules.batch}: there are only {len(data.train_labels)} training images"
            )
        if progress.batch > self.batches:
            raise CheckpointError(f"{folder}: damaged, batch {progress.batch} of {self.batches}")
        begun = progress.epoch + (progress.batch > 0)
        if config.epochs < begun:
            raise SettingError(f"epochs={config.epochs}: this run is in epoch {begun} already")
        self.simulator: Mapping[str, Any] = {}
        self.is_new = False
        self.stop_wanted = False
        self._first_step = saved.state.step
        self.lock: AbstractContextManager[object] = run_folder.Lock(folder) if self.writes else nullcontext()
        self._ordered: tuple[int, np.ndarray] = -1, np.empty(0)
        self._kept_at, self._keep_seconds = 0.0, 0.0
        self._spread = Spread(folder)

    @classmethod
    def start(cls, config: Config, folder: Path, data_dir: Path | None = None, team: Team = ALONE) -> Run:
        """Begin a run in an empty folder."""
        data = open_data(config, data_dir)
        doubt_of(config.network, data.classes)
        if not datasets.is_name(config.data):  # so that it stays so, whatever the file says later
            config = replace(config, signed=data.signed)
        run = cls(folder, config, data, cls._fresh(config, data), Progress(), team)
        run.is_new = True
        return run

    @classmethod
    def resume(
        cls, folder: Path, epochs: int | None = None, data_dir: Path | None = None, team: Team = ALONE
    ) -> Run:
        """Go on with the run in a folder, to the same bits as if it had never stopped."""
        saved = cls._load(run_folder.checkpoint_of(folder, resume=True))
        kept = kept_of(folder, saved)
        config = kept.config if epochs is None else replace(kept.config, epochs=epochs)
        if config.signed is None and not datasets.is_name(config.data):  # of before it was kept
            config = replace(config, signed=saved.network.signed_input)
        data = open_data(config, data_dir)
        require_data(folder, config.data, kept.data_sha256, data.checksum)
        require_begun(folder, saved, cls._network_of(config, data), config.rules)
        run = cls(folder, config, data, saved, kept.progress, team)
        run.simulator = kept.simulator
        return run

    # what a run of real numbers does in its own way, see `experiments.studies.float_run`

    @staticmethod
    def _network_of(config: Config, data: Dataset) -> Network:
        return build_network(config, data)

    @classmethod
    def _fresh(cls, config: Config, data: Dataset) -> Checkpoint:
        network = cls._network_of(config, data)
        return Checkpoint(network, config.rules, initial_state(network, config.seed))

    @staticmethod
    def _load(path: Path) -> Checkpoint:
        return checkpoint.load(path)

    @staticmethod
    def _store(path: Path, saved: Checkpoint) -> None:
        checkpoint.save(path, saved)

    def _note_weights(self, engine: Engine | Checkpoint) -> None:
        if self.writes:
            self._spread.note(self.network, self.config.rules, engine, self.progress.epoch)

    @property
    def _title(self) -> str:
        return f"{self.config.network} on {Path(self.config.data).name}, {self.network.bits}, all integers"

    def engine(self, name: str, **options: int | str | None) -> Engine:
        """Build an engine that stands where this run stands; `options` as of `make_engine`."""
        check_learning(self.network, self.config.rules.samples_an_update)
        team = {"team": self.team} if self.team.size > 1 else {}
        if team and not issubclass(ENGINES.find(name).Options, InTeam):
            raise SettingError(
                f"engine {name!r} on {self.team}: want one that shares batches, such as compiled"
            )
        built = make_engine(name, self.network, self.config.rules, self.saved.state, **options, **team)
        self.simulator = {"engine": name, **{n: options[n] for n in ("lanes", "model") if n in options}}
        return built

    # --- the loop ---

    def fit(
        self,
        engine: Engine,
        report: Callable[[Report], None] = lambda report: None,
        watch: int = 0,
    ) -> list[dict[str, Any]]:
        """Train to the last epoch, or until a stop is wanted; return the metrics, a row an epoch.

        With `watch`, a row also has the activity of each layer, counted in every `watch`-th update step.
        Ctrl-C and SIGTERM end it after the batches in hand, with a checkpoint; so does `stop_wanted = True`.
        """
        progress, seen, began = self.progress, 0, time.monotonic()
        self._kept_at = began
        self._spread = Spread.of(self.folder, self.network, self.config.rules, progress.epoch)
        if self.is_new:
            self._note_weights(self.saved)
        engine.watch(watch)
        size = 1  # batches in one call: grows until a call takes about REPORT_EVERY_S
        with self.lock, stops_on_signals(self), ThreadPoolExecutor(1, "next images") as ahead:
            coming = ahead.submit(self._prepare, progress.epoch, progress.batch, size)
            while not self.finished and not self._all(self.stop_wanted):
                images, labels, batches = coming.result()
                coming = ahead.submit(self._prepare, *self._place_after(batches), size)
                seconds = self._train(engine, images, labels, batches)
                seen += batches * self.config.rules.batch
                report(self._report(seen, seen / (time.monotonic() - began)))
                size = max(1, min(2 * batches, int(batches * REPORT_EVERY_S / max(seconds, 1e-6))))
                if self._all(self.writes and time.monotonic() - self._kept_at > SAVE_EVERY_S):
                    self.save(engine)
                if progress.batch == self.batches:
                    self._end_epoch(engine, watch)
                    report(self._report(seen, seen / (time.monotonic() - began)))
            self.save(engine)
        if progress.curve and self.writes:
            self._write_metrics()
        return progress.curve

    def _all(self, wanted: bool) -> bool:
        """Whether a rank wants what all then do."""
        return bool(self.team.agree([wanted])[0])

    def check_ranks(self, **more: Any) -> None:
        """Raise SettingError where a rank differs in version, settings, data or weights."""
        facts = {
            "settings": lambda: {**self.config.to_json(), **more},
            "data": lambda: self.data_sum,
            "place": lambda: [self.progress.epoch, self.progress.batch],
            "weights": lambda: [
                hashlib.sha256(np.ascontiguousarray(S)).hexdigest() for S in self.saved.state.S
            ],
        }
        ranks.check_alike(self.team, facts)

    @property
    def _sent(self) -> dict[str, int]:
        return self.team.sent(self.network.n_weights, self.saved.state.step - self._first_step)

    @property
    def sent_in_words(self) -> list[str]:
        """What this rank has sent in learning, beside an all-reduce of float32; nothing if it is alone."""
        sent = self._sent
        if not sent:
            return []
        own, floats = (sent[name] / max(1, sent["updates"]) for name in ("learning", "float32"))
        return [
            f"{sent['ranks']} ranks: each sent {own:,.0f} bytes an update; gradients of float32,"
            f" all-reduced, are {floats:,.0f}"
        ]

    @property
    def writes(self) -> bool:
        """Whether this process writes the run's folder: in a team the first one alone does."""
        return self.team.rank == 0

    @property
    def _rows(self) -> slice:
        return self.team.rows(self.config.rules.batch)

    @property
    def finished(self) -> bool:
        """Whether every epoch has been trained."""
        return self.progress.epoch >= self.config.epochs

    def _place_after(self, batches: int) -> tuple[int, int]:
        """Epoch and batch that come after so many batches, no more than the epoch has left."""
        batch = self.progress.batch + batches
        return (self.progress.epoch, batch) if batch < self.batches else (self.progress.epoch + 1, 0)

    def _prepare(self, epoch: int, first: int, batches: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Own images and labels from batch `first` on, of at most so many batches, and of how many."""
        batch = self.config.rules.batch
        most = AT_ONCE_BYTES // (batch * math.prod(self.data.train_images.shape[1:]))
        batches = min(batches, self.batches - first, max(1, most))
        places = slice(first * batch, (first + batches) * batch)
        own = np.arange(batches * batch).reshape(batches, batch)[:, self._rows].reshape(-1)
        index = self._order(epoch)[places][own]
        images = self.augment.apply(self.data.train_images[index], self.config.seed, epoch, places, own)
        return images, self.data.train_labels[index], batches

    def _order(self, epoch: int) -> np.ndarray:
        if self._ordered[0] != epoch:
            self._ordered = epoch, permutation(self.config.seed, epoch, len(self.data.train_labels))
        return self._ordered[1]

    def _train(self, engine: Engine, images: np.ndarray, labels: np.ndarray, batches: int) -> float:
        progress = self.progress
        began = time.monotonic()
        logits = engine.train(images, labels, self.eta.log2_at(progress.epoch))
        seconds = time.monotonic() - began
        error = self._answers(logits)
        error[np.arange(len(labels)), labels] -= self._right
        # whole numbers of any size: int64 could overflow on wide outputs
        squared = int(np.square(error.astype(object)).sum()) if self._right > 2**24 else int((error**2).sum())
        wrong, *limbs = self.team.total([int((logits.argmax(axis=1) != labels).sum()), *_limbs(squared)])
        progress.squared_error += sum(int(limb) << LIMB * i for i, limb in enumerate(limbs))
        progress.wrong += int(wrong)
        progress.batch += batches
        seconds = int(self.team.agree([int(1e9 * seconds)])[0]) / 1e9  # what follows is the same for all
        progress.seconds += seconds
        return seconds

    def _end_epoch(self, engine: Engine, watch: int) -> None:
        progress = self.progress
        activity = engine.activity()
        engine.watch(0)  # not the evaluation
        samples = self.batches * self.config.rules.batch
        logits, labels = self.predict(engine), self.data.test_labels
        error = int((logits.argmax(axis=1) != labels).sum()) / len(labels)
        top5 = top_error(logits, labels, 5)
        progress.curve.append(
            {
                "epoch": progress.epoch,
                "eta": 2.0 ** self.eta.log2_at(progress.epoch),
                "samples": samples,
                "train_loss": progress.squared_error / (2 * self._right**2 * samples),
                "train_error": progress.wrong / samples,
                "error": error,
                "accuracy": 1 - error,
                **({"error_top5": top5} if self.network.classes > TOP5_CLASSES else {}),
                "seconds": round(progress.seconds, 3),
                **({"activity": activity.to_json()} if activity.samples else {}),
            }
        )
        engine.watch(watch)
        progress.epoch, progress.batch = progress.epoch + 1, 0
        progress.wrong, progress.squared_error, progress.seconds = 0, 0, 0.0
        self._note_weights(engine)
        if self._all(self.writes and time.monotonic() - self._kept_at >= KEEP_AT_MOST * self._keep_seconds):
            began = time.monotonic()
            self.save(engine)
            if self.writes:
                self._write_metrics()
            self._keep_seconds = time.monotonic() - began

    def _write_metrics(self) -> None:
        """Write metrics.jsonl and curve.png; they follow from the checkpoint, which is written first."""
        with _DRAWING:
            self._draw()

    def _draw(self) -> None:
        run_folder.write_rows(self.folder / "metrics.jsonl", self.progress.curve)
        curve = self.folder / "curve.png"
        run_folder.draw_curve(curve, self._title, self.progress.curve, self.config.held_out)
        if any("activity" in row for row in self.progress.curve):
            names = [str(layer) for layer in self.network.layers]
            activity = self.folder / "activity.png"
            run_folder.draw_activity(activity, self._title, self.progress.curve, names)

    @property
    def _right(self) -> int:
        """Answer that is right: 1.0 in units of Z, or of a probability."""
        return softmax.ONE if self.config.rules.loss == "softmax" else self.network.layers[-1].target

    def _answers(self, logits: np.ndarray) -> np.ndarray:
        """What the squared error is of: a copy of the logits, or the probabilities of softmax."""
        if self.config.rules.loss == "softmax":
            return softmax.probabilities(logits, self.network.layers[-1].log2_target)
        return logits.copy()

    def predict(self, engine: Engine) -> np.ndarray:
        """Logits of the held-out images, of which each process answers its part."""
        parts = cut(len(self.data.test_labels), self.team.size)
        own = predict_all(engine, self.data.test_images[parts[self.team.rank]])
        return self.team.gather(own, [part.stop - part.start for part in parts])

    def _report(self, seen: int, rate: float) -> Report:
        progress, batch = self.progress, self.config.rules.batch
        curve = progress.curve
        done = progress.batch * batch
        running = progress.wrong / done if done else (curve[-1]["train_error"] if curve else 0.0)
        last = curve[-1]["error"] if curve else None
        return Report(
            progress.epoch, self.config.epochs, done, self.batches * batch, seen, running, rate, last
        )

    # --- what stays ---

    def save(self, engine: Engine) -> None:
        """Write the checkpoint; all ranks of a team do it together."""
        self.saved = replace(self.saved, state=whole(engine.state, self.team))
        if not self.writes:
            return
        extra = {
            "config": self.config.to_json(),
            "progress": asdict(self.progress),
            "data_sha256": self.data_sum,
            "simulator": self.simulator,
        }
        self.saved = replace(self.saved, extra=extra)
        with self.lock:
            self._store(self.folder / run_folder.CHECKPOINT, self.saved)
            if self._spread.rows:
                self._spread.write()
        self._kept_at = time.monotonic()

    @cached_property
    def data_sum(self) -> str:
        """Checksum of its data."""
        return self.data.checksum

    def record(self, engine_name: str, command: str) -> dict[str, Any]:
        """What the README's tables are made from: setting, versions, data, curve, accuracy last and best."""
        curve = self.progress.curve
        accuracies = [row["accuracy"] for row in curve]
        return {
            "command": command,
            "engine": engine_name,
            "config": self.config.to_json(),
            "network": str(self.network),
            "input_shape": list(self.network.input_shape),
            "weights": self.network.n_weights,
            "data_sha256": self.data_sum,
            "measured_on": self.config.held_out,
            "accuracy_last": accuracies[-1],
            "accuracy_best": max(accuracies),
            **({"unchanged": same} if (same := self.unchanged) else {}),
            **({"team": sent} if (sent := self._sent) else {}),
            "train_seconds": round(sum(row["seconds"] for row in curve), 1),
            "versions": run_folder.versions(),
            "curve": curve,
        }

    @property
    def unchanged(self) -> list[str]:
        """A line for each layer of which no weight has changed."""
        begin = initial_state(self.network, self.config.seed)
        return unchanged(self.network, self.config.rules, begin, self.saved.state)

    def write_record(self, path: Path, engine_name: str, command: str) -> None:
        """Write the record as JSON."""
        run_folder.write_json(path, self.record(engine_name, command))
