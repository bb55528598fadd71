"""Settings: fields of frozen dataclasses that say themselves what they are, for a command line and for help.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True, kw_only=True)
... class Walk:
...     pace: str = setting("slow", "How fast.", RULE, choices=("slow", "fast"))
...     def __post_init__(self) -> None:
...         check_settings(self)
>>> Walk(pace="idle")
Traceback (most recent call last):
wage_neuro.errors.SettingError: pace='idle': want slow or fast
"""

from __future__ import annotations

from dataclasses import Field, field, fields
from typing import Any

from wage_neuro.errors import SettingError, either

DATA, NETWORK, RULE, SIMULATOR, OUTPUT = GROUPS = ("Data", "Network", "Rule", "Simulator", "Output")
"""Groups of settings, in the order in which they are shown."""


def setting(default: Any, what: str, group: str, **more: Any) -> Any:
    """Return a field with what it is.

    Parameters
    ----------
    default : its value where none is given
    what : str
        One line for a user.
    group : one of the groups above
    more
        choices : words that it may be; least, most : whole numbers that it may be, `unit` of what
        shown : its default in words; read : makes the value of a text, write : the text of a value
        flag : its option where that is not its name; option : False where a command line has none
        resumes : a resumed run may change it; complete : gives the words that a shell may offer
    """
    return field(default=default, metadata={"what": what, "group": group, **more})


def like(cls: type, name: str, **changes: Any) -> Any:
    """Return a field like that of another class, changed in what `setting` takes."""
    known: Field[Any] = cls.__dataclass_fields__[name]  # type: ignore[attr-defined]
    default = changes.pop("default", known.default)
    return field(default=default, metadata={**known.metadata, **changes})


def check_settings(settings: Any) -> None:
    """Raise SettingError unless each field is one of its `choices`, or a whole number in its bounds."""
    for each in fields(settings):
        rule, value = each.metadata, getattr(settings, each.name)
        choices = rule.get("choices", ())
        if choices and not any(type(value) is type(one) and value == one for one in choices):
            raise SettingError(f"{each.name}={value!r}: want {either(choices)}")
        if "least" not in rule or (value is None and each.default is None):
            continue
        least, most = rule["least"], rule.get("most")
        if type(value) is not int or value < least or (most is not None and value > most):
            bounds = f"{least} or more" if most is None else f"{least}..{most}"
            unit = f"{rule['unit']}, " if "unit" in rule else ""
            raise SettingError(f"{each.name}={value!r}: want {unit}{bounds}")
