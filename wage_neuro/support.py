"""What an engine, a model or a format takes, as data: refusals, tables and help are made from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from wage_neuro.errors import NetworkError, SettingError, WageError
from wage_neuro.kinds import Kind, kinds_of
from wage_neuro.network import Network
from wage_neuro.rules import NEUTRAL, VALUES, Rules

ABILITIES: dict[str, tuple[str, ...]] = {
    "counts activity": ("watch", "activity"),
    "recalls former logits": ("train_recalling",),
    "consolidates": ("consolidate",),
    "holds the memory": ("train_new", "read_memory"),
}
"""What an engine may be able to do, and the methods of `Engine` that do it."""

HEAD = {"loss": ("softmax",), "update": ("wide",), "feedback": ("transposed",), "momentum": (0,)}
"""How an unquantized last layer learns."""


@dataclass(frozen=True, kw_only=True)
class Support:
    """What one of them takes.

    Attributes
    ----------
    who : as a refusal names it
    kinds : of layers
    rules : values that it has of each rule (`rules.VALUES` are all); of a rule that is not named the default
        alone, so that a rule which is newer than an engine is refused and not taken for nothing
    with_kind : values that it has of some rules where a layer has that kind
    one_by_one : it learns one sample at a time, or pipelined, and not from a batch's sum
    abilities : of ABILITIES
    """

    who: str
    kinds: frozenset[Kind]
    rules: Mapping[str, Iterable[object]] = field(default_factory=dict)
    with_kind: Mapping[Kind, Mapping[str, tuple[object, ...]]] = field(default_factory=dict)
    one_by_one: bool = False
    abilities: frozenset[str] = frozenset()

    def check(self, network: Network, rules: Rules | None = None) -> None:
        """Refuse by name what is not taken; without rules, as of a network that only answers.

        Raises
        ------
        NetworkError, SettingError
            One line with the layer, or the rule, and its value.

        >>> Support(who="an abacus", kinds=frozenset()).check(Network.parse("2FC", (3,)))
        Traceback (most recent call last):
        wage_neuro.errors.NetworkError: layer 0 2FC: an abacus has no dense layer
        """
        for layer in network.layers:
            for kind in Kind:
                if kind in kinds_of(layer) and kind not in self.kinds:
                    raise NetworkError(f"layer {layer.index} {layer}: {self.who} has no {kind.value}")
        if rules is None:
            return
        plain = Rules()
        rules.require(
            self.who, **{name: tuple(self.rules.get(name, (getattr(plain, name),))) for name in VALUES}
        )
        for kind, values in self.with_kind.items():
            if any(kind in kinds_of(layer) for layer in network.layers):
                rules.require(f"{self.who} with a {kind.value}", **values)
        if self.one_by_one and rules.samples_an_update != 1:
            raise SettingError(f"batch={rules.batch}: {self.who} has batch=1 or pipelined only")
        for layer in network.layers:
            if layer.normalised and rules.samples_an_update == 1:
                one = "pipelined" if rules.pipelined else f"batch={rules.batch}"
                raise SettingError(f"{one}: a normalised layer ({layer.spec}) learns from batches")
        if not network.layers[-1].quantized:
            rules.require(f"an unquantized last layer ({network.layers[-1]})", **HEAD)

    def refusal(self, network: Network, rules: Rules | None = None) -> str | None:
        """Why this is not taken, or None.

        >>> abacus = Support(who="an abacus", kinds=frozenset({Kind.DENSE}))
        >>> abacus.refusal(Network.parse("2FC", (3,)), Rules(gamma=8))
        'gamma=8: an abacus has 1 only'
        """
        try:
            self.check(network, rules)
        except WageError as error:
            return str(error)
        return None

    @property
    def has_not(self) -> list[str]:
        """What is missing, in words: kinds, values of rules, abilities.

        >>> everything = Support(who="x", kinds=frozenset(Kind), rules=VALUES, abilities=frozenset(ABILITIES))
        >>> everything.has_not
        []
        """
        kinds = [kind.value for kind in Kind if kind not in self.kinds]
        rules = []
        for name, values in VALUES.items():
            mine = set(self.rules.get(name, (getattr(Rules(), name),)))
            missing = [value for value in values if value not in mine]
            plain = set(NEUTRAL.get(name, ())) == mine
            rules += [name] if plain and missing else [f"{name}={value}" for value in missing]
        batches = ["batches"] if self.one_by_one else []
        return [*kinds, *rules, *batches, *(what for what in ABILITIES if what not in self.abilities)]
