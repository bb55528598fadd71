"""A study run by its own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.studies import alone
from wage_neuro.errors import SettingError


def study(run: Path, images: int = 10) -> None:
    """What it is."""
    if images > 99:
        raise SettingError(f"images={images}: want 99 or fewer")
    if images == 0:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (
            ("a", "--nonsense"),
            2,
            "mine: --nonsense: no such option (python -m experiments.studies.mine --help)",
        ),
        (
            ("a", "--images", "x"),
            2,
            "mine: --images 'x': want a whole number (python -m experiments.studies.mine",
        ),
        ((), 2, "mine: want RUN, which is not given (python -m experiments.studies.mine --help)"),
        (("a", "--images", "0"), 130, ""),
    ],
)
def test_usage_is_one_line(words, code, line, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["/somewhere/mine.py", *words])
    with pytest.raises(SystemExit) as ended:
        alone(study)
    err = capsys.readouterr().err.strip()
    assert (ended.value.code, len(err.splitlines())) == (code, bool(line))
    assert err.startswith(line)


def test_a_refusal_is_one_line_and_what_runs_ends(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["mine.py", "a", "--images", "100"])
    with pytest.raises(SystemExit) as ended:
        alone(study)
    assert ended.value.code == "mine: images=100: want 99 or fewer"
    monkeypatch.setattr("sys.argv", ["mine.py", "a"])
    alone(study)
    assert capsys.readouterr() == ("", "")
