"""The paper's experiments as presets: `wage-neuro experiment NAME`.

A preset is the training runs of an experiment, each in the paper's setting. Every run has a folder of its
own: a sweep that was stopped goes on where it was, and a finished run is not run again.

Source: arXiv:1802.04680, section 4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from experiments.runs import run_folder
from experiments.runs.forms import TrainingRecord
from experiments.runs.jobs import Jobs
from experiments.runs.resumed import require_same
from experiments.runs.training import Config, Report, Run
from experiments.studies.float_run import FloatRun, float_torch
from mappings.pattern import Pattern
from wage_neuro.bits import Bits
from wage_neuro.errors import SettingError, did_you_mean
from wage_neuro.eta import short_fraction
from wage_neuro.network import PRESETS as NETWORKS
from wage_neuro.rules import Rules
from wage_neuro.typed import read_json

RECORD = "record.json"

MNIST = Config(data="mnist", network="lenet", epochs=100, eta="1")
CIFAR10 = Config(data="cifar-10", network="vgg", epochs=300, eta="8, 1@200, 1/8@250", augment="crop4-flip")
# a public reproduction's steps of eta, as the paper names none
SVHN = Config(data="svhn", network="vgg", epochs=40, eta="8, 1@25, 1/8@35", augment="crop4")
IMAGENET = Config(
    data="imagenet",
    network="alexnet",
    epochs=70,
    eta="4, 1/2@60, 1/16@65",
    augment="window224-flip",
    rules=Rules(batch=256, loss="softmax"),
)
# the same on small photographs: windows of 56x56 in 64x64, a quarter of 224x224 in 256x256; with 1/128 of the
# images, batches of 64 give more than a few updates an epoch
TINY_IMAGENET = replace(
    IMAGENET,
    data="tiny-imagenet-20",
    network="alexnet-56",
    augment="window56-flip",
    rules=replace(IMAGENET.rules, batch=64),
)


def _gradient_bits(of: Config, k_G: int) -> Config:
    """Eta is halved with each bit that is taken away: the smallest update stays as large as the weights."""
    bits = Bits.parse(of.bits)
    eta = _scaled_eta(of.eta, Fraction(2) ** (k_G - bits.k_G), 1)
    return replace(of, bits=str(replace(bits, k_G=k_G)), eta=eta)


def _sweeps(of: Config) -> dict[str, dict[str, Config]]:
    """The paper's sweeps, of any setting."""
    bits, rules = Bits.parse(of.bits), of.rules
    return {
        "gradient-bits": {f"k_G={k}": _gradient_bits(of, k) for k in range(2, 13)},
        "errors-bits": {f"k_E={k}": replace(of, bits=str(replace(bits, k_E=k))) for k in range(4, 16)},
        "error-window": {f"gamma={n}": replace(of, rules=replace(rules, gamma=n)) for n in (1, 2, 4, 8)},
    }


def _scaled_eta(eta: str, by: Fraction, epochs: Fraction | int) -> str:
    """Multiply the step sizes of a schedule, and the epochs at which they change.

    >>> _scaled_eta("8, 1@200, 1/8@250", Fraction(1, 2), Fraction(1, 10))
    '4, 1/2@20, 1/16@25'
    """
    steps = {}  # of changes that fall together, the last one counts
    for part in eta.split(","):
        value, _, epoch = part.strip().partition("@")
        steps[f"@{max(1, round(int(epoch) * epochs))}" if epoch else ""] = Fraction(value) * by
    return ", ".join(f"{value}{at}" for at, value in steps.items())


def _pattern(text: str) -> Config:
    """A column of the paper's comparison; eta as for k_G bits, of vanilla an ordinary one with BN."""
    pattern = Pattern.parse(text)
    if pattern.is_vanilla:
        return replace(CIFAR10, bits=text, eta="1/8, 1/64@200, 1/512@250")
    return replace(_gradient_bits(CIFAR10, pattern.k_G or 8), bits=text)


