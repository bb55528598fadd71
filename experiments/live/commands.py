"""What a session can be told: each command is a dataclass, in JSON such as {"do": "train", "on": true}."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, get_args

from experiments.live.drawing import Stroke
from wage_neuro.errors import CheckpointError, SettingError, either
from wage_neuro.eta import LOG2_ETA_RANGE
from wage_neuro.typed import built

Label = Annotated[int, (0, 2**16)]
Layer = Annotated[int, (0, 2**10)]
NAME_LENGTH = 24


@dataclass(frozen=True)
class Train:
    """Learn what the data set gives, or pause."""

    on: bool


@dataclass(frozen=True)
class Pace:
    """New samples a second; None: as many as there is time for."""

    samples: Annotated[int, (1, 20)] | None


@dataclass(frozen=True)
class Classes:
    """Learn these classes of the data set alone."""

    which: list[Label]


@dataclass(frozen=True)
class Draw:
    """Show a drawing to the network; with a label, the error that comes back."""

    strokes: list[Stroke]
    label: Label | None = None


@dataclass(frozen=True)
class Example:
    """Show the next image that is measured with, of one class or of any."""

    label: Label | None = None


@dataclass(frozen=True)
class Follow:
    """Show each sample that is learned."""


@dataclass(frozen=True)
class Learn:
    """Learn what is shown, once, as `label`."""

    label: Label


@dataclass(frozen=True)
class Keep:
    """Keep the drawing that is shown for a lesson, as one of `label`."""

    label: Label


@dataclass(frozen=True)
class Drop:
    """Forget a drawing that was kept."""

    place: Label


@dataclass(frozen=True)
class Teach:
    """Learn the drawings that were kept for a label, so many times each, and nothing else that is new."""

    label: Label
    passes: Annotated[int, (1, 100)] = 20


@dataclass(frozen=True)
class Back:
    """Go back to before the last lesson, or to before it was begun anew."""


@dataclass(frozen=True)
class Restart:
    """Begin anew."""


@dataclass(frozen=True)
class Name:
    """Name a class."""

    label: Label
    text: str

    def __post_init__(self) -> None:
        if not (self.text.strip() and self.text.isprintable() and len(self.text) <= NAME_LENGTH):
            raise SettingError(f"name {self.text[:60]!r}: want 1 to {NAME_LENGTH} printable signs")


@dataclass(frozen=True)
class Eta:
    """Step size of every layer that learns, 2**log2."""

    log2: Annotated[int, LOG2_ETA_RANGE]


@dataclass(frozen=True)
class Freeze:
    """Freeze a layer, or let it learn again."""

    layer: Layer
    on: bool


@dataclass(frozen=True)
class Look:
    """Look into one of the networks."""

    learner: Annotated[int, (0, 1)]


@dataclass(frozen=True)
class Save:
    """Write the networks and the drawings to a run folder."""


Command = (
    Train | Pace | Classes | Draw | Example | Follow | Learn | Keep | Drop | Teach | Back | Restart | Name
    | Eta | Freeze | Look | Save
)  # fmt: skip
COMMANDS: dict[str, type[Command]] = {each.__name__.lower(): each for each in get_args(Command)}


def command_of(message: Any) -> Command:
    """Read a command out of JSON's values.

    Raises
    ------
    WageError
        If it is none: one line with the value.

    >>> command_of({"do": "freeze", "layer": 0, "on": True})
    Freeze(layer=0, on=True)
    >>> command_of({"do": "melt"})
    Traceback (most recent call last):
    wage_neuro.errors.CheckpointError: do='melt': want train, pace, classes, draw, example, follow, learn, \
keep, drop, teach, back, restart, name, eta, freeze, look or save
    """
    if not isinstance(message, dict):
        raise CheckpointError(f"{repr(message)[:60]}: want an object with a `do`")
    rest = {key: value for key, value in message.items() if key != "do"}
    name = message.get("do")
    if not isinstance(name, str) or name not in COMMANDS:
        raise CheckpointError(f"do={repr(name)[:60]}: want {either(COMMANDS)}")
    if rest and not fields(COMMANDS[name]):
        raise CheckpointError(f"{name}.{repr(next(iter(rest)))[:60]}: want no field beside `do`")
    return built(COMMANDS[name], rest, name)
