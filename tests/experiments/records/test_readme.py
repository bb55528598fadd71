"""The READMEs' numbers are those of the committed records."""

from __future__ import annotations

import re

import pytest

from experiments.records import readme


@pytest.fixture(scope="module")
def made_anew():
    return readme.with_tables(readme.pages())


def test_readmes_equal_the_records(made_anew):
    assert made_anew == readme.pages(), "run `make readme`"


def test_every_picture_and_page_is_there():
    for page, text in readme.pages().items():
        for path in re.findall(r"\]\(((?!http)[^)#]+)\)", text):
            assert (page.parent / path).exists(), f"{page}: {path}"


def test_every_floor_has_a_page():
    floors = ("wage_neuro", "processes", "mappings", "experiments", "tests")
    assert {readme.ROOT / floor / "README.md" for floor in floors} < set(readme.pages())


def test_the_first_page_is_short():
    assert len(readme.README.read_bytes()) <= 9 * 1024


def test_a_changed_number_is_found(made_anew):
    texts = readme.pages()
    page = readme.RESULTS / "README.md"
    number = re.search(r"\*\*(\d\d\.\d\d) %\*\*", texts[page])
    assert number
    forged = {**texts, page: texts[page].replace(number[1], "99.99", 1)}
    assert readme.with_tables(forged) == made_anew != forged


def test_a_table_without_a_place_is_an_error():
    with pytest.raises(ValueError, match="0 places for the table 'headline', want 1"):
        readme.with_tables({readme.README: "no tables here"})


def test_a_record_of_an_experiment_wants_its_table(tmp_path):
    assert "experiments" not in readme.tables(tmp_path)
    (tmp_path / "experiments" / "patterns").mkdir(parents=True)
    (tmp_path / "experiments" / "patterns" / "2888-s0.json").write_text("{}")
    assert set(readme.tables(tmp_path)) == set(readme.TABLES)
    assert readme.records(tmp_path) == []  # they are in no other table


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("lava", reason="lava-nc is not installed")
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", readme.README.read_text(), re.DOTALL)
    assert examples
    for example in examples:
        exec(compile(example, "README.md", "exec"), {"__name__": "__main__"})
    assert 0 < float(capsys.readouterr().out) <= 1


def test_every_command_is_one(wage_neuro):
    """Options that the README names are options that the command has."""
    text = "\n".join(readme.pages().values())
    commands = re.findall(r"^wage-neuro (\S+)(.*?)(?:#.*)?$", text, re.MULTILINE)
    assert len(commands) >= 40
    for name, words in commands:
        known = wage_neuro(name, "--help").out
        assert all(option in known for option in re.findall(r"--[a-z][a-z-]*", words)), (name, words)
