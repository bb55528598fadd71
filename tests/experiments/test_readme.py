"""The README's numbers are those of the committed records."""

from __future__ import annotations

import re

import pytest

from experiments import readme


def test_readme_equals_the_records():
    text = readme.README.read_text()
    assert readme.with_tables(text) == text, "run `make readme`"


def test_every_picture_is_there():
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", readme.README.read_text()):
        assert (readme.ROOT / path).exists(), path


def test_a_changed_number_is_found():
    text = readme.README.read_text()
    number = re.search(r"\*\*(\d\d\.\d\d) %\*\*", text)
    assert number
    forged = text.replace(number[1], "99.99", 1)
    assert readme.with_tables(forged) == readme.with_tables(text) != forged


def test_a_table_without_a_place_is_an_error():
    with pytest.raises(ValueError, match="0 places for the table 'results', want 1"):
        readme.with_tables("no tables here")
