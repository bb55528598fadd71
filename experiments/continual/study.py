"""A continual learner at work: its settings, its run over a stream, exact resume, its record."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np

from experiments.continual import metrics
from experiments.continual.streams import SCENARIOS, Stream, Task, tasks_of
from experiments.datasets.augment import Augment
from experiments.engines import holds_memory, make_engine, make_prototype_engine
from experiments.runs import run_folder
from experiments.runs.forms import Measured, Number, Probe, config_of
from experiments.runs.stopping import stops_on_signals
from experiments.runs.training import Config as Training
from experiments.runs.training import doubt_of
from experiments.runs.unchanged import unchanged
from wage_neuro import checkpoint
from wage_neuro.activity import FIELDS, Activity
from wage_neuro.arrays import DAMAGE, ArrayFile
from wage_neuro.bits import code_dtype
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.control import Control
from wage_neuro.engine import Engine
from wage_neuro.errors import CheckpointError, EngineError, SettingError
from wage_neuro.eta import EtaSchedule
from wage_neuro.files import written_whole
from wage_neuro.layers import UNKNOWN
from wage_neuro.memory import Replay, Reservoir
from wage_neuro.network import Network
from wage_neuro.prototypes import Prototypes
from wage_neuro.registry import Registry
from wage_neuro.rules import Rules
from wage_neuro.settings import DATA, NETWORK, RULE, check_settings, like, setting
from wage_neuro.train import initial_state
from wage_neuro.typed import Count, checked, reading

MEMORY = 2000  # samples, where a method recalls and no other size is given
PART = 500  # new samples that the engine is given at once
SAVE_EVERY_S = 60.0
LOOK_AHEAD = 100  # steps whose logits may be kept together
PROBE_IMAGES = 100  # of each task's test images
WATCHED = 50  # update steps are counted at least, all of them in a shorter run
WATCH_EVERY = 101  # update steps at most; odd, so that new and recalled samples are both counted
Kept = Reservoir | Prototypes
"""What a method may hold beside the network; it is saved with the run."""


@dataclass(frozen=True)
class Method:
    """What a learner is made of.

    Attributes
    ----------
    recalls : a memory gives as many samples again as are new
    keeps_logits : recalled samples are also drawn to what the network answered to them when they were new
    frozen : only the last layer learns, from what the random ternary weights below make of an image
    prototypes : in the place of the last layer; the memory is the room for them
    mixed : the tasks come at once
    metaplasticity, consolidation : bits of both in `Rules` where no others are given
    """

    what: str
    recalls: bool = False
    keeps_logits: bool = False
    frozen: bool = False
    mixed: bool = False
    prototypes: bool = False
    metaplasticity: int = 0
    consolidation: int = 0

    @property
    def keeps(self) -> bool:
        """Whether it has a memory."""
        return self.recalls or self.prototypes


CALLED = {
    **dict.fromkeys(("ewc", "online-ewc", "si", "synaptic-intelligence", "mas", "lwf"), "consolidation"),
    **dict.fromkeys(("er", "experience-replay", "rehearsal", "gem", "agem"), "replay"),
    **dict.fromkeys(("der", "der++", "dark-experience-replay"), "replay-logits"),
    **dict.fromkeys(("finetune", "fine-tuning", "sgd", "none"), "naive"),
    **dict.fromkeys(("icarl", "ncm", "nearest-mean"), "prototypes"),
    **dict.fromkeys(("offline", "multitask", "iid"), "joint"),
}
"""What the literature calls them, or what is nearest to it here."""
METHODS: Registry[Method] = Registry(
    "method",
    "wage_neuro.methods",
    Method,
    {
        "naive": Method("the stream as it comes"),
        "joint": Method("all tasks at once, shuffled; as many samples", mixed=True),
        "replay": Method("new samples and as many from a memory", recalls=True),
        "replay-logits": Method(
            "replay, and the answers of the time are kept and held on to (DER++)",
            recalls=True,
            keeps_logits=True,
        ),
        "features": Method(
            "fixed random ternary features, the last layer learns by the delta rule", frozen=True
        ),
        "features-replay": Method("the same with a memory", recalls=True, frozen=True),
        "prototypes": Method(
            "on such features, the nearest prototype answers; an error or a narrow lead allots a new one",
            frozen=True,
            prototypes=True,
        ),
        "metaplastic": Method(
            "the larger a stored weight, the less it moves back towards 0", metaplasticity=2
        ),
        "consolidation": Method(
            "synapses that moved much in a task move less after it; needs task boundaries", consolidation=7
        ),
    },
    called=CALLED,
)


@dataclass(frozen=True, kw_only=True)
class OneByOne:
    """How a learner of a stream of samples learns; shared by continual and transfer learning."""

    eta: str = setting(
        "8", "Step size, a power of two; `8, 2@80%` changes it after 80 % of the samples.", RULE
    )
    loss: str = like(Rules, "loss", default="one-sided")
    margin: int = like(Rules, "margin", default=3)
    update: str = like(Rules, "update", default="ternary")
    hold: int = like(Rules, "hold")
    seed: int = setting(0, "The first seed; it names every random bit.", RULE)
    validation: int = like(Training, "validation")

    @property
    def held_out(self) -> str:
        """Name of the part that the run is measured on."""
        return "validation" if self.validation else "test"


@dataclass(frozen=True, kw_only=True)
class Config(OneByOne):
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
    method: str = setting(
        "replay",
        "; ".join(f"`{name}`: {m.what}" for name, m in METHODS.items()) + ".",
        RULE,
        complete=tuple(METHODS),
    )
    memory: int = setting(
        MEMORY, "Samples that are kept, or prototypes.", RULE, shown=f"{MEMORY} where the method keeps any"
    )
    network: str = setting("400FC-400FC", "Hidden layers, as in `train`.", NETWORK)
    bits: str = like(Training, "bits")
    passes: int = setting(1, "Passes over each task before the next.", RULE)
    step: int = setting(1, "New samples learned together, with as many recalled; 1: one at a time.", RULE)
    probes: int = setting(
        5,
        "Times in each task that the accuracy is measured on some test images of the tasks so far.",
        DATA,
        least=0,
    )
    margin: int = like(
        OneByOne,
        "margin",
        what="Skip samples whose right output leads by this share of the target; prototypes: by this share"
        " of the distance to the nearest wrong one.",
    )
    augment: str = setting("none", "`crop1` shifts new and recalled images by up to a pixel; `none`.", DATA)
    new_shift: int = like(Rules, "new_shift", option=True)
    metaplasticity: int = like(
        Rules,
        "metaplasticity",
        option=True,
        shown=f"{METHODS['metaplastic'].metaplasticity} with `metaplastic`, else 0",
    )
    consolidation: int = like(
        Rules,
        "consolidation",
        option=True,
        shown=f"{METHODS['consolidation'].consolidation} with `consolidation`, else 0",
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

    def __post_init__(self) -> None:
        eta_of(self.eta, 100)
        if Augment.parse(self.augment).window:
            raise SettingError(f"augment={self.augment!r}: a stream's tasks show whole images")
        if Augment.parse(self.augment).pad and self.stream.startswith("permuted-"):
            raise SettingError(
                f"augment={self.augment!r} with {self.stream!r}: its pixels have no neighbours"
            )
        METHODS.find(self.method)
        if METHODS[self.method].keeps and self.memory < 1:
            raise SettingError(f"memory={self.memory} with method {self.method!r}: want room for 1 or more")
        if not METHODS[self.method].keeps and self.memory:
            raise SettingError(f"memory={self.memory} with method {self.method!r}: it keeps no samples")
        if self.new_shift and not METHODS[self.method].recalls:
            raise SettingError(
                f"new_shift={self.new_shift} with method {self.method!r}: it recalls no samples"
            )
        check_settings(self)
        for name in ("metaplasticity", "consolidation"):
            if getattr(METHODS[self.method], name) and not getattr(self, name):
                raise SettingError(f"{name}=0 with method {self.method!r}: want 1 bit or more")
        if self.consolidation and not self.boundaries:
            raise SettingError(
                f"consolidation={self.consolidation} on a stream without task boundaries: it acts where a"
                " task ends, so want --boundaries"
            )
        if self.boundaries and METHODS[self.method].mixed:
            raise SettingError(f"boundaries with method {self.method!r}: its tasks come at once")
        _ = self.rules

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Config:
        newer = {each.name for each in fields(cls)} - {"stream", "seed"}
        return config_of(cls, values, newer)

    @property
    def rules(self) -> Rules:
        """How the weights learn: from one sample at a time, or from a step's new and recalled samples."""
        together = 2 * self.step if METHODS[self.method].recalls else self.step
        batch = 1 if self.step == 1 else together
        return Rules(
            batch=batch,
            shift="held",
            hold=self.hold,
            update=self.update,
            loss=self.loss,
            margin=self.margin,
            new_shift=self.new_shift,
            metaplasticity=self.metaplasticity,
            consolidation=self.consolidation,
        )

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
    """

    place: Count = 0
    rows: Annotated[list[dict[str, Any]], list[Measured]] = field(default_factory=list)
    probes: Annotated[list[dict[str, Any]], list[Probe]] = field(default_factory=list)
    counted: Count = 0
    counts: list[list[Count]] = field(default_factory=list)
    seconds: Number = 0.0


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
        self.method = METHODS[config.method]
        self.stream = stream_of(config, tasks)
        self.network = saved.network
        self.augment = Augment.parse(config.augment)
        self.eta = eta_of(config.eta, len(self.stream))
        self.progress = Progress()
        self.memory: Kept | None = None
        if self.method.prototypes:
            features = self.network.layers[-1].in_shape[0]
            dtype = code_dtype(self.network.bits.k_A)
            self.memory = Prototypes.empty(config.memory, features, dtype, config.seed, config.margin)
        if self.method.recalls:
            shape = tasks[0].data.train_images.shape[1:]
            self.memory = Reservoir.empty(
                config.memory, shape, self.stream.outputs, config.seed, self.method.keeps_logits
            )
        self.is_new, self.stop_wanted = True, False
        self.lock = run_folder.Lock(folder)

    @classmethod
    def start(cls, config: Config, folder: Path, data_dir: Path | None = None) -> Run:
        """Begin a run in an empty folder."""
        tasks = open_tasks(config, data_dir)
        network = network_of(config, tasks)
        doubt_of(config.network, network.classes)
        return cls(
            folder, config, tasks, Checkpoint(network, config.rules, initial_state(network, config.seed))
        )

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
            if config.seed != saved.state.seed:
                raise CheckpointError(f"stream.seed={config.seed}: its weights are of {saved.state.seed}")
        tasks, progress = open_tasks(config, data_dir), extra["progress"]
        if checksums_of(tasks) != extra["data_sha256"]:
            raise CheckpointError(f"{folder}: the data of {config.stream!r} has changed since this run began")
        signed = saved.network.signed_input if ".npz" in config.stream else None  # by colours, since then
        if network_of(config, tasks, signed) != saved.network or config.rules != saved.rules:
            raise CheckpointError(f"{folder}: its checkpoint holds another network ({saved.network})")
        run = cls(folder, config, tasks, saved)
        with reading(folder, "checkpoint of a continual run"):
            run.check(progress)
        run.progress, run.is_new = progress, False
        if run.memory:
            run.memory = _read_memory(folder / _memory_name(progress.place), run.memory, progress.place)
        return run

    def check(self, progress: Progress) -> None:
        """Raise CheckpointError unless this run can be as far as `progress` says, with what was measured."""
        place, ends = progress.place, self.stream.ends
        if place > len(self.stream):
            raise CheckpointError(f"progress.place={place}: its stream has {len(self.stream)} samples")
        wanted = {
            "rows": (len(self.tasks) * (1 + sum(end <= place for end in ends)), bool(place)),
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
        if isinstance(self.memory, Prototypes):
            return make_prototype_engine(name, self.network, self.config.rules, self.saved.state, self.memory)
        replay = None
        if self.memory and holds_memory(name):
            replay = Replay(self.memory, self.config.step, self._augmented)
        engine = make_engine(name, self.network, self.config.rules, self.saved.state, replay=replay)
        abilities = engine.supports.abilities
        if self.method.keeps_logits and not replay and "recalls former logits" not in abilities:
            engine.close()
            raise EngineError(f"engine {name!r} with method {self.config.method!r}: it learns labels alone")
        if self.config.consolidation and "consolidates" not in abilities:
            engine.close()
            raise EngineError(f"engine {name!r} with consolidation: it cannot be told that a task has ended")
        return engine

    @property
    def finished(self) -> bool:
        """Whether the whole stream has been learned and measured."""
        return self.progress.place >= len(self.stream)

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
        images, labels = self.stream.samples(first, place - first)
        began = time.monotonic()
        for end in (*(at for at in self._eta_places if first < at < place), place):
            while progress.place < end:
                count = self._at_once(engine, end - progress.place)
                part = slice(progress.place - first, progress.place - first + count)
                self._learn(engine, images[part], labels[part])
                progress.place += count
        if self.config.consolidation and place in self.stream.ends:
            engine.consolidate(self._updates_of_task(self.stream.ends.index(place)))
        progress.seconds += time.monotonic() - began

    def _at_once(self, engine: Engine, n: int) -> int:
        """How many of n samples the engine can be given; logits must be kept before they are recalled."""
        if not (self.method.keeps_logits and isinstance(self.memory, Reservoir)) or _replays(engine):
            return n
        return self.memory.steps_apart(min(n, LOOK_AHEAD * self.config.step), self.config.step)

    def _updates_of_task(self, task: int) -> int:
        samples = np.diff((0, *self.stream.ends))[task] * (2 if self.memory else 1)
        return int(samples) // self.config.rules.batch

    def _learn(self, engine: Engine, images: np.ndarray, labels: np.ndarray) -> None:
        step, control = self.config.step, self.control_at(self.progress.place)
        if not isinstance(self.memory, Reservoir):
            engine.train(self._augmented(images, self.progress.place), labels, control)
            return
        if _replays(engine):
            engine.train_new(images, labels, control)
            return
        mixed = self.memory.interleave(images, labels, step)
        images = self._augmented(mixed.images, 2 * self.progress.place)
        if not self.method.keeps_logits:
            engine.train(images, mixed.labels, control)
            return
        outputs = self.stream.outputs
        former = np.full((len(labels) // step, 2, step, outputs), UNKNOWN)
        former[:, 1] = self.memory.former_logits(mixed.recalled).reshape(-1, step, outputs)
        logits = engine.train_recalling(images, mixed.labels, former.reshape(-1, outputs), control)
        self.memory.keep_logits(mixed.kept, logits.reshape(former.shape)[:, 0].reshape(-1, outputs))

    @cached_property
    def _eta_places(self) -> list[int]:
        """Places, in whole steps, from which on another step size holds."""
        return [-(-at // self.config.step) * self.config.step for at, _ in self.eta.steps]

    def control_at(self, place: int) -> Control:
        """Step size of each layer at a place of the stream."""
        log2_eta, layers = self.eta.log2_at(place), len(self.network.layers)
        frozen = (None,) * (layers - 1) if self.method.frozen else ()
        return Control(log2_eta=(*frozen, *(log2_eta,) * (layers - len(frozen))))

    def _augmented(self, images: np.ndarray, first: int) -> np.ndarray:
        return self.augment.apply(images, self.config.seed, 0, slice(first, first + len(images)))

    @cached_property
    def _probe_places(self) -> frozenset[int]:
        """Places, in whole steps, that cut each task of the stream in `probes` parts."""
        edges, step, number = (0, *self.stream.ends), self.config.step, self.config.probes
        if self.method.mixed:
            number *= len(self.tasks)
        return frozenset(
            begin + (end - begin) * i // (number * step) * step
            for begin, end in pairwise(edges)
            for i in range(1, number + 1)
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
            so_far = len(self.tasks) if self.method.mixed else 1 + sum(end < place for end in ends)
            few = [self.accuracy(engine, task, PROBE_IMAGES) for task in self.tasks[:so_far]]
            self.progress.probes.append({"samples": place, "accuracy": float(np.mean(few))})
        if place in ends:
            self._measure(engine, len(self.tasks) - 1 if self.method.mixed else ends.index(place))
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
        return (2 if self.method.recalls else 1) * len(self.stream)

    @property
    def unchanged(self) -> list[str]:
        """A line for each layer that was to learn and did not."""
        if self.method.prototypes:
            return []
        begin = initial_state(self.network, self.config.seed)
        return unchanged(self.network, self.config.rules, begin, self.saved.state, self.control_at(0))

    def _measure(self, engine: Engine, trained: int | None) -> None:
        for tested, task in enumerate(self.tasks):
            accuracy = self.accuracy(engine, task)
            self.progress.rows.append({"trained": trained, "tested": tested, "accuracy": accuracy})

    def accuracy(self, engine: Engine, task: Task, most: int | None = None) -> float:
        """Share of a task's test images, or the first `most` of them, that get the right answer."""
        images, labels = task.test_samples(most)
        return float((self.stream.answers(task, engine.predict(images)) == labels).mean())

    def _count(self, engine: Engine) -> None:
        progress, activity = self.progress, engine.activity()
        before = progress.counts or np.zeros_like(activity.counts)
        progress.counts = (np.array(before) + activity.counts).tolist()
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
        self.saved = Checkpoint(self.network, self.config.rules, engine.state, extra)
        if isinstance(self.memory, Prototypes):
            self.memory = engine.prototypes  # type: ignore[attr-defined]
        if _replays(engine):
            self.memory = engine.read_memory()
        with self.lock:
            if self.memory:
                _write_memory(self.folder / _memory_name(self.progress.place), self.memory)
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
            **({"prototypes": self.memory.count} if isinstance(self.memory, Prototypes) else {}),
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
        }
        rows = [("accuracy", row) for row in progress.rows] + [("probe", row) for row in progress.probes]
        return [head, *({"kind": kind, "seed": config.seed, **row} for kind, row in rows)]

    @property
    def _memory_bytes(self) -> int:
        """Bytes beside the network: samples, and importance with the steps it is made of."""
        importance = self.saved.state.importance or ()
        return (self.memory.bytes if self.memory else 0) + sum(held.nbytes for held in importance)

    @property
    def _boundaries(self) -> str:
        if not self.config.boundaries:
            return "not told"
        return "told" if self.config.consolidation else "told, not used"

    def summary(self) -> dict[str, float]:
        """The measures of `metrics`; of joint training the final accuracy alone."""
        rows, T = self.progress.rows, len(self.tasks)
        untrained = np.array([row["accuracy"] for row in rows[:T]])
        R = np.array([row["accuracy"] for row in rows[T:]]).reshape(-1, T)
        if self.method.mixed:
            return {"ACC": round(100 * metrics.final_accuracy(R), 3)}
        return metrics.summary(R, None if self.config.scenario == "class" else untrained)


