"""What the commands share on the terminal."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.table import Table

from experiments.commands import command_line, train
from experiments.commands.command_line import show_table
from experiments.runs.training import Config
from wage_neuro.rules import Rules

NUMBERS = ("401,920", "138,412,032", "1,234,567.891")


def shown(width: int, terminal: bool) -> str:
    out = io.StringIO()
    table = Table("a column of texts", *(f"number {i}" for i in range(6)), title="a title of some words")
    table.add_row("a text of several words that may wrap", *NUMBERS, *NUMBERS)
    show_table(table, Console(file=out, width=width, force_terminal=terminal, soft_wrap=True))
    return out.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("width", [20, 60, 80, 95, 110, 200])
def test_no_number_of_a_table_is_cut(width, terminal):
    text = shown(width, terminal)
    assert "…" not in text
    for number in NUMBERS:
        assert text.count(f" {number} ") == 2


@pytest.mark.parametrize("width", [46, 60, 80, 120, 200])
def test_no_number_of_a_bar_is_cut(width, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(command_line, "console", Console(file=out, width=width, force_terminal=True))
    fields = "{task.fields[rate]:,.0f} samples/s", "error {task.fields[error]}"
    with command_line.bar("epoch {task.fields[epoch]}", *fields) as progress:
        error = "training 12.34 %, validation 56.78 %"
        progress.add_task("", total=10, epoch="17/20", rate=1_234_567, error=error)
        progress.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "…" not in text
    assert all(number in text for number in ("17/20", "1,234,567", "12.34", "56.78"))


def test_the_bar_of_train_is_one_line_of_80(monkeypatch):
    """With the longest of its words."""
    out = io.StringIO()
    monkeypatch.setattr(command_line, "console", Console(file=out, width=80))
    run = SimpleNamespace(
        config=Config(epochs=300, rules=Rules(batch=10**6), validation=9),
        progress=SimpleNamespace(epoch=0, batch=0),
        batches=1,
    )
    with command_line.bar("epoch {task.fields[epoch]}", *train.FIELDS) as progress:
        train._display(progress, run)(train.Report(299, 300, 0, 0, 9, 0.1234, 123_456.0, 0.1234))
        command_line.console.print(progress.get_renderable())
    (line,) = {line for line in out.getvalue().splitlines() if line.strip()}
    assert "epoch 300/300" in line
    assert "123,456 samples/s error 12.34 %, validation 12.34 % left" in line


def test_a_table_in_a_pipe_is_as_wide_as_it_is():
    assert shown(80, False) == shown(1000, False)
    assert "a text of several words that may wrap" in shown(80, False)


def test_texts_wrap_on_a_narrow_terminal():
    plain, wide = (max(map(len, shown(width, True).splitlines())) for width in (100, 1000))
    assert plain < wide
