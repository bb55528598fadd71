"""Options that are made of settings: their names in every command, files of settings, names of before."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from importlib import import_module
from types import SimpleNamespace

import pytest
import typer

from experiments import cli
from experiments.commands.options import ALIASES, Simulator, as_begun, settings_of
from experiments.continual.study import Config as StreamConfig
from experiments.engines import FASTEST
from experiments.runs.training import Config
from experiments.transfer.study import Config as TransferConfig
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.rules import Rules
from wage_neuro.settings import GROUPS, RULE, check_settings, setting

QUICK = ["--data", "digits", "--network", "16FC", "--batch", "32", "--epochs", "1", "--train-images", "64"]


def commands() -> dict[str, typer.core.TyperCommand]:
    found = {}
    for name, (where, _) in cli.COMMANDS.items():
        module, _, app = where.partition(":")
        found[name] = typer.main.get_command(getattr(import_module(f"experiments.{module}"), app))
    return found


def test_the_first_line_of_each_command_is_that_of_its_function():
    for name, command in commands().items():
        assert (command.help or "").splitlines()[0] == cli.COMMANDS[name][1], name


def test_every_command_calls_the_same_thing_by_the_same_name_and_default():
    options: dict[str, dict[str, set[object]]] = {}
    for name, command in commands().items():
        for each in command.params:
            if each.param_type_name == "option":
                kept = options.setdefault(each.opts[0], {}).setdefault(str(each.default), set())
                kept.add(name)
    for option in ("--run", "--resume", "--data-dir", "--device", "--model", "--bits", "--seeds"):
        assert len(options[option]) == 1, options[option]
    assert {frozenset(names) for names in options["--engine"].values()} >= {frozenset({"demo"})}
    assert len(options["--engine"]) == 2
    assert not {"--folder", "--first-seed"} & options.keys()
    assert options.get("--record", {"None": {"rtl"}}) == {"None": {"rtl"}}


@pytest.mark.parametrize("cls", [Config, StreamConfig, TransferConfig, Rules])
def test_every_setting_says_what_it_is(cls):
    for each in dataclasses.fields(cls):
        if not dataclasses.is_dataclass(each.default):
            assert each.metadata["what"].endswith((".", "`")), each.name
            assert each.metadata["group"] in GROUPS
    assert {each.name for each, _ in settings_of(Config)} >= {"data", "network", "eta", "batch", "margin"}
    assert not {"new_shift", "consolidation"} & {each.name for each, _ in settings_of(Config)}


def test_help_is_grouped(wage_neuro):
    out = wage_neuro("train", "--help").out
    places = [out.index(f"─ {group} ─") for group in GROUPS]
    assert places == sorted(places)
    rule, simulator = out.index("─ Rule ─"), out.index("─ Simulator ─")
    assert all(rule < out.index(f" --{name} ") < simulator for name in ("eta", "batch", "margin", "mode"))


def test_settings_are_written_and_read(wage_neuro, tmp_path):
    first = ("train", *QUICK, "--margin", "3/8", "--loss", "one-sided", "--engine", "numpy")
    ended = wage_neuro(*first, "--run", "one", "--save-config", "kept.toml")
    assert (ended.code, ended.err) == (0, "")
    text = (tmp_path / "kept.toml").read_text()
    assert 'margin = "3/8"\n' in text
    assert "train-images = 64\n" in text
    assert not re.search("^(run|output|resume|config|save)", text, re.MULTILINE)
    again = wage_neuro("train", "--config", "kept.toml", "--run", "two", "--seed", 3)
    assert (again.code, again.err) == (0, "")
    one, two = (json.loads((tmp_path / run / "record.json").read_text()) for run in ("one", "two"))
    assert {**one["config"], "seed": 3} == two["config"]
    assert one["engine"] == two["engine"] == "numpy"


def test_a_mode_leaves_what_the_file_gives(wage_neuro, tmp_path):
    (tmp_path / "c.toml").write_text('mode = "onchip"\nepochs = 1\npipelined = true\nnetwork = "8FC"\n')
    ended = wage_neuro("train", "--config", "c.toml", "--train-images", 300, "--run", "out")
    assert (ended.code, ended.err) == (0, "")
    config = json.loads((tmp_path / "out" / "record.json").read_text())["config"]
    assert (config["epochs"], config["rules"]["batch"], config["rules"]["margin"]) == (1, 250, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bacth = 3", "config c.toml: bacth=3: not a setting of this command; did you mean batch?"),
        ("[rules]\nbatch = 3", "config c.toml: rules={'batch': 3}: not a setting of this command"),
        ("batch = ", "config c.toml: not a file of settings ("),
        ("batch = 0", "batch=0: want 1 or more"),
        (None, "config c.toml: No such file or directory"),
    ],
)
def test_a_file_that_gives_no_settings(text, message, wage_neuro, tmp_path):
    if text is not None:
        (tmp_path / "c.toml").write_text(text)
    ended = wage_neuro("train", "--config", "c.toml", "--network", "8FC", "--run", "out")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert ended.err.startswith(f"wage-neuro: {message}")
    assert not (tmp_path / "out").exists()


def test_a_file_cannot_change_a_resumed_run(wage_neuro, tmp_path):
    assert wage_neuro("train", *QUICK, "--run", "out").code == 0
    (tmp_path / "c.toml").write_text("eta = 2")
    ended = wage_neuro("train", "--resume", "out", "--config", "c.toml")
    assert ended.err == (
        "wage-neuro: --eta with --resume: a resumed run keeps its settings; only --epochs may grow\n"
    )
    (tmp_path / "c.toml").write_text("epochs = 2")
    ended = wage_neuro("train", "--resume", "out", "--config", "c.toml")
    assert (ended.code, ended.err) == (0, "")
    assert len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()) == 2


def test_names_of_before_are_taken_and_not_shown(wage_neuro, tmp_path):
    assert wage_neuro("train", *QUICK, "--run", "out", "--record=table.json").code == 0
    assert (tmp_path / "table.json").read_text() == (tmp_path / "out" / "record.json").read_text()
    for command in ("train", "experiment", "continual", "results"):
        assert not set(ALIASES) & set(re.findall(r"--[a-z-]+", wage_neuro(command, "--help").out))


def test_completion_offers_words(monkeypatch, wage_neuro):
    monkeypatch.setenv("_WAGE_NEURO_COMPLETE", "complete_bash")
    for words, offered in {
        "wage-neuro tra": {"train", "transfer"},
        "wage-neuro train --feedb": {"--feedback"},
        "wage-neuro train --feedback ": {"transposed", "random", "direct"},
        "wage-neuro train --data ci": {"cifar-10"},
        "wage-neuro continual x --method feat": {"features", "features-replay"},
    }.items():
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(shlex.split(words)) - (not words.endswith(" "))))
        assert set(wage_neuro().out.split()) == offered


# --- the check of settings ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Some:
    word: object = setting("a", "A word.", RULE, choices=("a", "b", 1))
    some: object = setting(1, "Some.", RULE, least=1)
    few: object = setting(None, "Few.", RULE, least=0, most=3, unit="bits")

    def __post_init__(self) -> None:
        check_settings(self)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"word": "c"}, "word='c': want a, b or 1"),
        ({"word": True}, "word=True: want a, b or 1"),
        ({"some": 0}, "some=0: want 1 or more"),
        ({"some": 1.5}, "some=1.5: want 1 or more"),
        ({"some": True}, "some=True: want 1 or more"),
        ({"few": 4}, "few=4: want bits, 0..3"),
        ({"few": -1}, "few=-1: want bits, 0..3"),
    ],
)
def test_a_setting_out_of_its_bounds(given, message):
    assert Some(word="b", some=10**30, few=3) == Some(word="b", some=10**30, few=3)
    with pytest.raises(SettingError, match=f"^{re.escape(message)}$"):
        Some(**given)


def given(*names: str) -> SimpleNamespace:
    """A context in which the user gave these."""
    source = {True: SimpleNamespace(name="COMMANDLINE"), False: SimpleNamespace(name="DEFAULT")}
    return SimpleNamespace(get_parameter_source=lambda name: source[name in names])


@pytest.mark.parametrize(
    ("asked", "goes_on"),
    [
        ({}, ("numpy", 4, "structural")),
        ({"lanes": 2}, ("numpy", 2, "structural")),
        ({"engine": "compiled"}, ("compiled", None, None)),
        ({"engine": "compiled", "lanes": 2}, ("compiled", 2, None)),
    ],
)
def test_a_resumed_run_keeps_its_engine_and_what_that_was_told(asked, goes_on):
    begun = {"engine": "numpy", "lanes": 4, "model": "structural", "versions": {}}
    found = as_begun(given(*asked), Simulator(**asked), begun)
    assert (found.engine, found.lanes, found.model) == goes_on
    assert as_begun(given(), Simulator(lanes=3), {}) == Simulator(lanes=3)  # a run of before says nothing


def test_an_engine_that_is_not_here_any_more_is_one_line():
    words = (
        rf"^engine 'mine': want .*; the run was begun with it, --engine {FASTEST} goes on with it to the same"
    )
    with pytest.raises(EngineError, match=words):
        as_begun(given(), Simulator(), {"engine": "mine"})
