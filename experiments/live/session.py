"""A training that is seen and steered: two networks that learn the same, one of them with a memory.

A session knows nothing of pages and sockets. It is told what to do in commands, learns a little at each
`advance`, and says in `frame` what there is to see. It belongs to one thread.
"""

from __future__ import annotations

import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.continual.settings import Learning, OneByOne
from experiments.datasets import Dataset
from experiments.datasets.augment import Augment
from experiments.datasets.base import middle
from experiments.engines import make_engine
from experiments.live import commands as told
from experiments.live.commands import Command
from experiments.live.drawing import image_of
from experiments.live.learners import NAMES, Learner, check_memory
from experiments.live.look import moved, packed, seen
from experiments.runs import run_folder
from experiments.runs.training import Config as Training
from experiments.runs.training import load_for
from mappings.formats.registry import FORMATS
from wage_neuro import checkpoint
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.control import Control
from wage_neuro.engine import Engine
from wage_neuro.errors import SettingError
from wage_neuro.eta import log2_of
from wage_neuro.files import written_whole
from wage_neuro.memory import MemoryForm, Reservoir
from wage_neuro.network import Network
from wage_neuro.random_bits import permutation
from wage_neuro.rules import Rules
from wage_neuro.settings import RULE, like, setting
from wage_neuro.specs import assert_never
from wage_neuro.state import State, initial_state
from wage_neuro.train import predict

UPDATES = 20
"""Frames a second."""
LEARNING = 0.5  # of a frame's time, where it learns as fast as it can
MEASURING = 0.2  # of the time, at most
MEASURED = 500  # images, evenly of all classes
POINTS = 240  # of the curve: where there are more, every second one is left out
NEW = 2  # classes that the data set has not
SHIFT = Augment.parse("crop1")
"""A lesson shows each drawing moved by up to a pixel, another way each time."""
REMEMBERED = 40  # samples of the memory are shown
KEPT = 100  # drawings that a lesson can be of
ANSWERING = ("nir", "nir-if", "netx", "packed", "program", "onnx", "onnx-qlinear", "qonnx")
"""Formats of one file, to be fetched."""


@dataclass(frozen=True, kw_only=True)
class Config(OneByOne):
    """What a session begins with."""

    data: str = like(Training, "data", default="digits")
    network: str = like(Training, "network", default="128FC")
    bits: str = like(Training, "bits")
    eta: str = setting("4", "Step size to begin with, a power of two.", RULE)
    memory: int = setting(200, "Samples that the network with a memory keeps.", RULE, least=1)
    keep: str = like(Learning, "keep", default="balanced")

    @property
    def rules(self) -> Rules:
        """One sample at a time, as on a chip."""
        return Rules(
            batch=1, shift="held", hold=self.hold, update=self.update, loss=self.loss, margin=self.margin
        )


def fresh(config: Config, data: Dataset) -> Checkpoint:
    """A new network, with outputs for new classes."""
    network = Network.parse(config.network, data.input_shape, data.classes + NEW, config.bits, data.signed)
    return Checkpoint(
        network, config.rules, initial_state(network, config.seed), {"config": {"data": config.data}}
    )


def opened(run: Path, data_dir: Path | None) -> tuple[Checkpoint, Dataset]:
    """The network of a run, and its data.

    Raises
    ------
    CheckpointError, SettingError
        If there is none, or what it learned from is not known.
    """
    saved = run_folder.load(run)
    name = saved.extra.get("config", {}).get("data")
    if name is None:
        raise SettingError(f"{run}: does not say what it learned from; want the folder of `wage-neuro train`")
    data = load_for(saved, name, data_dir)
    saved.network.check_images(np.asarray(data.test_images[:1]))
    return saved, data


def names_of(saved: Checkpoint, data: Dataset) -> list[str]:
    """What the classes are called: as a session of before has named them, or by the data set."""
    known, classes = saved.extra.get("names"), saved.network.classes
    if isinstance(known, list) and len(known) == classes and all(isinstance(name, str) for name in known):
        return known
    new = (f"new {chr(ord('A') + i)}" for i in range(classes - data.classes))
    return [*map(data.called, range(min(data.classes, classes))), *new]


