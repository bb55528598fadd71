"""What was typed wrongly, in one line with what was typed in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from typer import BadParameter

from wage_neuro.errors import did_you_mean

UsageError: type[Exception] = BadParameter.__mro__[1]
"""Whatever the command line could not read; Typer has it from click, or in a copy of its own."""
WANTED = {
    r"valid integer": "a whole number",
    r"valid (number|float)": "a number",
    r"valid boolean": "yes or no",
    r"(?:greater than or equal to |range x>=)(?P<least>[-\d.]+\d|\d)": "{least} or more",
}
"""What is wanted, by how Typer, of this version or an older one, says that it is not."""
USAGE = 2
"""Exit code of a command that was typed wrongly."""


def asks_for_help(error: Exception) -> bool:
    """Whether it is no mistake but a group of commands without a command, which shows its help."""
    return type(error).__name__ == "NoArgsIsHelpError"


def in_a_line(error: Any, words: Sequence[str]) -> str:
    """The mistake, what is wanted, and where the help is; `words` are those that were typed."""
    alone = ["wage-neuro", *(word for word in words[:1] if not word.startswith("-"))]
    command = error.ctx.command_path if error.ctx else " ".join(alone)
    return f"{_mistake(error, words)} ({command} --help)"


def _mistake(error: Any, words: Sequence[str]) -> str:
    kind, param = type(error).__name__, getattr(error, "param", None)
    if kind == "NoSuchOption":
        known = [name for each in error.ctx.command.params for name in each.opts] if error.ctx else []
        return f"{_typed(error.option_name, words)}: no such option{did_you_mean(error.option_name, known)}"
    if kind == "BadOptionUsage":
        more = "takes no value" if "not take" in error.message else "want a value after it"
        return f"{_typed(error.option_name, words)}: {more}"
    if kind == "MissingParameter" and param is not None:
        is_option = param.param_type_name == "option"
        return (
            f"want {param.opts[0] if is_option else param.name.upper().replace('_', ' ')}, which is not given"
        )
    if kind == "BadParameter" and param is not None:
        is_option = param.param_type_name == "option"
        name = param.opts[0] if is_option else param.name
        value = _value(param.opts, words) if is_option else ""
        return f"{name} {value!r}: {_wanted(error.message)}" if value else f"{name}: {_wanted(error.message)}"
    message = " ".join(error.format_message().split())
    if found := re.match(r"No such command '(.*?)'\.", message):
        known = error.ctx.command.list_commands(error.ctx) if error.ctx else []
        return f"{found[1]!r}: no such command{did_you_mean(found[1], known)}"
    if found := re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", message):
        return f"{found[1]!r}: more than this command takes"
    return _lower(message)


def _wanted(message: str) -> str:
    """What is wanted in our words where they are known.

    >>> _wanted("Input should be greater than or equal to 1"), _wanted("'x' is not a valid integer.")
    ('want 1 or more', 'want a whole number')
    """
    for said, wanted in WANTED.items():
        if found := re.search(said, message):
            return f"want {wanted.format(**found.groupdict())}"
    return _lower(message)


def _typed(option: str, words: Sequence[str]) -> str:
    """An option as it stands on the command line, its value with it."""
    return next((shlex.quote(word) for word in words if word.startswith(option)), option)


def _value(names: Sequence[str], words: Sequence[str]) -> str:
    """What was typed after an option."""
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else next(iter(words[place + 1 :]), "")
    return ""


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")