def _replays(engine: Engine) -> bool:
    """Whether the engine holds the memory."""
    return engine.replay is not None


def eta_of(text: str, length: int) -> EtaSchedule:
    """Step sizes of a stream, their places given in whole percent of its length.

    >>> eta_of("8, 2@80%", 60_000).steps
    ((0, 3), (48000, 1))
    """
    if re.search(r"@(?!\s*\d{1,2}%)", text):
        raise SettingError(
            f"eta {text!r}: want a whole percentage of the stream after the @, such as 8, 2@80%"
        )
    return EtaSchedule.parse(re.sub(r"@\s*(\d+)%", lambda m: f"@{length * int(m[1]) // 100}", text))


def open_tasks(config: Config, data_dir: Path | None = None) -> tuple[Task, ...]:
    """Build the tasks of a run's stream."""
    tasks = tasks_of(config.stream, config.scenario, config.tasks, config.seed, config.validation, data_dir)
    return tuple(task.fewer(config.task_images, config.test_images) for task in tasks)


def stream_of(config: Config, tasks: tuple[Task, ...]) -> Stream:
    """Put the tasks of a run in order."""
    mixed = METHODS[config.method].mixed
    return Stream(tasks, config.scenario, config.seed, config.passes, config.step, mixed)


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


def _write_memory(path: Path, memory: Kept) -> None:
    with written_whole(path) as file:
        arrays: dict[str, Any] = dict(memory.arrays)
        np.savez(file, **arrays)


def _read_memory(path: Path, empty: Kept, seen: int) -> Kept:
    try:
        with ArrayFile.open(path) as file:
            for name, wanted in empty.arrays.items():
                form = file.forms[name]
                if form.shape != wanted.shape or form.dtype != wanted.dtype:
                    found = f"{form.dtype} {form.shape}"
                    raise CheckpointError(f"{path}: {name} {found}: want {wanted.dtype} {wanted.shape}")
            arrays: dict[str, Any] = {name: file.read(name) for name in empty.arrays}
    except DAMAGE as error:
        raise CheckpointError(f"{path}: not a whole memory ({error})") from None
    return replace(empty, **arrays, seen=seen)
