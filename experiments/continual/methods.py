"""Methods of continual learning: what a learner does beside learning what comes, found by name.

One of your own is a class that inherits `Method`, overrides what differs, and is declared as an entry point
of the group `wage_neuro.methods`; experiments/examples/your_own_method.py is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from experiments.engines import DISCRIMINANTS, PROTOTYPES, holds_memory, make_engine, make_read_out
from wage_neuro.bits import code_dtype
from wage_neuro.discriminant import Discriminant
from wage_neuro.engine import Engine
from wage_neuro.errors import EngineError
from wage_neuro.layers import SPARED, UNKNOWN
from wage_neuro.memory import MemoryForm, Replay, Reservoir
from wage_neuro.network import Network
from wage_neuro.prototypes import Prototypes
from wage_neuro.registry import Registry
from wage_neuro.rules import Rules
from wage_neuro.state import State
from wage_neuro.support import ABILITIES

if TYPE_CHECKING:
    from experiments.continual.settings import Learning

NEEDS = {"memory", "boundaries", "all tasks at once", *ABILITIES}
"""What a method may need: room to keep something, to be told where a task ends, abilities of an engine."""
Augmented = Callable[[np.ndarray, int], np.ndarray]


class Samples(NamedTuple):
    """Samples in the order in which they are learned.

    Attributes
    ----------
    images, labels : (n, ...) uint8, (n,)
    former : (n, outputs) int64 logits that they are drawn to, `layers.UNKNOWN` where to none; None: to labels
        alone
    """

    images: np.ndarray
    labels: np.ndarray
    former: np.ndarray | None = None


class Method:
    """What a learner does beside learning what comes: of itself nothing.

    One instance belongs to one learner. What it holds is in `memory` and `held`, so that a run can stop and
    go on to the same bits; draw random bits by a number that is held, not from a generator that goes on.

    Parameters
    ----------
    settings : `experiments.continual.settings.Learning`
        `seed`, `memory`, `recalled`, `step` and others.
    network : Network
        Its input shape is that of an image, its classes are the outputs.

    Attributes
    ----------
    what : a line for the help
    needs : of NEEDS
    recalls : it recalls `settings.recalled` samples for each new one
    defaults : settings where none are given, such as {"metaplasticity": 2}
    mapped : a chip's map has populations of neurons for what it holds
    memory : what it keeps; a Reservoir may be held by an engine, such as Lava's graph, in its stead
    held : arrays that it keeps beside, by name, of shapes that stay
    """

    what: ClassVar[str] = "what comes is learned"
    needs: ClassVar[frozenset[str]] = frozenset()
    recalls: ClassVar[bool] = False
    mapped: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, Any]] = {}
    memory: Reservoir | Prototypes | Discriminant | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        unknown = sorted(set(cls.needs) - NEEDS)
        if unknown:
            raise TypeError(f"{cls.__name__} needs {', '.join(unknown)}: want {', '.join(sorted(NEEDS))}")

    def __init__(self, settings: Learning, network: Network) -> None:
        self.settings, self.network = settings, network
        self.held: dict[str, np.ndarray] = {}

    # --- what it changes ---

    @classmethod
    def rules(cls, rules: Rules) -> Rules:
        """The rules by which the weights learn, as it wants them."""
        return rules

    def frozen_layers(self) -> int:
        """Layers, from the first on, that never learn; of those above the memory where it keeps codes."""
        return max(0, self.settings.frozen - self.settings.latent)

    # --- samples ---

    def observe(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Meet the (step, ...) new samples of a step, before they are learned."""

    def recall(self, n: int) -> Samples:
        """The n samples that are learned behind the new ones of a step; of a method that recalls."""
        raise NotImplementedError

    def at_once(self, labels: np.ndarray) -> int:
        """How many of these next new samples may be met before the first of them is learned.

        All; a step of a method that meets the answers.
        """
        return len(labels) if type(self).answered is Method.answered else self.settings.step

    def mix(self, images: np.ndarray, labels: np.ndarray) -> Samples:
        """What is learned when these new samples come, whole steps of them: `observe` and `recall` each."""
        step, found = self.settings.step, []
        for first in range(0, len(images), step):
            part = slice(first, first + step)
            self.observe(images[part], labels[part])
            found.append(Samples(images[part], labels[part]))
            if self.recalls:
                found.append(self.recall(step * self.settings.recalled))
        return joined(found, self.network.classes)

    def answered(self, logits: np.ndarray) -> None:
        """Meet the logits that the samples of the last `mix` had before each was learned."""

    def end_task(self, engine: Engine, updates: int) -> None:
        """Do what is to be done where a task ends, after so many updates; only if boundaries are told."""
        if engine.rules.consolidation:
            engine.consolidate(updates)

    # --- where it learns, what it holds ---

    def engine(self, name: str, state: State, augmented: Augmented) -> Engine:
        """Build the engine of that name for its network, going on from a state.

        Raises
        ------
        EngineError
            If the engine cannot do what the method needs.
        """
        settings, replay = self.settings, None
        own = any(getattr(type(self), name) is not getattr(Replaying, name) for name in TURN)
        if isinstance(self.memory, Reservoir) and not own and holds_memory(name):
            replay = Replay(self.memory, settings.step, augmented, settings.recalled)
        engine = make_engine(name, self.network, settings.rules, state, replay=replay)
        wanted = set() if replay else set(self.needs & ABILITIES.keys())
        wanted |= {"consolidates"} if settings.consolidation else set()
        missing = sorted(wanted - engine.supports.abilities)
        if missing:
            engine.close()
            raise EngineError(
                f"engine {name!r} with method {settings.method!r}: it is none that {missing[0]}"
            )
        return engine

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All that it holds, by name; it is saved with the run."""
        return {**self.held, **(self.memory.arrays if self.memory else {})}

    def restore(self, arrays: dict[str, np.ndarray], seen: int) -> None:
        """Hold these arrays, as after so many new samples."""
        self.held = {name: arrays[name] for name in self.held}
        if self.memory:
            self.memory = self.memory.holding({n: a for n, a in arrays.items() if n not in self.held}, seen)

    def take_back(self, engine: Engine) -> None:
        """Hold what the engine has kept in its stead."""
        if engine.replay:
            self.memory = engine.read_memory()

    @property
    def bytes(self) -> int:
        """Bytes of all that it holds, as it is stored."""
        return sum(array.nbytes for array in self.arrays.values())


def joined(parts: list[Samples], classes: int) -> Samples:
    """Put samples behind each other; UNKNOWN stands where only others have former logits."""
    images, labels = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    if all(part.former is None for part in parts):
        return Samples(images, labels)
    former = [
        np.full((len(part.labels), classes), UNKNOWN) if part.former is None else part.former
        for part in parts
    ]
    return Samples(images, labels, np.concatenate(former))


class Naive(Method):
    what = "the stream as it comes"


class Joint(Method):
    what = "all tasks at once, shuffled; as many samples"
    needs = frozenset({"all tasks at once"})


class Replaying(Method):
    """Recalls from a reservoir, or from one with the same room for each class."""

    what = "new samples and others from a memory"
    needs = frozenset({"memory"})
    recalls = True
    keeps_logits: ClassVar[bool] = False
    asymmetric: ClassVar[bool] = False
    memory: Reservoir

    def __init__(self, settings: Learning, network: Network) -> None:
        super().__init__(settings, network)
        self.memory = Reservoir.empty(
            settings.memory,
            network.input_shape,
            network.classes,
            settings.seed,
            MemoryForm(
                bits=settings.memory_bits,
                keep=settings.keep,
                with_logits=self.keeps_logits,
                asymmetric=self.asymmetric,
            ),
        )

    def mix(self, images: np.ndarray, labels: np.ndarray) -> Samples:
        mixed = self.memory.interleave(images, labels, self.settings.step, self.settings.recalled)
        self._kept = mixed.kept
        if not self.keeps_logits and mixed.spared is None:
            return Samples(mixed.images, mixed.labels)
        former = self._by_steps(np.full((len(mixed.labels), self.network.classes), UNKNOWN))
        new, recalled = np.split(former, [self.settings.step], axis=1)
        if self.keeps_logits:
            recalled[...] = self.memory.former_logits(mixed.recalled).reshape(recalled.shape)
        if mixed.spared is not None:
            new[mixed.spared.reshape(new.shape)] = SPARED
        return Samples(mixed.images, mixed.labels, former.reshape(len(mixed.labels), -1))

    def at_once(self, labels: np.ndarray) -> int:
        if not self.keeps_logits:
            return len(labels)
        step = self.settings.step
        return self.memory.steps_apart(labels[: LOOK_AHEAD * step], step, self.settings.recalled)

    def answered(self, logits: np.ndarray) -> None:
        if self.keeps_logits:
            new = self._by_steps(logits)[:, : self.settings.step]
            self.memory.keep_logits(self._kept, new.reshape(-1, logits.shape[1]))

    def _by_steps(self, rows: np.ndarray) -> np.ndarray:
        """(steps, samples of a step, outputs) view of (n, outputs) rows."""
        a_step = self.settings.step * self.settings.learned_a_sample
        return rows.reshape(-1, a_step, rows.shape[1])


class ReplayingLogits(Replaying):
    what = "replay, and the answers of the time are kept and held on to (DER++)"
    needs = frozenset({"memory", "recalls former logits"})
    keeps_logits = True


class Asymmetric(Replaying):
    what = (
        "replay whose new samples leave the outputs of classes alone that are not among the newest (ER-ACE)"
    )
    needs = frozenset({"memory", "recalls former logits"})
    asymmetric = True


class _Frozen(Method):
    """Only the last layer learns, from what the random ternary weights below make of an image."""

    def frozen_layers(self) -> int:
        return len(self.network.layers) - 1


class Features(_Frozen):
    what = "fixed random ternary features, the last layer learns by the delta rule"


class FeaturesReplaying(_Frozen, Replaying):
    what = "the same with a memory"


class ReadOut(_Frozen):
    """What it holds answers in the place of the last layer; no weight of the network ever changes."""

    engines: ClassVar[Registry[type[Engine]]]
    memory: Prototypes | Discriminant

    def engine(self, name: str, state: State, augmented: Augmented) -> Engine:
        return make_read_out(self.engines, name, self.network, self.settings.rules, state, self.memory)

    def take_back(self, engine: Engine) -> None:
        self.memory = engine.held  # type: ignore[attr-defined]


class NearestPrototypes(ReadOut):
    """Prototypes; the memory is the room for them."""

    what = "on such features, the nearest prototype answers; an error or a narrow lead allots a new one"
    needs = frozenset({"memory"})
    engines = PROTOTYPES

    def __init__(self, settings: Learning, network: Network) -> None:
        super().__init__(settings, network)
        features, dtype = network.layers[-1].in_shape[0], code_dtype(network.bits.k_A)
        self.memory = Prototypes.empty(settings.memory, features, dtype, settings.seed, settings.margin)


class Discriminating(ReadOut):
    """Class means and one covariance of such features, solved for a linear read-out where it answers."""

    what = (
        "on such features, sums of them and of their products, solved for a linear read-out (streaming LDA)"
    )
    mapped = False
    engines = DISCRIMINANTS

    def __init__(self, settings: Learning, network: Network) -> None:
        super().__init__(settings, network)
        features = network.layers[-1].in_shape[0]
        self.memory = Discriminant.empty(features, network.classes, network.bits, settings.shrinkage)


class Metaplastic(Method):
    what = "the larger a stored weight, the less it moves back towards 0"
    defaults: ClassVar = {"metaplasticity": 2}


class Consolidating(Method):
    what = "synapses that moved much in a task move less after it; needs task boundaries"
    needs = frozenset({"boundaries", "consolidates"})
    defaults: ClassVar = {"consolidation": 7}


TURN = ("observe", "recall", "mix", "answered")
"""Methods of a replay that an engine's memory does in its stead, if they are those of `Replaying`."""
LOOK_AHEAD = 100  # steps whose logits may be kept together
CALLED = {
    **dict.fromkeys(("ewc", "online-ewc", "si", "synaptic-intelligence", "mas", "lwf"), "consolidation"),
    **dict.fromkeys(("er", "experience-replay", "rehearsal", "gem", "agem"), "replay"),
    **dict.fromkeys(("er-ace", "er_ace", "ace"), "asymmetric"),
    **dict.fromkeys(("der", "der++", "dark-experience-replay"), "replay-logits"),
    **dict.fromkeys(("finetune", "fine-tuning", "sgd", "none"), "naive"),
    **dict.fromkeys(("icarl", "ncm", "nearest-mean"), "prototypes"),
    **dict.fromkeys(("slda", "streaming-lda", "lda", "rls", "ridge"), "discriminant"),
    **dict.fromkeys(("offline", "multitask", "iid"), "joint"),
}
"""What the literature calls them, or what is nearest to it here."""
METHODS: Registry[type[Method]] = Registry(
    "method",
    "wage_neuro.methods",
    Method,
    {
        "naive": Naive,
        "joint": Joint,
        "replay": Replaying,
        "replay-logits": ReplayingLogits,
        "asymmetric": Asymmetric,
        "features": Features,
        "features-replay": FeaturesReplaying,
        "prototypes": NearestPrototypes,
        "discriminant": Discriminating,
        "metaplastic": Metaplastic,
        "consolidation": Consolidating,
    },
    called=CALLED,
)


def what_methods_do() -> str:
    """Ours with what they do, those of other packages by name: they are loaded when one is asked for."""
    ours = [f"`{name}`: {METHODS[name].what}" for name in METHODS.own]
    return "; ".join([*ours, *(f"`{name}`, of {METHODS.needs(name)}" for name in METHODS.others)]) + "."
