"""A continual learner: a network in an engine that learns new samples by a method. It knows no stream."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np

from experiments.continual.latent import Below
from experiments.continual.methods import Method
from experiments.continual.settings import Learning
from experiments.runs import run_folder
from wage_neuro.control import Control, control_of
from wage_neuro.engine import Engine
from wage_neuro.errors import SettingError
from wage_neuro.eta import EtaSchedule
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.state import State, initial_state


@dataclass
class Learner:
    """A network that learns what it is given, in whole steps, and answers at any time.

    Attributes
    ----------
    below : layers whose codes are learned in place of images
    seen : new samples learned
    since : those of them since a task last ended

    >>> rng = np.random.default_rng(0)
    >>> images, labels = rng.integers(0, 256, (30, 4, 4, 1), np.uint8), np.arange(30) % 2
    >>> with Learner.start(Learning(memory=5, recalled=3, network="8FC"), (4, 4, 1), 2, "numpy") as learner:
    ...     learner.learn(images, labels)
    ...     logits = learner.predict(images)
    >>> logits.shape, learner.seen, learner.engine.state.step, learner.method.bytes
    ((30, 2), 30, 120, 85)
    """

    engine: Engine
    method: Method
    below: Below | None = None
    seen: int = 0
    since: int = 0

    @classmethod
    def start(
        cls,
        settings: Learning,
        image_shape: tuple[int, ...],
        outputs: int,
        engine: str = "compiled",
        signed: bool = False,
    ) -> Learner:
        """Begin with a network that has learned nothing, in the engine of that name."""
        network = Network.parse(settings.network, image_shape, outputs, settings.bits, signed)
        state = begun(settings, network)
        below = below_of(settings, network, state)
        method = settings.kind(settings, below.above if below else network)
        return cls(open_engine(method, engine, below.upper(state) if below else state), method, below)

    def learn(self, images: np.ndarray, labels: np.ndarray, log2_eta: int | Control | None = None) -> None:
        """Learn new samples, whole steps of them.

        Parameters
        ----------
        images, labels : (n, ...) uint8, (n,); n a multiple of `settings.step`
        log2_eta : log2 of the step size; that with which `settings.eta` begins, if not given
        """
        if log2_eta is None:
            log2_eta = EtaSchedule.parse(self.method.settings.eta.partition(",")[0]).log2_at(0)
        control = control_of_method(self.method, log2_eta)
        images = self.below.see(images) if self.below else images
        if self.engine.replay:
            self.engine.train_new(images, labels, control)
        else:
            done = 0
            while done < len(labels):
                part = slice(done, done + self.method.at_once(labels[done:]))
                self._learn(images[part], labels[part], control, self.seen + done)
                done = part.stop
        self.seen, self.since = self.seen + len(labels), self.since + len(labels)

    def _learn(self, images: np.ndarray, labels: np.ndarray, control: Control, seen: int) -> None:
        samples = self.method.mix(images, labels)
        seen_so = augmented(
            self.method.settings, samples.images, seen * self.method.settings.learned_a_sample
        )
        if samples.former is None:
            logits = self.engine.train(seen_so, samples.labels, control)
        else:
            logits = self.engine.train_recalling(seen_so, samples.labels, samples.former, control)
        self.method.answered(logits)

    def end_task(self) -> None:
        """Tell the method that a task has ended."""
        settings = self.method.settings
        self.method.end_task(self.engine, self.since * settings.learned_a_sample // settings.rules.batch)
        self.since = 0

    def predict(self, images: np.ndarray) -> np.ndarray:
        """(n, outputs) int64 logits of (n, ...) uint8 images; nothing is learned."""
        return self.engine.predict(self.below.see(images) if self.below else images)

    @property
    def memory_bytes(self) -> int:
        """Bytes beside the network: what the method holds, and importance with the steps it is made of."""
        importance = self.engine.state.importance or ()
        return self.method.bytes + sum(held.nbytes for held in importance)

    def close(self) -> None:
        """Free what the engine holds."""
        self.engine.close()

    def __enter__(self) -> Learner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def below_of(settings: Learning, network: Network, state: State) -> Below | None:
    """The layers whose codes are kept in place of images, if any.

    Raises
    ------
    SettingError
        If there are not so many, or they learn.
    """
    if not settings.latent:
        return None
    below = Below(network, settings.latent, state)
    frozen = frozen_of(settings, network)
    if frozen < settings.latent:
        raise SettingError(
            f"latent={settings.latent}: layer {frozen} {network.layers[frozen]} learns, so its codes do not"
            f" stay what they are; want --frozen {settings.latent} or more"
        )
    return below


def frozen_of(settings: Learning, network: Network) -> int:
    """Layers of the whole network, from the first on, that never learn.

    Raises
    ------
    SettingError
        If none is left to learn.
    """
    if settings.frozen >= len(network.layers):
        most = len(network.layers) - 1
        raise SettingError(f"frozen={settings.frozen}: want 0..{most}, or {network} has no layer that learns")
    return max(settings.frozen, settings.kind(settings, network).frozen_layers())


def begun(settings: Learning, network: Network) -> State:
    """State of a network that has learned nothing; its frozen layers are those of a trained run, if any.

    Raises
    ------
    SettingError
        If there are no frozen layers, or the run's first ones are others.
    CheckpointError
        If there is no such run.
    """
    state, frozen = initial_state(network, settings.seed), frozen_of(settings, network)
    if settings.begun_from is None:
        return state
    source = f"from={settings.begun_from!r}"
    if not frozen:
        raise SettingError(f"{source} with frozen=0: want --frozen N, the layers that are taken from it")
    saved = run_folder.load(Path(settings.begun_from))
    for layer in network.layers[:frozen]:
        found = saved.network.layers[layer.index : layer.index + 1]
        if found != (layer,):
            what = _said(*found) if found else "none there"
            raise SettingError(f"{source}: layer {layer.index}: {what}: want {_said(layer)}")
    if saved.network.signed_input != network.signed_input:
        signs = {True: "-1..1", False: "0..1"}
        raise SettingError(
            f"{source}: its grey levels are {signs[saved.network.signed_input]}: want"
            f" {signs[network.signed_input]}"
        )
    layers = list(state.layers)
    for i, theirs in enumerate(saved.state.layers[:frozen]):
        layers[i] = replace(layers[i], S=theirs.S, norm=theirs.norm)
    return replace(state, layers=tuple(layers))


def _said(layer: Layer) -> str:
    return f"{layer} of {layer.in_shape}, bits {layer.bits}"


def open_engine(method: Method, name: str, state: State) -> Engine:
    """Build the engine of that name for a method's network, going on from a state."""
    return method.engine(name, state, lambda images, first: augmented(method.settings, images, first))


def augmented(settings: Learning, images: np.ndarray, first: int) -> np.ndarray:
    """Images as the network sees them, from place `first` of the order of learning on."""
    return settings.augmentation.apply(images, settings.seed, 0, slice(first, first + len(images)))


def control_of_method(method: Method, log2_eta: int | Control) -> Control:
    """Step size of each layer, with those frozen that the method freezes."""
    control, frozen = control_of(log2_eta), method.frozen_layers()
    layers = control.of_layers(len(method.network.layers), method.settings.rules)
    return Control(
        log2_eta=tuple(None if i < frozen else layer.log2_eta for i, layer in enumerate(layers)),
        hold=tuple(layer.hold for layer in layers),
    )
