"""Names and what they stand for: our own, and those that other packages declare as entry points.

A package adds an engine, say, in its pyproject.toml, and it is found by its name wherever ours are:

    [project.entry-points."wage_neuro.engines"]
    abacus = "my_package.engine:AbacusEngine"
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from wage_neuro.errors import DoubtWarning, EngineError, SettingError, WageError, did_you_mean

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where a thing of ours is, `module:name`, for it is imported when it is asked for; what that needs."""

    where: str
    needs: str


class Registry(Mapping[str, T], Generic[T]):
    """All things of one kind by their names, ours first; to list the names imports none of them.

    Parameters
    ----------
    kind : 'engine' or the like, as error messages name it
    group : entry points of other packages
    wanted : type of the things, or the base class of the classes
    own : name -> our thing, or its Place
    problem : error of an unknown name
    called : names that others give to what is known here
    more : what else than a name may be given

    >>> numbers = Registry("number", "wage_neuro.numbers", int, {"one": 1, "two": 2})
    >>> list(numbers), numbers.find("two")
    (['one', 'two'], 2)
    >>> numbers.add("two", 3)
    Traceback (most recent call last):
    wage_neuro.errors.SettingError: number 'two': that name is taken
    >>> numbers.find("tow")
    Traceback (most recent call last):
    wage_neuro.errors.SettingError: number 'tow': want one or two; did you mean two?
    """

    def __init__(
        self,
        kind: str,
        group: str,
        wanted: type,
        own: Mapping[str, T | Place],
        *,
        problem: type[WageError] = SettingError,
        called: Mapping[str, str] | None = None,
        more: str = "",
    ) -> None:
        self.kind, self.group, self.wanted, self.own = kind, group, wanted, dict(own)
        self.problem, self.called, self.more = problem, called, more

    @cached_property
    def others(self) -> dict[str, EntryPoint]:
        """Entry points of other packages, but for those that take a name of ours."""
        found = {point.name: point for point in sorted(entry_points(group=self.group))}
        for name in found.keys() & self.own.keys():
            warnings.warn(
                f"{self.kind} {name!r} of package {_package(found.pop(name))}: that name is taken",
                DoubtWarning,
                stacklevel=2,
            )
        return found

    def add(self, name: str, thing: T) -> None:
        """Know one more, for this program alone.

        Raises
        ------
        SettingError
            If the name is taken.
        """
        if name in self:
            raise SettingError(f"{self.kind} {name!r}: that name is taken")
        self.own[name] = thing

    def find(self, name: str) -> T:
        """Return what has that name.

        Raises
        ------
        `problem`
            If nothing has it.
        EngineError
            If what it needs is not installed, or it is nothing of this kind.
        """
        if name not in self:
            raise self.unknown(name)
        if name not in self.others:
            return self._ours(name, self.own[name])
        other, package = self.others[name], _package(self.others[name])
        try:
            found: Any = other.load()
        except Exception as error:  # another's code may fail in any way
            text = " ".join(str(error).split())
            raise EngineError(f"{self.kind} {name!r} of package {package}: {text}") from error
        if not isinstance(found, self.wanted) and not (
            isinstance(found, type) and issubclass(found, self.wanted)
        ):
            raise EngineError(
                f"{self.kind} {name!r} of package {package}: {found!r} is no {self.wanted.__name__}"
            )
        return cast(T, found)

    def _ours(self, name: str, held: T | Place) -> T:
        if not isinstance(held, Place):
            return held
        module, _, attribute = held.where.partition(":")
        try:
            found: T = getattr(import_module(module), attribute)
        except ImportError as error:
            raise EngineError(f"{self.kind} {name!r}: {error}; it needs {held.needs}") from None
        return found

    def unknown(self, name: str, typed: str = "") -> WageError:
        """Return the error for a name that nothing has; `typed`: the option that it was given to."""
        known = [*self, self.more] if self.more else list(self)
        want = " or ".join(filter(None, (", ".join(known[:-1]), known[-1])))
        what = typed or self.kind
        return self.problem(f"{what} {name!r}: want {want}{did_you_mean(name, self, self.called)}")

    def needs(self, name: str) -> str:
        """What the thing of that name needs that may not be installed."""
        held = self.own.get(name)
        return held.needs if isinstance(held, Place) else f"package {_package(self.others[name])}"

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise KeyError(name)
        return self.find(name)

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self.others

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.own, *self.others]))

    def __len__(self) -> int:
        return len(list(iter(self)))


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value
