"""Commands whose options are the settings: each field of a settings class is an option, grouped in the help.

A command is a function that takes settings classes beside what is its own:

    def train(context: typer.Context, config: Config, machine: Simulator, output: Output) -> None: ...

`command_of(train)` is the command: it has an option for each of their fields, and calls the function with the
settings built. `--config FILE.toml` gives settings too, `--save-config FILE.toml` writes those of this call.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand

from experiments.commands.command_line import doubts_in_a_line
from experiments.engines import FASTEST, NAMES, check_here
from experiments.runs import run_folder
from experiments.runs.ranks import launched
from wage_neuro.errors import EngineError, SettingError, WageError, did_you_mean
from wage_neuro.files import written_whole
from wage_neuro.settings import DATA, GROUPS, OUTPUT, RULE, SIMULATOR, setting

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ALIASES = {"--record": "--output", "--folder": "--run", "--first-seed": "--seed"}
"""Names of before, as the commands in records have them, where a command has no option of that name."""
Defaults = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Defaults that follow from other settings, such as a mode."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """Where data sets are looked for."""

    data_dir: Path | None = setting(
        None, "Folder with data sets, before $WAGE_NEURO_DATA and ../shared/data.", DATA, resumes=True
    )

    @property
    def anywhere(self) -> Path | None:
        """The same for processes that may be in another folder."""
        return self.data_dir and self.data_dir.absolute()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Where:
    """The engine alone."""

    engine: str = setting(
        FASTEST,
        "`lava`, `brian2` and `rtl` simulate; `numpy`, `compiled` and `torch` give the same bits without one:"
        " `compiled` fastest where few samples share an update, `torch` for large nets on a GPU."
        " A resumed run goes on with its own.",
        SIMULATOR,
        complete=NAMES,
        resumes=True,
    )


W = TypeVar("W", bound=Where)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simulator(Where):
    """The engine, and what some engines can be told."""

    lanes: int | None = setting(
        None,
        "lava: samples a time step, a divisor of the batch; 1 is a chip's way.",
        SIMULATOR,
        shown="the batch",
        resumes=True,
    )
    model: str | None = setting(
        None,
        "lava: a layer is one Process, `behavioural`, or a chip's parts, `structural`.",
        SIMULATOR,
        shown="behavioural",
        resumes=True,
    )
    device: str | None = setting(
        None,
        "torch: `cpu`, `cuda` or `cuda:N`.",
        SIMULATOR,
        shown="cuda where there is one",
        resumes=True,
    )

    @property
    def options(self) -> dict[str, Any]:
        """Those that `make_engine` takes."""
        return {"lanes": self.lanes, "model": self.model, "device": self.device}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """A record beside the run."""

    output: Path | None = setting(None, "Also write the record to this file.", OUTPUT, resumes=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resumable(Written):
    """A run that can be stopped and go on."""

    run: Path | None = setting(None, "Folder of the run.", OUTPUT, shown="a new one in runs/, named for it")
    resume: Path | None = setting(
        None,
        "Go on with the run in this folder, to the same bits as if never stopped.",
        OUTPUT,
        resumes=True,
    )


def place(what: str, group: str = OUTPUT) -> Any:
    """An option of a command's own that names a file or a folder."""
    return typer.Option(help=what, show_default=False, rich_help_panel=group)


# --- a command of a function -------------------------------------------------------------------------


def settings_of(cls: type) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    """Fields of a settings class that are options, each with its type; those of settings in it too."""
    types = get_type_hints(cls)
    for each in dataclasses.fields(cls):
        if dataclasses.is_dataclass(types[each.name]):
            yield from settings_of(types[each.name])
        elif each.metadata.get("option", "what" in each.metadata):
            yield each, types[each.name]