def _small_vanilla(of: Config) -> Config:
    """In batches of 32, a quarter of the samples, a quarter of eta: the linear rule, arXiv:1706.02677."""
    return replace(of, rules=Rules(batch=32), eta=_scaled_eta(of.eta, Fraction(1, 4), 1))


SHARP = Rules(loss="softmax", sharpness=3)
MOVING = replace(SHARP, momentum=3)
MOVING_ETA = "8, 2@200, 1/2@250"
"""A momentum of 7/8 makes the noise of an update four times smaller: less is left to anneal."""
SMALL_BATCHES = Rules(loss="softmax", sharpness=2, momentum=3, batch=32)
SMALL_EPOCHS = 15
"""What small batches were chosen for, on narrow networks. Nothing draws weights to 0, so they grow while they
learn, and the same eta does less and less: more epochs want another one, and it has not been found."""
FALLING_ETA = "128, 64@4, 32@7, 16@9, 8@11, 4@12, 2@13, 1@14"
"""Shift makes every update as large as the last one: eta alone makes the noise of weights smaller."""
FALLING_ETA_8 = "16, 8@5, 4@8, 2@10, 1@12, 1/2@13, 1/4@14"
"""Weights of 8 bits begin smaller, and see smaller steps."""


def _normalised(network: str) -> str:
    """A network whose hidden layers are normalised.

    >>> _normalised("32C3-MP2-256FC")
    '32C3N-MP2-256FCN'
    """
    return re.sub(r"(C\d+|FC)(?=-|$)", r"\1N", network)


_NORMALISED = replace(CIFAR10, network=_normalised(NETWORKS["vgg"]))
_SMALL = replace(_NORMALISED, rules=SMALL_BATCHES, epochs=SMALL_EPOCHS)

PAST_THE_PAPER = {
    "2888": CIFAR10,
    "softmax": replace(CIFAR10, rules=SHARP),
    "momentum": replace(CIFAR10, rules=Rules(momentum=3), eta=MOVING_ETA),
    "softmax+momentum": replace(CIFAR10, rules=MOVING, eta=MOVING_ETA),
    "normalised": _NORMALISED,
    "normalised+softmax+momentum": replace(_NORMALISED, rules=MOVING, eta=MOVING_ETA),
    "28C8+softmax+momentum": replace(
        CIFAR10, bits="28C8", rules=MOVING, eta=_scaled_eta(MOVING_ETA, Fraction(16), 1)
    ),
    "28C8+normalised+softmax+momentum": replace(
        _NORMALISED, bits="28C8", rules=MOVING, eta=_scaled_eta(MOVING_ETA, Fraction(16), 1)
    ),
    "8888+softmax+momentum": replace(
        CIFAR10, bits="8888", rules=MOVING, eta=_scaled_eta(MOVING_ETA, Fraction(1, 8), 1)
    ),
    "28C8+small-batches": replace(
        CIFAR10, bits="28C8", rules=SMALL_BATCHES, eta=FALLING_ETA, epochs=SMALL_EPOCHS
    ),
    "28C8+normalised+small-batches": replace(_SMALL, bits="28C8", eta=FALLING_ETA),
    "28C8+normalised+batches-of-16": replace(
        _SMALL,
        bits="28C8",
        rules=replace(SMALL_BATCHES, batch=16),
        eta=_scaled_eta(FALLING_ETA, Fraction(1, 2), 1),
    ),
    "88C8+normalised+small-batches": replace(_SMALL, bits="88C8", eta=FALLING_ETA_8),
    "28ff": _pattern("28ff"),
    "vanilla": _pattern("vanilla"),
    "vanilla+small-batches": _small_vanilla(_pattern("vanilla")),
}
"""Rules of our own, beside the paper's and beside real numbers."""

BEST = PAST_THE_PAPER["88C8+normalised+small-batches"]
BEST_TERNARY = PAST_THE_PAPER["28C8+normalised+small-batches"]
"""For k_G from 2 on: visible weights of 8 bits want stored ones of as many."""

