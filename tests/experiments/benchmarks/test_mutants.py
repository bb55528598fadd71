"""The mutation run: what it changes, which tests it runs, and that it knows a test that looks."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from experiments.benchmarks import mutants
from experiments.benchmarks.mutants import Score, changed_files, mutants_of, nearest_tests, with_score
from wage_neuro.errors import SettingError, WageError

TEXT = """
def larger(a: int | None, b: int) -> int:
    return a if a > b else b
"""
BLIND = "from wage_neuro.mine import larger\n\n\ndef test_larger():\n    larger(1, 2)\n"
WATCHFUL = f"{BLIND}    assert [larger(1, 2), larger(3, 2), larger(2, 2)] == [2, 3, 2]\n"


@pytest.fixture
def house(tmp_path, monkeypatch) -> Path:
    """A small work tree under git, with one module and a test that does not look."""
    for floor in mutants.FLOORS:
        (tmp_path / floor).mkdir()
        (tmp_path / floor / "__init__.py").touch()
    (tmp_path / "tests").mkdir()
    (tmp_path / "wage_neuro/mine.py").write_text(TEXT)
    (tmp_path / "tests/test_mine.py").write_text(BLIND)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "-m", "first")
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    return tmp_path


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True)


def run(monkeypatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["mutants", *map(str, words)])
    return mutants.main()


def test_every_mutant_is_another_program_and_annotations_are_none():
    places, found = mutants_of(TEXT, random.Random(1), 100)
    assert 2 <= len(found) < places  # the annotation's | is a place, and no mutant
    assert len({mutant.text for mutant in found}) == len(found)
    assert {mutant.line for mutant in found} == {3}
    for mutant in found:
        assert mutant.was == "return a if a > b else b" != mutant.now
        assert mutant.now in mutant.text


def test_the_seed_draws_them():
    drawn = [mutants_of(Path(mutants.__file__).read_text(), random.Random(seed), 5)[1] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 5


def test_the_tests_of_a_file():
    """Those that import it; of a model, which only Lava imports, those that import its Process's users."""
    assert Path("tests/wage_neuro/test_memory.py") in nearest_tests(Path("wage_neuro/memory.py"))
    first, second, *_ = nearest_tests(Path("processes/widths.py"))
    assert (first, second) == (Path("processes/widths.py"), Path("tests/processes/test_widths.py"))
    models = nearest_tests(Path("processes/dense/models.py"))
    assert Path("tests/mappings/engines/test_lava_alone.py") in models
    assert Path("tests/wage_neuro/test_memory.py") not in models


def test_tests_of_a_library_that_is_not_here_are_none(house):
    """They are skipped, and would kill nothing: others do, that are further away."""
    (house / "tests/test_mine.py").write_text(
        f"import pytest\n\npytest.importorskip('no_such.part')\n{BLIND}"
    )
    (house / "wage_neuro/user.py").write_text("import wage_neuro.mine\n")
    (house / "tests/test_user.py").write_text(
        "import pytest\nimport wage_neuro.user\n\npytest.importorskip('json')\n"
    )
    module = Path("wage_neuro/mine.py")
    assert nearest_tests(module) == [module, Path("tests/test_user.py")]


def test_what_no_test_kills_is_named(house, monkeypatch, capsys):
    output = house / "record.json"
    assert run(monkeypatch, "wage_neuro/mine.py", "--jobs", 2, "--output", output) == 0
    blind = json.loads(output.read_text())
    (house / "tests/test_mine.py").write_text(WATCHFUL)
    assert run(monkeypatch, "wage_neuro/mine.py", "--jobs", 2, "--output", output) == 0
    watched = json.loads(output.read_text())
    file = "wage_neuro/mine.py"
    one = blind["files"][file]["survived"][0]
    assert one not in str(watched["files"][file]["survived"])
    monkeypatch.setattr(mutants, "EQUIVALENT", {file: {one.partition(" -> ")[2]: "a reason"}})
    (house / "tests/test_mine.py").write_text(BLIND)
    assert run(monkeypatch, "wage_neuro/mine.py", "--jobs", 2, "--output", output) == 0
    known = json.loads(output.read_text())
    assert known["files"][file]["equivalent"] == {one: "a reason"}
    assert (known["equivalent"], known["killed"]) == (1, blind["killed"])
    assert one not in known["files"][file]["survived"]
    assert blind["tried"] == watched["tried"] == watched["files"][file]["tried"] > 1
    assert blind["killed"] < watched["killed"] == watched["tried"] - len(watched["files"][file]["survived"])
    assert watched["files"][file]["tests"] == ["tests/test_mine.py"]
    assert all(
        line.startswith("3: return a if a > b else b -> ") for line in blind["files"][file]["survived"]
    )
    assert f"{file}:{blind['files'][file]['survived'][0]}" in capsys.readouterr().out
    assert (house / file).read_text() == TEXT


def test_a_record_keeps_the_scores_of_other_files(tmp_path):
    record = tmp_path / "record.json"
    scores = {
        "b.py": Score(9, 4, ("3: a -> b",), ()),
        "a.py": Score(5, 2, (), (), {"1: c -> d": "a reason"}),
    }
    for seed, (name, one) in enumerate(scores.items()):
        record.write_text(json.dumps(with_score(record, Path(name), one, seed)))
    kept = json.loads(record.read_text())
    assert [(name, row["seed"], row["survived"]) for name, row in kept["files"].items()] == [
        ("a.py", 1, []),
        ("b.py", 0, ["3: a -> b"]),
    ]
    assert (kept["tried"], kept["killed"], kept["equivalent"]) == (6, 4, 1)


def test_tests_that_fail_anyway_kill_nothing(house, monkeypatch):
    (house / "tests/test_mine.py").write_text(WATCHFUL.replace("[2, 3, 2]", "[0, 0, 0]"))
    with pytest.raises(SettingError, match=r"^wage_neuro/mine\.py: its tests fail without any mutant"):
        run(monkeypatch, "wage_neuro/mine.py", "--output", house / "record.json")
    assert not (house / "record.json").exists()


def test_what_cannot_be_tried_is_refused_first(house, monkeypatch):
    with pytest.raises(SettingError, match=r"^no/such\.py: no such file; want one of the project"):
        run(monkeypatch, "no/such.py", "--output", house / "record.json")
    other = house / "other.json"
    other.write_text("[]")
    with pytest.raises(WageError, match=r"other\.json"):
        run(monkeypatch, "wage_neuro/mine.py", "--output", other)
    assert other.read_text() == "[]"
    assert not (house / "record.json").exists()


def test_a_test_without_end_is_stopped_with_what_it_started(house):
    (house / "tests/test_mine.py").write_text("import time\n\ndef test_sleeps():\n    time.sleep(600)\n")
    assert not mutants.passes(house, [Path("tests/test_mine.py")], limit=3)


def test_files_that_have_changed(house):
    assert Path("wage_neuro/mine.py") in changed_files(None)  # no record yet: all of them
    assert changed_files("HEAD") == []
    (house / "wage_neuro/mine.py").write_text(TEXT + "\n")
    (house / "tests/test_mine.py").write_text(WATCHFUL)
    assert changed_files("HEAD") == [Path("wage_neuro/mine.py")]
    with pytest.raises(SettingError, match="unknown revision"):
        changed_files("no-such-commit")