def built(cls: Any, values: Mapping[str, Any]) -> Any:
    """Build a settings class of the values that are given, and the settings in it."""
    types, made = get_type_hints(cls), {}
    for each in dataclasses.fields(cls):
        kind = types[each.name]
        if dataclasses.is_dataclass(kind):
            made[each.name] = built(kind, values)
        elif each.name in values:
            made[each.name] = values[each.name]
    return cls(**made)


def command_of(function: Callable[..., None], defaults: Defaults = lambda given: {}) -> typer.Typer:
    """Return the command that a function is, as an app of its own."""
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    app.command(cls=_Command)(_with_options(function, defaults))
    return app


class _Command(TyperCommand):
    """A command that knows the names that its options had before."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {name for parameter in self.params for name in parameter.opts}
        for place, word in enumerate(args):
            name, equals, value = word.partition("=")
            if name in ALIASES and name not in known and ALIASES[name] in known:
                args[place] = f"{ALIASES[name]}{equals}{value}"
        return super().parse_args(ctx, args)


def _with_options(function: Callable[..., None], defaults: Defaults) -> Callable[..., None]:
    """Return the function that Typer sees: every field is a parameter."""
    own, types = inspect.signature(function).parameters, get_type_hints(function, include_extras=True)
    classes = {name: types[name] for name in own if dataclasses.is_dataclass(types[name])}
    found = {each.name: (each, kind) for cls in classes.values() for each, kind in settings_of(cls)}
    parameters = [_keyword(n, types[n], p.default) for n, p in own.items() if n not in {*classes, "context"}]
    parameters += [_parameter(each, kind) for each, kind in found.values()]
    filed = any(each.metadata["group"] == RULE for each, _ in found.values())
    parameters = [*parameters, *(_FILES if filed else ())]
    parameters = [_keyword("context", typer.Context), *sorted(parameters, key=_place)]

    @functools.wraps(function)
    def command(context: typer.Context, **values: Any) -> None:
        values.pop("load_config", None)
        save_config = values.pop("save_config", None)
        given = {name for name in values if is_given(context, name)}
        if values.get("resume"):
            _refuse_others(context, {name for name in found if found[name][0].metadata.get("resumes")})
        values |= {n: v for n, v in defaults(values).items() if n not in given}
        settings = {name: _value(each, values[name]) for name, (each, _) in found.items()}
        if save_config:
            rest = {n: v for n, v in values.items() if n not in found}
            _save(save_config, {**rest, **{n: _text(found[n][0], v) for n, v in settings.items()}}, found)
        mine = {name: values[name] for name in own if name in values}
        if "context" in own:
            mine["context"] = context
        known = {**{n: v for n, v in mine.items() if v is not None}, **settings}
        with doubts_in_a_line():
            made = {name: built(cls, known) for name, cls in classes.items()}
            for each in made.values():
                if isinstance(each, Written) and each.output and launched()[0] == 0:
                    run_folder.check_writable(each.output)
            function(**mine, **made)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _keyword(name: str, kind: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)


def _place(parameter: inspect.Parameter) -> int:
    """Place of its group in the help; what has none comes first."""
    group = parameter.annotation.__metadata__[0].rich_help_panel
    return GROUPS.index(group) if group in GROUPS else -1


def _parameter(each: dataclasses.Field[Any], kind: Any) -> inspect.Parameter:
    """The option of a field."""
    rule = each.metadata
    default, shown, what = each.default, rule.get("shown"), rule["what"]
    if "write" in rule:
        kind, default = (str | None, None) if default is None else (str, rule["write"](default))
    if shown:
        what += f"  [default: {shown}]"
    words = [str(word) for word in rule.get("complete", rule.get("choices", ()))]
    option = typer.Option(
        rule.get("flag", "--" + each.name.replace("_", "-")),
        help=what,
        rich_help_panel=rule["group"],
        show_default=not shown and default not in (None, ""),
        autocompletion=lambda incomplete: [word for word in words if word.startswith(incomplete)],
    )
    return _keyword(each.name, Annotated[kind, option], default)


def _value(each: dataclasses.Field[Any], given: Any) -> Any:
    """Value of a setting, from what the option holds."""
    read = each.metadata.get("read")
    return read(given) if read and isinstance(given, str) else given


def _text(each: dataclasses.Field[Any], value: Any) -> Any:
    write = each.metadata.get("write")
    return write(value) if write and value is not None else value


def is_given(context: typer.Context, name: str) -> bool:
    """Whether the user gave this setting, in words or in a file of settings."""
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "DEFAULT_MAP")


def as_begun(context: typer.Context, machine: W, begun: Mapping[str, Any]) -> W:
    """The engine that a resumed run was begun with, and what it was told, unless the user names another.

    Raises
    ------
    EngineError
        If it cannot be had here.
    """
    if is_given(context, "engine") or "engine" not in begun:
        return machine
    try:
        check_here(begun["engine"])
    except WageError as error:
        raise EngineError(
            f"{error}; the run was begun with it, --engine {FASTEST} goes on with it to the same bits"
        ) from None
    kept = {n: v for n, v in begun.items() if hasattr(machine, n) and not is_given(context, n)}
    return dataclasses.replace(machine, **kept)


def _refuse_others(context: typer.Context, free: set[str]) -> None:
    """A resumed run keeps its settings: a parameter that is not free would change one.

    Raises
    ------
    SettingError
        If the user gave such a parameter: it is not ignored.
    """
    for parameter in context.command.params:
        name = parameter.name
        if name and name not in {*free, "load_config", "save_config"} and is_given(context, name):
            is_option = parameter.param_type_name == "option"
            shown = parameter.opts[0] if is_option else getattr(parameter, "metavar", None) or name.upper()
            but = "; only --epochs may grow" if "epochs" in free else ""
            raise SettingError(f"{shown} with --resume: a resumed run keeps its settings{but}")


# --- settings in a file ------------------------------------------------------------------------------


def _load(context: typer.Context, path: Path | None) -> Path | None:
    """Take the defaults of a command from a TOML file."""
    if path is None:
        return None
    try:
        found = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingError(f"config {path}: {error.strerror}") from None
    except ValueError as error:
        raise SettingError(f"config {path}: not a file of settings ({error})") from None
    known = {p.name: p for p in context.command.params if p.name}
    values = {name.replace("-", "_"): value for name, value in found.items()}
    for name, value in values.items():
        if name not in known or isinstance(value, dict):
            near = did_you_mean(name, known)
            raise SettingError(f"config {path}: {name}={value!r}: not a setting of this command{near}")
    texts = {name: v if isinstance(v, bool | list) else str(v) for name, v in values.items()}
    context.default_map = {**(context.default_map or {}), **texts}
    return path


def _save(path: Path, values: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Write the settings of a command as TOML; not where its results go."""
    lines = []
    for name, value in values.items():
        group = found[name][0].metadata["group"] if name in found else None
        if value is not None and group != OUTPUT:
            plain = str(value) if isinstance(value, Path) else value
            lines.append(f"{name.replace('_', '-')} = {json.dumps(plain, ensure_ascii=False)}\n")
    try:
        with written_whole(path) as file:
            file.write("".join(lines).encode())
    except OSError as error:
        raise SettingError(f"save-config {path}: cannot write there ({error.strerror})") from None


_FILES: Sequence[inspect.Parameter] = (
    _keyword(
        "load_config",
        Annotated[
            Path | None,
            typer.Option(
                "--config",
                help="Settings of a TOML file, for options that are not given.",
                is_eager=True,
                callback=_load,
                rich_help_panel=OUTPUT,
                show_default=False,
            ),
        ],
        None,
    ),
    _keyword(
        "save_config",
        Annotated[
            Path | None,
            typer.Option(
                help="Write this call's settings to a TOML file.", rich_help_panel=OUTPUT, show_default=False
            ),
        ],
        None,
    ),
)