class View(ABC):
    """A network that is looked into: what is shown, and how well it answers."""

    learners: Sequence[str]

    def __init__(self, saved: Checkpoint, data: Dataset) -> None:
        self.saved, self.network, self.rules, self.data = saved, saved.network, saved.rules, data
        self.names = names_of(saved, data)
        self.places = evenly(data.test_labels, MEASURED)
        self.images, self.labels = np.asarray(data.test_images[self.places]), data.test_labels[self.places]
        self.example = -1
        self.curve: list[list[float]] = []
        self._measured_at, self._measuring = 0.0, 0.0
        self.accuracy: list[list[float | None]] = []
        self.show(told.Example())

    @property
    @abstractmethod
    def states(self) -> list[State]:
        """Of each network."""

    @abstractmethod
    def advance(self) -> None:
        """Do what there is to do, no longer than a frame takes."""

    @abstractmethod
    def do(self, command: Command) -> None:
        """Carry out a command; WageError if it cannot be."""

    @abstractmethod
    def frame(self) -> dict[str, Any]:
        """What there is to see now, as JSON."""

    def pause(self) -> None:  # noqa: B027
        """Let `advance` do nothing more for now."""

    @property
    def active(self) -> bool:
        """Whether `advance` has anything to do."""
        return True

    @property
    def period(self) -> float:
        """Seconds from one `advance` to the next."""
        return 1 / UPDATES

    def save(self) -> str:
        """Write what would be lost; where it is."""
        raise SettingError("save: want a session that learns")

    def close(self) -> None:  # noqa: B027  (a watched run holds nothing)
        """Free what it holds."""

    # --- what is shown ---

    def show(self, command: told.Draw | told.Example) -> None:
        """Show a drawing or an example."""
        if isinstance(command, told.Draw):
            self._check_label(command.label)
            image = image_of(command.strokes, self.network.input_shape)
            self.shown, self.label, self.source = image, command.label, "drawing"
            return
        self._check_label(command.label)
        for _ in range(len(self.labels)):
            self.example = (self.example + 1) % len(self.labels)
            if command.label in (None, self.labels[self.example]):
                break
        else:
            raise SettingError(f"label={command.label}: there are no images of it")
        label = int(self.labels[self.example])
        self.shown, self.label, self.source = self.images[self.example], label, "example"

    def _check_label(self, label: int | None) -> None:
        if label is not None and label >= self.network.classes:
            raise SettingError(f"label={label}: want 0..{self.network.classes - 1}")

    def _look(self, state: State) -> dict[str, Any]:
        return {
            "source": self.source,
            "label": self.label,
            "image": packed(self.shown, "u1"),
            **seen(self.network, state, self.rules, self.shown, self.label),
        }

    # --- how well it answers ---

    def measure(self, at_once: bool = False) -> None:
        """Measure every network, as often as there is time for."""
        began = time.monotonic()
        if not at_once and began - self._measured_at < self._measuring / MEASURING:
            return
        self.accuracy = [self._by_class(state) for state in self.states]
        self._measured_at = time.monotonic()
        self._measuring = self._measured_at - began

    def _by_class(self, state: State) -> list[float | None]:
        images, labels = self._questions()
        right = predict(self.network, state, self.network.encode(images)).argmax(axis=1) == labels
        found = (right[labels == label] for label in range(self.network.classes))
        return [float(of.mean()) if len(of) else None for of in found]

    def _questions(self) -> tuple[np.ndarray, np.ndarray]:
        return self.images, self.labels

    def overall(self, accuracy: Sequence[float | None]) -> float:
        """Mean accuracy over the classes of the data set."""
        return float(np.mean([a for a in accuracy[: self.data.classes] if a is not None]))

    def about(self) -> dict[str, Any]:
        """What does not change."""
        return {
            "network": str(self.network).removeprefix("F-"),
            "weights": self.network.n_weights,
            "bits": str(self.network.bits),
            "data": self.data.name,
            "classes": self.data.classes,
            "input": list(self.network.input_shape),
            "activation_max": self.network.bits.activation_max,
            "error_max": self.network.bits.error_max,
            "learners": list(self.learners),
            "layers": [str(layer) for layer in self.network.layers],
            "measured": len(self.labels),
            "rules": asdict(self.rules),
        }


@dataclass(frozen=True)
class Point:
    """Where a session stood before something that can be undone."""

    what: str
    learners: list[Any]
    samples: int = 0
    place: int = 0
    curve: tuple[list[float], ...] = ()
    marks: tuple[list[Any], ...] = ()