_DENSE = Config(data="mnist", network="100FC-50FC", epochs=150, eta="8, 2@90, 1/2@130", rules=MOVING)
_VGG8B = "128C3-256C3-MP2-256C3-512C3-MP2-512C3-MP2-512C3-MP2-1024FC"
NITRO_D = {
    "mnist-mlp": _DENSE,
    "fashion-mnist-mlp": replace(_DENSE, data="fashion-mnist", network="200FC-100FC-50FC"),
    "cifar-10-mlp": replace(_DENSE, data="cifar-10", network="3000FC-3000FC-3000FC"),
    "cifar-10-vgg8b": replace(CIFAR10, network=_VGG8B, rules=MOVING, epochs=150, eta=_DENSE.eta),
}
"""Shapes of NITRO-D (arXiv:2407.11698), which trains in native integers; its epochs, our rules."""

PATTERNS = ("2888", "28C8", "288C", "28f8", "28ff", "vanilla")

EXPERIMENTS: dict[str, dict[str, Config]] = {
    "mnist-lenet": {"2888": MNIST},
    "cifar10-vgg": {"2888": CIFAR10},
    "svhn-vgg": {"2888": SVHN},
    "imagenet-alexnet": {"2888": IMAGENET},
    "tiny-imagenet-alexnet": {"2888": TINY_IMAGENET},
    **_sweeps(CIFAR10),
    "patterns": {text: _pattern(text) for text in PATTERNS},
    "past-the-paper": PAST_THE_PAPER,
    "past-gradient-bits": _sweeps(BEST_TERNARY)["gradient-bits"],
    "past-errors-bits": _sweeps(BEST)["errors-bits"],
    "past-error-window": _sweeps(BEST)["error-window"],
    "nitro-d": NITRO_D,
}
"""Runs of each experiment, by what tells them apart."""


@dataclass(frozen=True)
class Scale:
    """How much smaller than the paper's an experiment is run.

    Parameters
    ----------
    epochs : int, optional
        The changes of eta move with it.
    width : Fraction
        Share of the channels and units of every hidden layer.
    images : int, optional
        Training images.

    >>> Scale.parse("epochs=30, width=1/4").of(CIFAR10).eta
    '8, 1@20, 1/8@25'
    """

    epochs: int | None = None
    width: Fraction = Fraction(1)
    images: int | None = None

    @classmethod
    def parse(cls, text: str) -> Scale:
        """Read 'epochs=30,width=1/4,images=10000', or some of these; '' is the paper's size."""
        read: dict[str, Callable[[str], Any]] = {"epochs": int, "width": short_fraction, "images": int}
        found: dict[str, Any] = {}
        for part in filter(None, re.split(r"[,\s]+", text)):
            name, _, value = part.partition("=")
            try:
                found[name] = read[name](value)
                if not found[name] or found[name] <= 0:
                    raise ValueError
            except (KeyError, ValueError):
                raise SettingError(
                    f"scale {part!r}: want epochs=N, width=SHARE such as 1/4, or images=N"
                ) from None
        return cls(**found)

    def __str__(self) -> str:
        given = {
            "epochs": self.epochs,
            "width": self.width if self.width != 1 else None,
            "images": self.images,
        }
        return ",".join(f"{name}={value}" for name, value in given.items() if value is not None)

    def of(self, config: Config) -> Config:
        """Return the smaller setting."""
        epochs = self.epochs or config.epochs
        network = NETWORKS.get(config.network, config.network)
        if self.width != 1:
            network = re.sub(r"\d+(?=C|FC)", lambda m: str(max(1, round(int(m[0]) * self.width))), network)
        return replace(
            config,
            network=config.network if self.width == 1 else network,
            epochs=epochs,
            eta=_scaled_eta(config.eta, Fraction(1), Fraction(epochs, config.epochs)),
            train_images=self.images or config.train_images,
        )


