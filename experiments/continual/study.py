"""A continual learner at work: its settings, its run over a stream, exact resume, its record."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np

from experiments import datasets
from experiments.continual import metrics
from experiments.continual.learner import Learner, begun, below_of, control_of_method, open_engine
from experiments.continual.methods import ReadOut
from experiments.continual.settings import Learning, eta_of
from experiments.continual.streams import SCENARIOS, Stream, Task, tasks_of
from experiments.runs import calibration, run_folder
from experiments.runs.forms import Measured, Number, Probe, config_of
from experiments.runs.resumed import require_begun, require_data, require_seed
from experiments.runs.stopping import stops_on_signals
from experiments.runs.training import doubt_of
from experiments.runs.unchanged import unchanged
from wage_neuro import checkpoint
from wage_neuro.activity import FIELDS, Activity
from wage_neuro.arrays import DAMAGE, ArrayFile
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.control import Control
from wage_neuro.engine import Engine
from wage_neuro.errors import CheckpointError, SettingError
from wage_neuro.files import written_whole
from wage_neuro.network import Network
from wage_neuro.prototypes import NOWHERE, Prototypes
from wage_neuro.settings import DATA, RULE, setting
from wage_neuro.train import initial_state
from wage_neuro.typed import Count, checked, reading

PART = 500  # new samples that the engine is given at once
SAVE_EVERY_S = 60.0
PROBE_IMAGES = 100  # of each task's test images
TRUSTED = 10_000  # images of all tasks that are asked how far logits can be trusted, at most
WATCHED = 50  # update steps are counted at least, all of them in a shorter run
WATCH_EVERY = 101  # update steps at most; odd, so that new and recalled samples are both counted


@dataclass(frozen=True, kw_only=True)
class Config(Learning):
    """What a continual run is; all of it decides the bits.

    `stream`, `scenario`, `tasks`: see `experiments.continual.streams.tasks_of`.
    """

    stream: str = setting("split-mnist", "What is learned.", DATA, option=False)
    scenario: str = setting(
        "class",
        f"{', '.join(SCENARIOS)}: what is known of the task at test, and who has outputs.",
        DATA,
        complete=SCENARIOS,
    )
    tasks: int | None = setting(None, "How many.", DATA, shown="pairs of classes, or 10")
    base: int = setting(
        0,
        "Classes of the first task of `split-DATA`; the others are shared among the other tasks.",
        DATA,
        least=0,
        shown="none before the others",
    )
    shots: int | None = setting(
        None, "Training images of each class, drawn by the seed, but of the base's.", DATA, shown="all"
    )
    passes: int = setting(1, "Passes over each task before the next.", RULE)
    probes: int = setting(
        5,
        "Times in each task that the accuracy is measured on some test images of the tasks so far.",
        DATA,
        least=0,
    )
    boundaries: bool = setting(
        False,
        "Tell the learner where a task ends, or give it samples and labels alone.",
        RULE,
        flag="--boundaries/--no-boundaries",
        shown="tell it where it consolidates",
    )
    task_images: int | None = setting(
        None, "Training images of each task, evenly spaced, for long streams.", DATA, shown="all"
    )
    test_images: int | None = setting(None, "Test images of each task.", DATA, shown="all")

    unlike: str | None = setting(
        None,
        "Data set of what it never meets: how well the logits tell that from the tasks at the end (AUROC).",
        DATA,
    )
    measured: int | None = setting(
        None,
        "Tasks that are measured when one ends, the newest; at the end all.",
        DATA,
        shown="all",
        least=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.augmentation.pad and self.stream.startswith("permuted-"):
            raise SettingError(
                f"augment={self.augment!r} with {self.stream!r}: its pixels have no neighbours"
            )
        if self.consolidation and not self.boundaries:
            raise SettingError(
                f"consolidation={self.consolidation} on a stream without task boundaries: it acts where a"
                " task ends, so want --boundaries"
            )
        if "boundaries" in self.kind.needs and not self.boundaries:
            raise SettingError(
                f"method {self.method!r} on a stream without task boundaries: want --boundaries"
            )
        if self.boundaries and self.mixed:
            raise SettingError(f"boundaries with method {self.method!r}: its tasks come at once")

    @property
    def mixed(self) -> bool:
        """Whether all tasks come at once."""
        return "all tasks at once" in self.kind.needs

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Config:
        newer = {each.name for each in fields(cls)} - {"stream", "seed"}
        return config_of(cls, values, newer)

    @property
    def title(self) -> str:
        """The run in a few words, as a picture needs it."""
        kept = f", memory {self.memory:,}" if self.memory else ""
        return f"{self.stream}, {self.scenario}-incremental, {self.method}{kept}"


@dataclass
class Progress:
    """Where a run stands.

    Attributes
    ----------
    place : samples of the stream learned
    rows : accuracy of each (trained, tested) pair; trained None is the network before its first sample
    probes : accuracy over the tasks so far, against samples
    counted, counts : samples and (layers, fields) of the activity counted
    seconds : of learning
    trust : what `runs.calibration.trust` says at the end
    """

    place: Count = 0
    rows: Annotated[list[dict[str, Any]], list[Measured]] = field(default_factory=list)
    probes: Annotated[list[dict[str, Any]], list[Probe]] = field(default_factory=list)
    counted: Count = 0
    counts: list[list[Count]] = field(default_factory=list)
    seconds: Number = 0.0
    trust: dict[str, Number] = field(default_factory=dict)


class _Extra(TypedDict):
    stream: dict[str, Any]
    progress: Progress
    data_sha256: list[str]


@dataclass(frozen=True)
class Report:
    """What a display is told: the place in the stream, and what was measured there, if anything."""

    place: int
    length: int
    samples_per_s: float
    progress: Progress


class Run:
    """One learner over one stream, in a folder."""

    def __init__(self, folder: Path, config: Config, tasks: tuple[Task, ...], saved: Checkpoint) -> None:
        self.folder, self.config, self.tasks, self.saved = folder, config, tasks, saved
        self.stream = stream_of(config, tasks)
        self.network = saved.network
        self.below = below_of(config, self.network, saved.state)
        self.method = config.kind(config, self.below.above if self.below else self.network)
        self.eta = eta_of(config.eta, len(self.stream))
        self.progress = Progress()
        self.is_new, self.stop_wanted = True, False
        self.unlike: np.ndarray | None = None
        self.lock = run_folder.Lock(folder)

    @classmethod
    def start(cls, config: Config, folder: Path, data_dir: Path | None = None) -> Run:
        """Begin a run in an empty folder."""
        tasks = open_tasks(config, data_dir)
        network = network_of(config, tasks)
        doubt_of(config.network, network.classes)
        saved = Checkpoint(network, config.rules, begun(config, network))
        run = cls(folder, config, tasks, saved)
        run.unlike = open_unlike(config, network, data_dir)
        return run

    @classmethod
    def resume(cls, folder: Path, data_dir: Path | None = None) -> Run:
        """Go on with the run in a folder, to the same bits as if it had never stopped.

        Raises
        ------
        CheckpointError
            If there is none, it is damaged, or its data has changed.
        """
        saved = checkpoint.load(run_folder.checkpoint_of(folder, resume=True))
        if "stream" not in saved.extra:
            raise CheckpointError(f"{folder}: its checkpoint is not of a continual run (no stream in it)")
        with reading(folder, "checkpoint of a continual run"):
            extra = checked(_Extra, saved.extra)
            config = Config.from_json(extra["stream"])
            require_seed("stream", config.seed, saved.state.seed)
        tasks, progress = open_tasks(config, data_dir), extra["progress"]
        require_data(folder, config.stream, extra["data_sha256"], checksums_of(tasks))
        signed = saved.network.signed_input if ".npz" in config.stream else None  # by colours, since then
        require_begun(folder, saved, network_of(config, tasks, signed), config.rules)
        run = cls(folder, config, tasks, saved)
        with reading(folder, "checkpoint of a continual run"):
            run.check(progress)
        run.progress, run.is_new = progress, False
        run.unlike = open_unlike(config, run.network, data_dir)
        if run.method.arrays:
            found = _read_arrays(folder / _memory_name(progress.place), run.method.arrays)
            run.method.restore(found, progress.place)
        return run

    def check(self, progress: Progress) -> None:
        """Raise CheckpointError unless this run can be as far as `progress` says, with what was measured."""
        place, ends = progress.place, self.stream.ends
        if place > len(self.stream):
            raise CheckpointError(f"progress.place={place}: its stream has {len(self.stream)} samples")
        wanted = {
            "rows": (
                sum(
                    len(self._measured_at(i))
                    for i in (None, *range(len(ends)))
                    if i is None or ends[i] <= place
                ),
                bool(place),
            ),
            "probes": (sum(at <= place for at in self._probe_places), True),
            "counts": (len(self.network.layers), bool(progress.counts)),
        }
        for name, (number, needed) in wanted.items():
            found = len(getattr(progress, name))
            if found != number and (needed or found):
                raise CheckpointError(f"progress.{name}: {found} of them; want {number} at place {place}")
        for row in progress.counts:
            if len(row) != len(FIELDS):
                raise CheckpointError(f"counts of {len(row)} kinds; this version has {len(FIELDS)}")

    def engine(self, name: str) -> Engine:
        """Build an engine that stands where this run stands; the Lava graph holds the memory as well."""
        state = self.saved.state
        return open_engine(self.method, name, self.below.upper(state) if self.below else state)

    @property
    def finished(self) -> bool:
        """Whether the whole stream has been learned and measured."""
        return self.progress.place >= len(self.stream)

    def control_at(self, place: int) -> Control:
        """Step size of each layer at a place of the stream."""
        above = control_of_method(self.method, self.eta.log2_at(place)).of_layers(
            len(self.method.network.layers), self.config.rules
        )
        log2_eta = (*(None,) * self.config.latent, *(layer.log2_eta for layer in above))
        return Control(log2_eta=log2_eta, hold=self.config.hold)

    @property
    def frozen_layers(self) -> int:
        """Layers, from the first on, that never learn."""
        return self.config.latent + self.method.frozen_layers()

    # --- the loop ---

    def fit(self, engine: Engine, report: Callable[[Report], None] = lambda report: None) -> None:
        """Learn to the end of the stream, or until a stop is wanted.

        Ctrl-C and SIGTERM end it after the samples in hand, with a checkpoint; so does `stop_wanted = True`.
        """
        progress, first, began = self.progress, self.progress.place, time.monotonic()
        last_save = began
        if not progress.rows:
            self._measure(engine, None)
        self._watch(engine)
        with self.lock, stops_on_signals(self):
            while not self.finished and not self.stop_wanted:
                following = next(place for place in self.stops if place > progress.place)
                self.learn_to(engine, min(following, progress.place + self._part))
                if progress.place == following:
                    self._look(engine)
                if time.monotonic() - last_save > SAVE_EVERY_S:
                    self.save(engine)
                    last_save = time.monotonic()
                rate = (progress.place - first) / (time.monotonic() - began)
                report(Report(progress.place, len(self.stream), rate, progress))
            self.save(engine)

    @property
    def _part(self) -> int:
        return max(1, PART // self.config.step) * self.config.step

    def learn_to(self, engine: Engine, place: int) -> None:
        """Learn the samples up to a place of the stream, a multiple of the step."""
        progress, first = self.progress, self.progress.place
        begun = max((end for end in self.stream.ends if end <= first), default=0)
        learner = Learner(engine, self.method, self.below, first, first - begun)
        images, labels = self.stream.samples(first, place - first)
        began = time.monotonic()
        for end in (*(at for at in self._eta_places if first < at < place), place):
            part = slice(progress.place - first, end - first)
            learner.learn(images[part], labels[part], self.eta.log2_at(progress.place))
            progress.place = end
        if self.config.boundaries and place in self.stream.ends:
            learner.end_task()
        progress.seconds += time.monotonic() - began

    @cached_property
    def _eta_places(self) -> list[int]:
        """Places, in whole steps, from which on another step size holds."""
        return [-(-at // self.config.step) * self.config.step for at, _ in self.eta.steps]

    @cached_property
    def _probe_places(self) -> frozenset[int]:
        """Places, in whole steps, that cut each task of the stream in `probes` parts."""
        edges, step, number = (0, *self.stream.ends), self.config.step, self.config.probes
        if self.config.mixed:
            number *= len(self.tasks)
        return frozenset(
            begin + (end - begin) * i // (parts * step) * step
            for begin, end in pairwise(edges)
            for parts in [min(number, (end - begin) // step)]
            for i in range(1, parts + 1)
        )

    @cached_property
    def stops(self) -> list[int]:
        """Places at which something is measured."""
        return sorted({*self.stream.ends, *self._probe_places})

    def _look(self, engine: Engine) -> None:
        """Measure what is to be measured at this place; it counts for no activity."""
        self._count(engine)
        engine.watch(0)
        place, ends = self.progress.place, self.stream.ends
        if place in self._probe_places:
            so_far = len(self.tasks) if self.config.mixed else 1 + sum(end < place for end in ends)
            newest = self.tasks[max(0, so_far - (self.config.measured or so_far)) : so_far]
            few = [self.accuracy(engine, task, PROBE_IMAGES) for task in newest]
            self.progress.probes.append({"samples": place, "accuracy": float(np.mean(few))})
        if place in ends:
            self._measure(engine, ends.index(place))
        if self.finished:
            self.progress.trust = self._trust(engine)
        self._watch(engine)

    def _watch(self, engine: Engine) -> None:
        """Count from here on, with an engine that does."""
        engine.watch(self._watch_every if "counts activity" in engine.supports.abilities else 0)

    @property
    def _watch_every(self) -> int:
        updates = self._samples_learned // self.config.rules.batch
        return min(WATCH_EVERY, max(1, updates // WATCHED - 1) | 1)

    @property
    def _samples_learned(self) -> int:
        return self.config.learned_a_sample * len(self.stream)

    @property
    def unchanged(self) -> list[str]:
        """A line for each layer that was to learn and did not."""
        if isinstance(self.method, ReadOut):
            return []
        begin = initial_state(self.network, self.config.seed)
        return unchanged(self.network, self.config.rules, begin, self.saved.state, self.control_at(0))

    def _measured_at(self, ended: int | None) -> range:
        """Tasks that are measured where a part of the stream ends, None before its first sample."""
        T, newest = len(self.tasks), self.config.measured
        if newest is None or (ended is not None and ended == len(self.stream.ends) - 1):
            return range(T)
        return range(0) if ended is None else range(max(0, ended + 1 - newest), ended + 1)

    def _measure(self, engine: Engine, ended: int | None) -> None:
        trained = len(self.tasks) - 1 if self.config.mixed and ended is not None else ended
        for tested in self._measured_at(ended):
            accuracy = self.accuracy(engine, self.tasks[tested])
            self.progress.rows.append({"trained": trained, "tested": tested, "accuracy": accuracy})

    def accuracy(self, engine: Engine, task: Task, most: int | None = None) -> float:
        """Share of a task's test images, or the first `most` of them, that get the right answer."""
        images, labels = task.test_samples(most)
        return float((self.stream.answers(task, self._logits(engine, images)) == labels).mean())

    def _logits(self, engine: Engine, images: np.ndarray) -> np.ndarray:
        return engine.predict(self.below.see(images) if self.below else images)

    def _trust(self, engine: Engine) -> dict[str, float]:
        """How far the logits can be trusted; the temperature is chosen on training images of every task."""
        learned, asked = [], []
        for task in self.tasks:
            few = task.fewer(self._share(task.train), self._share(task.test))
            learned.append(self._answered(engine, task, few.training_samples(np.arange(len(few.train)))))
            asked.append(self._answered(engine, task, few.test_samples()))
        chosen_on, (logits, labels) = (
            [np.concatenate(column) for column in zip(*parts, strict=True)] for parts in (learned, asked)
        )
        unlike = None if self.unlike is None else self._logits(engine, self.unlike)
        return calibration.trust(logits, labels, calibration.best_temperature(*chosen_on), unlike)

    def _share(self, images: np.ndarray) -> int:
        """Images of a task, of as many of each as make TRUSTED of all."""
        return min(len(images), -(-TRUSTED // len(self.tasks)))

    def _answered(
        self, engine: Engine, task: Task, samples: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits of samples of a task, those of other tasks' outputs away where the task is known; labels."""
        images, labels = samples
        logits = self._logits(engine, images)
        if self.config.scenario == "task":
            logits[:, np.isin(np.arange(logits.shape[1]), task.outputs, invert=True)] = NOWHERE
        return logits, labels

    def _count(self, engine: Engine) -> None:
        progress, activity = self.progress, engine.activity()
        counts = np.pad(activity.counts, ((len(self.network.layers) - len(activity.counts), 0), (0, 0)))
        before = progress.counts or np.zeros_like(counts)
        progress.counts = (np.array(before) + counts).tolist()
        progress.counted += activity.samples

    # --- what stays ---

    @cached_property
    def _checksums(self) -> list[str]:
        return checksums_of(self.tasks)

    def save(self, engine: Engine) -> None:
        """Write the checkpoint; the memory first, under the name of its place, so that the two agree."""
        self._count(engine)
        extra = {
            "stream": asdict(self.config),
            "progress": asdict(self.progress),
            "data_sha256": self._checksums,
        }
        state = engine.state
        state = self.below.whole(state, self.config.rules) if self.below else state
        self.saved = Checkpoint(self.network, self.config.rules, state, extra)
        self.method.take_back(engine)
        with self.lock:
            if self.method.arrays:
                _write_arrays(self.folder / _memory_name(self.progress.place), self.method.arrays)
            checkpoint.save(self.folder / run_folder.CHECKPOINT, self.saved)
            for old in self.folder.glob(_memory_name("*")):
                if old.name != _memory_name(self.progress.place):
                    old.unlink()

    def record(self, engine_name: str) -> list[dict[str, Any]]:
        """What is kept of a finished run: a row of what it was and came to, then one a measurement."""
        progress, config = self.progress, self.config
        activity = Activity(progress.counted, np.array(progress.counts))
        head = {
            "kind": "run",
            "config": asdict(config),
            "heads": "one a task" if config.scenario == "task" else "one",
            "task id": "at test" if config.scenario == "task" else "never",
            "task boundaries": self._boundaries,
            "measured_on": config.held_out,
            "engine": engine_name,
            "network": str(self.network),
            "weights": self.network.n_weights,
            "memory_bytes": self._memory_bytes,
            **({"prototypes": memory.count} if isinstance(memory := self.method.memory, Prototypes) else {}),
            "samples": len(self.stream),
            "task_samples": np.diff((0, *self.stream.ends)).tolist(),
            "samples_learned": self._samples_learned,
            **(
                {
                    "weight_updates": round(sum(activity.a_sample("updates")) * self._samples_learned),
                    "activity": activity.to_json(),
                }
                if activity.samples
                else {}
            ),
            "unchanged": self.unchanged,
            "train_seconds": round(progress.seconds, 1),
            "data_sha256": self._checksums,
            "versions": run_folder.versions(),
            "tasks": [task.name for task in self.tasks],
            **self.summary(),
            **progress.trust,
        }
        rows = [("accuracy", row) for row in progress.rows] + [("probe", row) for row in progress.probes]
        return [head, *({"kind": kind, "seed": config.seed, **row} for kind, row in rows)]

    @property
    def _memory_bytes(self) -> int:
        """Bytes beside the network: samples, and importance with the steps it is made of."""
        importance = self.saved.state.importance or ()
        return self.method.bytes + sum(held.nbytes for held in importance)

    @property
    def _boundaries(self) -> str:
        if not self.config.boundaries:
            return "not told"
        return "told" if self.config.consolidation else "told, not used"

    def summary(self) -> dict[str, float]:
        """The measures of `metrics`; of joint training the final accuracy alone."""
        rows = self.progress.rows
        untrained = np.array([row["accuracy"] for row in rows if row["trained"] is None])
        R = metrics.matrix(rows, len(self.tasks))
        if self.config.mixed:
            return {"ACC": round(100 * metrics.final_accuracy(R), 3)}
        return metrics.summary(R, untrained if self.config.scenario != "class" and untrained.size else None)


def open_tasks(config: Config, data_dir: Path | None = None) -> tuple[Task, ...]:
    """Build the tasks of a run's stream."""
    tasks = tasks_of(
        config.stream, config.scenario, config.tasks, config.seed, config.validation, data_dir, config.base
    )
    if config.shots is not None:
        whole = 1 if config.base else 0
        tasks = (*tasks[:whole], *(task.few(config.shots, config.seed) for task in tasks[whole:]))
    return tuple(task.fewer(config.task_images, config.test_images) for task in tasks)


def open_unlike(config: Config, network: Network, data_dir: Path | None = None) -> np.ndarray | None:
    """Test images of what a run never meets, if it is asked of such."""
    if not config.unlike:
        return None
    found = np.asarray(datasets.load(config.unlike, data_dir).test_images[:TRUSTED])
    network.check_images(found)
    return found


def stream_of(config: Config, tasks: tuple[Task, ...]) -> Stream:
    """Put the tasks of a run in order."""
    return Stream(tasks, config.scenario, config.seed, config.passes, config.step, config.mixed)


def network_of(config: Config, tasks: tuple[Task, ...], signed: bool | None = None) -> Network:
    """Build the network of a run for the images of its stream; `signed` as they were read before, or None."""
    data, outputs = tasks[0].data, stream_of(config, tasks).outputs
    signed = data.signed if signed is None else signed
    return Network.parse(config.network, data.train_images.shape[1:], outputs, config.bits, signed)


def checksums_of(tasks: tuple[Task, ...]) -> list[str]:
    """Checksum of each data set that the tasks are made from."""
    return [data.checksum for data in dict.fromkeys(task.data for task in tasks)]


def _memory_name(place: int | str) -> str:
    return f"memory-{place}.npz"


def _write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    with written_whole(path) as file:
        np.savez(file, **arrays)


def _read_arrays(path: Path, like: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    try:
        with ArrayFile.open(path) as file:
            for name, wanted in like.items():
                form = file.forms[name]
                if form.shape != wanted.shape or form.dtype != wanted.dtype:
                    found = f"{form.dtype} {form.shape}"
                    raise CheckpointError(f"{path}: {name} {found}: want {wanted.dtype} {wanted.shape}")
            return {name: file.read(name) for name in like}
    except DAMAGE as error:
        raise CheckpointError(f"{path}: not a whole memory ({error})") from None