class Session(View):
    """Two networks that learn the same samples, and what a visitor has done to them.

    Parameters
    ----------
    saved : where both begin
    data : what they learn
    engine, options : as of `make_engine`
    """

    learners = NAMES

    def __init__(self, saved: Checkpoint, data: Dataset, config: Config, engine: str, **options: Any) -> None:
        check_memory(config.memory, saved.rules.batch)
        self.engine, self.options, self.seed = engine, options, config.seed
        self.log2_eta, self.frozen = log2_of(config.eta), [False] * len(saved.network.layers)
        self._labels = data.train_labels
        self._choose(range(data.classes))
        self.drawings: list[tuple[np.ndarray, int]] = []
        self.samples, self.place, self.lately = 0, 0, 0
        self.on, self.looked = False, 0
        self.pace: int | None = None
        self.lesson: list[np.ndarray] = []
        self.lessons = 0
        self.verdict: dict[str, Any] | None = None
        self.marks: list[list[Any]] = []
        self.folder: Path | None = None
        self.unsaved = False
        self.at_once = 1
        memory = Reservoir.empty(
            config.memory,
            data.input_shape,
            saved.network.classes,
            config.seed,
            form=MemoryForm(keep=config.keep),
        )
        with ExitStack() as built:
            self._network, self._rules = saved.network, saved.rules
            self.pair = []
            for kept in (None, memory):
                self.pair.append(Learner(self._build, saved.state, kept))
                built.callback(self.pair[-1].engine.close)
            super().__init__(saved, data)
            built.pop_all()
        self.begin = Point("begin", [learner.kept() for learner in self.pair])
        self.before: Point | None = None
        self._look_into(0)
        self.count(at_once=True)

    def _build(self, state: State) -> Engine:
        return make_engine(self.engine, self._network, self._rules, state, **self.options)

    @property
    def states(self) -> list[State]:
        return [learner.state for learner in self.pair]

    def close(self) -> None:
        for learner in self.pair:
            learner.engine.close()

    # --- learning ---

    @property
    def active(self) -> bool:
        return self.on or bool(self.lesson)

    def pause(self) -> None:
        self.on, self.lesson = False, []

    @property
    def period(self) -> float:
        return 1 / (self.pace if self.pace and not self.lesson else UPDATES)

    @property
    def control(self) -> Control:
        """Step size of each layer as it is set now."""
        return Control(log2_eta=tuple(None if frozen else self.log2_eta for frozen in self.frozen))

    def advance(self) -> None:
        """Learn some samples: a drawing of a lesson, or what comes from the data set."""
        batch = self.rules.batch
        if self.lesson:
            self.learn(np.stack([self.lesson.pop(0)] * batch), np.full(batch, self._taught))
            if not self.lesson:
                self._end_lesson()
        elif self.on:
            began = time.monotonic()
            n = batch * (1 if self.pace else self.at_once)
            self.learn(*self._next(n))
            seconds = time.monotonic() - began
            share = LEARNING / UPDATES / max(seconds, 1e-6)
            self.at_once = max(1, min(int(self.at_once * share), 2 * self.at_once))
        self.count()

    def learn(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Let both networks learn whole batches; the first sample is shown, as it was met."""
        self._before = self.pair[self.looked].state
        for learner in self.pair:
            learner.learn(images, labels, self.control)
        self.samples, self.lately = self.samples + len(images), len(images)
        self.unsaved = True
        if self.source == "stream":
            self.shown, self.label = images[0], int(labels[0])

    def _next(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The next samples of the chosen classes: epoch after epoch, each in an order of its own."""
        index = np.empty(0, np.int64)
        while len(index) < n:
            epoch, first = divmod(self.place, len(self._mine))
            part = self._order(epoch)[first : first + n - len(index)]
            index, self.place = np.concatenate([index, part]), self.place + len(part)
        images = np.asarray(self.data.train_images[index])
        if self.data.window:
            images = middle(images, self.data.window)
        return images, self.data.train_labels[index]

    def _choose(self, which: Iterable[int]) -> None:
        self.which = sorted(set(which))
        self._mine = np.flatnonzero(np.isin(self._labels, self.which))
        self._ordered: tuple[int, np.ndarray] = -1, self._mine

    def _order(self, epoch: int) -> np.ndarray:
        if self._ordered[0] != epoch:
            self._ordered = epoch, self._mine[permutation(self.seed, epoch, len(self._mine))]
        return self._ordered[1]

    def count(self, at_once: bool = False) -> None:
        """Measure, and go on with the curve."""
        before = self._measured_at
        self.measure(at_once)
        if self._measured_at == before or (self.curve and self.curve[-1][0] == self.samples):
            return
        self.curve.append([self.samples, *(round(self.overall(each), 4) for each in self.accuracy)])
        if len(self.curve) > POINTS:
            self.curve = [*self.curve[:-1:2], self.curve[-1]]

    def _questions(self) -> tuple[np.ndarray, np.ndarray]:
        """Images of the data set, and of a new class the drawings that were kept."""
        own = [(image, label) for image, label in self.drawings if label >= self.data.classes]
        if not own:
            return self.images, self.labels
        images, labels = zip(*own, strict=True)
        return np.concatenate([self.images, np.stack(images)]), np.concatenate([self.labels, labels])

    # --- what it is told ---

    def do(self, command: Command) -> None:
        match command:
            case told.Train(on):
                self.on = on
                if on:
                    self.source, self.verdict = "stream", None
            case told.Pace(samples):
                self.pace = samples
            case told.Classes(which):
                wrong = [label for label in which if label >= self.data.classes]
                if wrong or not which:
                    raise SettingError(f"classes {which}: want one or more of 0..{self.data.classes - 1}")
                self._choose(which)
            case told.Draw() | told.Example():
                self.show(command)
            case told.Follow():
                self.source = "stream"
            case told.Learn(label):
                self._check_label(label)
                self.label = label
                self.learn(np.stack([self.shown] * self.rules.batch), np.full(self.rules.batch, label))
                self.count(at_once=True)
            case told.Keep(label):
                self._keep(label)
            case told.Drop(place):
                if place >= len(self.drawings) or self.lesson:
                    raise SettingError(f"place={place}: want 0..{len(self.drawings) - 1}, between lessons")
                del self.drawings[place]
                self.measure(at_once=True)
            case told.Teach(label, passes):
                self._teach(label, passes)
            case told.Back():
                self._back()
            case told.Restart():
                self._restart()
            case told.Name(label, text):
                self._check_label(label)
                self.names[label] = text
            case told.Eta(log2):
                self.log2_eta = log2
            case told.Freeze(layer, on):
                if layer >= len(self.frozen):
                    raise SettingError(f"layer={layer}: want 0..{len(self.frozen) - 1}")
                self.frozen[layer] = on
            case told.Look(learner):
                self._look_into(learner)
            case told.Save():
                self.save()
            case _:
                assert_never(command)

    def _keep(self, label: int) -> None:
        self._check_label(label)
        if self.source != "drawing" or not self.shown.any():
            raise SettingError("keep: nothing is drawn")
        if len(self.drawings) == KEPT:
            raise SettingError(f"keep: {KEPT} drawings are kept; want one dropped first")
        self.drawings.append((self.shown, label))
        self.measure(at_once=True)

    def _teach(self, label: int, passes: int) -> None:
        self._check_label(label)
        mine = [image for image, of in self.drawings if of == label]
        if not mine or self.lesson:
            why = "a lesson goes on" if self.lesson else f"no drawing of {self.names[label]!r} is kept"
            raise SettingError(f"teach: {why}")
        self.on, self.source, self.verdict = False, "stream", None
        self.measure(at_once=True)
        self.before = self._point("the lesson")
        self._known, self._taught = [list(each) for each in self.accuracy], label
        n = len(mine) * passes
        self.lesson = list(
            SHIFT.apply(np.stack(mine * passes), self.seed, self.lessons, slice(0, n), np.arange(n))
        )
        self.lessons += 1
        self.marks.append([self.samples, f"taught {self.names[label]}"])

    def _end_lesson(self) -> None:
        """Say what was learned, and what was forgotten."""
        self.count(at_once=True)
        label, found = self._taught, []
        mine = [image for image, of in self.drawings if of == label]
        for name, known, now, state in zip(NAMES, self._known, self.accuracy, self.states, strict=True):
            answers = predict(self.network, state, self.network.encode(np.stack(mine))).argmax(axis=1)
            lost = [
                [c, was, is_]
                for c, (was, is_) in enumerate(zip(known, now, strict=True))
                if c < self.data.classes and c != label and was is not None and is_ is not None and is_ < was
            ]
            found.append(
                {
                    "name": name,
                    "right": int((answers == label).sum()),
                    "before": self.overall(known),
                    "after": self.overall(now),
                    "lost": sorted(lost, key=lambda row: row[2] - row[1])[:3],
                }
            )
        self.verdict = {"label": label, "drawings": len(mine), "learners": found}

    def _back(self) -> None:
        if self.before is None or self.lesson:
            raise SettingError("back: there is nothing to undo")
        self.pause()
        self._put_back(self.before)

    def _restart(self) -> None:
        self.pause()
        before = self._point("starting again")
        self._put_back(self.begin)
        self.before, self.unsaved = before, False

    def _point(self, what: str) -> Point:
        kept = [learner.kept() for learner in self.pair]
        return Point(what, kept, self.samples, self.place, tuple(self.curve), tuple(self.marks))

    def _put_back(self, point: Point) -> None:
        for learner, each in zip(self.pair, point.learners, strict=True):
            learner.put_back(each)
        self.samples, self.place = point.samples, point.place
        self.curve, self.marks = list(point.curve), list(point.marks)
        self.before, self.verdict, self.unsaved = None, None, True
        self._look_into(self.looked)
        self.count(at_once=True)

    def _look_into(self, learner: int) -> None:
        self.looked, self.lately = learner, 0
        self._before = self.pair[learner].state  # before what was learned lately

    # --- what there is to see ---

    def about(self) -> dict[str, Any]:
        memory = self.pair[1].memory
        assert memory
        return {
            **super().about(),
            "kind": "session",
            "engine": self.engine,
            "memory": {"samples": len(memory.images), "bytes": memory.bytes},
            "formats": [name for name in ANSWERING if name in FORMATS],
        }

    def frame(self) -> dict[str, Any]:
        memory = self.pair[1].memory
        assert memory
        state = self.pair[self.looked].state
        return {
            "names": self.names,
            "training": self.on,
            "pace": self.pace,
            "samples": self.samples,
            "lately": self.lately,
            "which": self.which,
            "log2_eta": self.log2_eta,
            "frozen": self.frozen,
            "looked": self.looked,
            "accuracy": self.accuracy,
            "overall": [self.overall(each) for each in self.accuracy],
            "curve": self.curve,
            "marks": self.marks,
            "kept": [{"label": label, "image": packed(image, "u1")} for image, label in self.drawings],
            "memory": self._memory(memory),
            "lesson": {"left": len(self.lesson)} if self.lesson else None,
            "known": self._known if self.lesson or self.verdict else None,
            "verdict": self.verdict,
            "undo": self.before.what if self.before and not self.lesson else None,
            "saved": str(self.folder) if self.folder and not self.unsaved else None,
            "look": self._look(self._before if self.source == "stream" else state),
            "moved": moved(self.network, self._before, state),
        }

    def _memory(self, memory: Reservoir) -> dict[str, Any]:
        held = min(memory.seen, len(memory.images))
        shown = np.arange(held)[-REMEMBERED:]
        return {"held": held, "images": packed(memory.recall(shown), "u1")}

    # --- what stays ---

    def save(self) -> str:
        """Write both networks, each as a run that other commands take, and the drawings as a data set."""
        if self.folder is None:
            with run_folder.new_folder(Path("runs") / f"live-{Path(self.data.name).stem}") as folder:
                self._write(folder)
            self.folder = folder
        else:
            self._write(self.folder)
        self.unsaved = False
        return str(self.folder)

    def _write(self, folder: Path) -> None:
        for name, saved in zip(NAMES, self.checkpoints(), strict=True):
            place = folder / name.replace(" ", "-")
            run_folder.prepare(place, new=False)
            checkpoint.save(place / run_folder.CHECKPOINT, saved)
        if self.drawings:
            images, labels = zip(*self.drawings, strict=True)
            with written_whole(folder / "drawings.npz") as file:
                np.savez_compressed(file, images=np.stack(images), labels=np.array(labels))

    def checkpoints(self) -> list[Checkpoint]:
        """Both networks as they stand."""
        extra = {**self.saved.extra, "names": self.names, "samples": self.samples}
        extra.pop("progress", None)
        return [replace(self.saved, state=state, extra=extra) for state in self.states]

    def exported(self, learner: int, to: str) -> bytes:
        """One of the networks as a file of a format, or a checkpoint."""
        saved = self.checkpoints()[learner]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network"
            if to == "checkpoint":
                checkpoint.save(path, saved)
            elif to in ANSWERING:
                FORMATS.find(to).write(path, saved)
            else:
                raise SettingError(f"format {to[:60]!r}: want checkpoint, {', '.join(ANSWERING)}")
            return path.read_bytes()


def evenly(labels: np.ndarray, most: int) -> np.ndarray:
    """Places of at most so many samples, as many of each class, in the order of the data.

    >>> evenly(np.array([0, 0, 0, 1, 1]), 4).tolist()
    [0, 1, 3, 4]
    """
    each = max(1, most // max(1, len(np.unique(labels))))
    first = [np.flatnonzero(labels == label)[:each] for label in np.unique(labels)]
    return np.sort(np.concatenate(first))