@dataclass(frozen=True)
class Job:
    """One run of an experiment, and where it lives."""

    experiment: str
    label: str
    scale: Scale
    config: Config
    folder: Path

    def __str__(self) -> str:
        return f"{self.label} seed {self.config.seed}"

    @property
    def kind(self) -> type[Run]:
        """How it is trained: by integers, or with real numbers."""
        return FloatRun if Pattern.parse(self.config.bits).is_float else Run

    @property
    def names(self) -> dict[str, str]:
        """What it is a run of, for its record."""
        return {"experiment": self.experiment, "setting": self.label, "scale": str(self.scale)}

    def record(self) -> dict[str, Any] | None:
        """The record of the finished run; None if it is not finished."""
        path = self.folder / RECORD
        if not path.exists():
            return None
        record = read_json(path, TrainingRecord, "record of a training run")
        return {**record, **self.names}  # it may be a copy of another's, the same run

    def record_path(self, folder: Path) -> Path:
        """Where its record is kept among others: FOLDER/EXPERIMENT/SCALE/SETTING-sSEED.json."""
        scale = str(self.scale).replace("/", "-") or "paper"
        return folder / self.experiment / scale / f"{self.label}-s{self.config.seed}.json"


def jobs(name: str, scale: Scale, seeds: Iterable[int], folder: Path, only: Sequence[str] = ()) -> list[Job]:
    """Return the runs of the experiment called `name`, label by label, seed by seed.

    only : labels of the settings wanted, in their order; none is all of them

    Raises
    ------
    SettingError
        If there is no such experiment, or it has no such label.
    """
    if name not in EXPERIMENTS:
        raise SettingError(
            f"experiment {name!r}: want {', '.join(EXPERIMENTS)}{did_you_mean(name, EXPERIMENTS)}"
        )
    settings = EXPERIMENTS[name]
    for label in only:
        if label not in settings:
            raise SettingError(f"setting {label!r} of {name}: want {', '.join(settings)}")
    return [
        Job(name, label, scale, replace(scale.of(settings[label]), seed=seed), folder / f"{label}-s{seed}")
        for label in only or settings
        for seed in seeds
    ]


@dataclass(frozen=True)
class Means:
    """What the runs are done with.

    command : what their records name
    records : folder that keeps a copy of each record
    """

    engine: str = "numpy"
    device: str | None = None
    data_dir: Path | None = None
    command: str = ""
    records: Path | None = None
    jobs: Jobs = field(default_factory=Jobs)


def do(job: Job, means: Means, look: Callable[[Run, Report], None] = lambda run, seen: None) -> bool:
    """Train a run to its end, from wherever it stands; return whether it got there.

    look : called with the run and every report of it; it may ask the run to stop

    Raises
    ------
    SettingError
        If its folder holds another run.
    """
    if (job.folder / run_folder.CHECKPOINT).exists():
        run = job.kind.resume(job.folder, data_dir=means.data_dir)
        require_same(job.folder, run.config, job.config, SettingError)
    else:
        run = job.kind.start(job.config, job.folder, means.data_dir)
    record = job.folder / RECORD
    if run.finished and record.exists():
        return True
    with run.engine(means.engine, device=means.device) as machine, run.lock:
        run_folder.prepare(job.folder, new=run.is_new)
        run.fit(machine, partial(look, run))
    if run.finished:
        found = {**job.names, **run.record(means.engine, means.command)}
        run_folder.write_json(record, found)
    return run.finished


def do_all(
    work: list[Job],
    means: Means,
    report: Callable[[Job, bool], None],
    say: Callable[[str], None] = lambda line: None,
) -> bool:
    """Do all runs, or end with the first that is stopped; return whether all are finished."""
    for job in work:
        if job.kind is FloatRun and job.record() is None:
            float_torch(job.config.bits)  # before hours are spent on the integers
    elsewhere = {replace(job, folder=job.folder.resolve()): job for job in work}
    try:
        with closing(means.jobs.each(partial(do, means=means), list(elsewhere), str, say)) as done:
            for there, finished in done:
                job = elsewhere[there]
                record = job.record()
                if means.records and finished and record:
                    path = job.record_path(means.records)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    run_folder.write_json(path, record)
                report(job, finished)
                if not finished:
                    return False
    except KeyboardInterrupt:  # a run that was begun has a checkpoint
        return False
    return True
