"""Settings of a continual learner: all that decides how it learns what comes, and nothing of the stream."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.continual.methods import METHODS, Discriminating, Method, what_methods_do
from experiments.datasets.augment import Augment
from experiments.runs.training import Config as Training
from wage_neuro.errors import SettingError
from wage_neuro.eta import EtaSchedule
from wage_neuro.memory import KEEPS, MEMORY_BITS
from wage_neuro.rules import RECALLED_MAX, Rules
from wage_neuro.settings import DATA, NETWORK, RULE, check_settings, like, setting

SHRINKAGE = 8  # chosen on validation images of SplitMNIST and SplitFMNIST; 6 to 14 are as good
MEMORY = 2000  # samples, where a method recalls and no other size is given


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
class Learning(OneByOne):
    """How a continual learner learns: its method, its memory, its network, its rules."""

    method: str = setting("replay", what_methods_do(), RULE, complete=tuple(METHODS))
    memory: int = setting(
        MEMORY, "Samples that are kept, or prototypes.", RULE, shown=f"{MEMORY} where the method keeps any"
    )
    recalled: int = setting(1, "Recalled samples for each new one, 1 to 7.", RULE, least=1, most=RECALLED_MAX)
    memory_bits: int = setting(
        8, "Bits of each pixel in the memory: 1, 2, 4 or 8.", RULE, choices=MEMORY_BITS
    )
    keep: str = setting(
        "reservoir",
        "What the memory keeps: `reservoir`, each sample with the same chance; `balanced`, of each class as"
        " many.",
        RULE,
        choices=KEEPS,
    )
    frozen: int = setting(0, "First layers that never learn.", RULE, least=0)
    begun_from: str | None = setting(
        None,
        "Trained run, or checkpoint, whose first layers are the frozen ones, in place of random weights.",
        NETWORK,
        flag="--from",
    )
    latent: int = setting(
        0,
        "The memory keeps the codes of so many first layers, which are frozen, in place of images.",
        RULE,
        least=0,
    )
    shrinkage: int = setting(
        SHRINKAGE,
        "`discriminant`: 2 to the minus this of the features' mean variance is added to each one's.",
        RULE,
        least=0,
        most=20,
    )
    network: str = setting("400FC-400FC", "Hidden layers, as in `train`.", NETWORK)
    bits: str = like(Training, "bits")
    step: int = setting(1, "New samples learned together, with those recalled; 1: one at a time.", RULE)
    margin: int = like(
        OneByOne,
        "margin",
        what="Skip samples whose right output leads by this share of the target; prototypes: by this share"
        " of the distance to the nearest wrong one.",
    )
    augment: str = setting("none", "`crop1` shifts new and recalled images by up to a pixel; `none`.", DATA)
    stored_range: str = like(Rules, "stored_range")
    new_shift: int = like(Rules, "new_shift", option=True)
    metaplasticity: int = like(Rules, "metaplasticity", option=True, shown="2 with `metaplastic`, else 0")
    consolidation: int = like(Rules, "consolidation", option=True, shown="7 with `consolidation`, else 0")

    def __post_init__(self) -> None:
        eta_of(self.eta, 100)
        if Augment.parse(self.augment).window:
            raise SettingError(f"augment={self.augment!r}: a stream's tasks show whole images")
        if self.latent and self.augment != "none":
            raise SettingError(f"augment={self.augment!r} with latent={self.latent}: a code is no image")
        method = METHODS.find(self.method)
        if "memory" in method.needs and self.memory < 1:
            raise SettingError(f"memory={self.memory} with method {self.method!r}: want room for 1 or more")
        if "memory" not in method.needs and self.memory:
            raise SettingError(f"memory={self.memory} with method {self.method!r}: it keeps no samples")
        check_settings(self)
        recalls = {"recalled": 1, "memory_bits": 8, "keep": "reservoir", "new_shift": 0, "latent": 0}
        for name, none in recalls.items():
            if getattr(self, name) != none and not method.recalls:
                value = getattr(self, name)
                raise SettingError(f"{name}={value!r} with method {self.method!r}: it recalls no samples")
        if self.shrinkage != SHRINKAGE and not issubclass(method, Discriminating):
            raise SettingError(
                f"shrinkage={self.shrinkage} with method {self.method!r}: it holds no covariance"
            )
        for name, default in method.defaults.items():
            if default and not getattr(self, name):
                raise SettingError(f"{name}=0 with method {self.method!r}: want 1 bit or more")
        _ = self.rules

    @property
    def kind(self) -> type[Method]:
        """The method."""
        return METHODS[self.method]

    @property
    def learned_a_sample(self) -> int:
        """Samples that are learned for each new one, that one counted."""
        return 1 + self.recalled if self.kind.recalls else 1

    @property
    def rules(self) -> Rules:
        """How the weights learn: from one sample at a time, or from a step's new and recalled samples."""
        return self.kind.rules(
            Rules(
                batch=1 if self.step == 1 else self.step * self.learned_a_sample,
                shift="held",
                hold=self.hold,
                update=self.update,
                stored_range=self.stored_range,
                loss=self.loss,
                margin=self.margin,
                new_shift=self.new_shift,
                recalled=self.recalled if self.new_shift else 1,
                metaplasticity=self.metaplasticity,
                consolidation=self.consolidation,
            )
        )

    @property
    def augmentation(self) -> Augment:
        """How new and recalled images are changed each time."""
        return Augment.parse(self.augment)


def of_method(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Defaults that follow from the method, and from what is given."""
    method = METHODS.get(given["method"], METHODS["naive"])
    consolidation = given["consolidation"] or method.defaults.get("consolidation", 0)
    return {
        "memory": MEMORY if "memory" in method.needs else 0,
        "boundaries": consolidation > 0 or "boundaries" in method.needs,
        **method.defaults,
    }


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
