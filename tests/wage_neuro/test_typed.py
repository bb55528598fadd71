"""JSON values as annotations have them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wage_neuro.errors import CheckpointError, DataError, SettingError
from wage_neuro.typed import Count, Share, built, checked, read_json, read_rows


class Row(TypedDict):
    epoch: Count
    error: Share


class More(Row, total=False):
    note: str


@dataclass(frozen=True)
class Inner:
    low: int = 0
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.low < 0:
            raise SettingError(f"low={self.low}: want 0 or more")


@dataclass(frozen=True)
class Outer:
    number: int
    share: float = 0.5
    flag: bool = False
    text: str | None = None
    inner: Inner = field(default_factory=Inner)
    pair: tuple[int, str] = (0, "")
    rows: Annotated[list[dict[str, Any]], list[More]] = field(default_factory=list)
    table: dict[str, list[int]] = field(default_factory=dict)
    anything: Any = None
    either: str | list[str] = ""


WHOLE = {
    "number": 1, "share": 1, "flag": True, "text": None, "inner": {"low": 2, "names": ["a"]},
    "pair": [3, "b"], "rows": [{"epoch": 0, "error": 0.25, "note": "c", "new": 5}],
    "table": {"d": [1, 2]}, "anything": [None], "either": ["e"],
}  # fmt: skip


def test_a_dataclass_comes_back_as_it_was():
    outer = built(Outer, WHOLE)
    assert outer == Outer(
        1, 1.0, True, None, Inner(2, ("a",)), (3, "b"), WHOLE["rows"], {"d": [1, 2]}, [None], ["e"]
    )  # fmt: skip
    assert type(outer.share) is float
    assert built(Outer, {"number": 1}) == Outer(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number": True}, "run.number=True: want a whole number"),
        ({"number": 1.0}, "run.number=1: want a whole number"),
        ({"number": None}, "run.number=None: want a whole number"),
        ({"number": "x" * 99}, "run.number='" + "x" * 59 + " ...: want a whole number"),
        ({"share": "1"}, "run.share='1': want a number"),
        ({"share": False}, "run.share=False: want a number"),
        ({"share": 10**400}, "run.share=1" + "0" * 59 + " ...: want a number"),
        ({"flag": 1}, "run.flag=1: want true or false"),
        ({"text": 5}, "run.text=5: want a text"),
        ({"inner": []}, "run.inner=[]: want an object"),
        ({"inner": {"high": 1}}, "run.inner.high=1: want low, names alone"),
        ({"inner": {"low": -1}}, "low=-1: want 0 or more"),
        ({"inner": {"names": [1]}}, "run.inner.names[0]=1: want a text"),
        ({"pair": [1]}, "run.pair=[1]: want 2 values"),
        ({"pair": ["a", "b"]}, "run.pair[0]='a': want a whole number"),
        ({"rows": [{"epoch": 0, "error": 0}, {"epoch": 0}]}, "run.rows[1].error: is missing"),
        ({"rows": [{"epoch": -1, "error": 0}]}, "run.rows[0].epoch=-1: want 0..9223372036854775807"),
        ({"rows": [{"epoch": 0, "error": 1.5}]}, "run.rows[0].error=1.5: want 0..1"),
        ({"rows": [{"epoch": 0, "error": float("nan")}]}, "run.rows[0].error=nan: want 0..1"),
        ({"rows": [{"epoch": 0, "error": 0, "note": 5}]}, "run.rows[0].note=5: want a text"),
        ({"table": {"a b": [None]}}, "run.table.'a b'[0]=None: want a whole number"),
        ({"either": 5}, "run.either=5: want a list"),
        (
            {"new": 5},
            "run.new=5: want number, share, flag, text, inner, pair, rows, table, anything, either alone",
        ),
    ],
)
def test_the_line_names_field_and_value(change, message):
    with pytest.raises((CheckpointError, SettingError)) as caught:
        built(Outer, {**WHOLE, **change}, "run")
    assert str(caught.value) == message


def test_what_must_be_there():
    with pytest.raises(CheckpointError, match=r"^run\.number: is missing$"):
        built(Outer, {}, "run")
    with pytest.raises(CheckpointError, match=r"^None: want an object$"):
        built(Outer, None)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(st.sampled_from(sorted(WHOLE)), VALUES)
def test_any_value_is_taken_or_refused_in_one_line(name, value):
    text = ""
    try:
        outer = built(Outer, {**WHOLE, name: value}, "run")
    except (CheckpointError, SettingError) as error:
        text = str(error)
    assert "\n" not in text
    assert len(text) < 300
    if not text:
        assert built(Outer, {**WHOLE, name: getattr(outer, name)}, "run") == outer or value != value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no row to read (No such file or directory)"),
        (b"", "damaged row (Expecting value: line 1 column 1 (char 0))"),
        (b"\xff\xfe", "damaged row ("),
        (b"[" * 100_000, "damaged row (maximum recursion depth exceeded"),
        (b"1" * 5000, "damaged row (Exceeds the limit"),
        (b"[]", "damaged row: []: want an object"),
        (b'{"epoch": 0}', "damaged row: error: is missing"),
    ],
)
def test_files(content, message, tmp_path):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"^{path}: {re.escape(message)}"):
        read_json(path, Row, "row", DataError)


def test_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"epoch": i, "error": i / 4} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_rows(path, Row, "record") == rows
    path.write_text('{"epoch": 0, "error": 0}\n{"epoch": 0, "error": 2}\n')
    with pytest.raises(CheckpointError, match=r"a\.jsonl: damaged record: line 2\.error=2: want 0\.\.1$"):
        read_rows(path, Row, "record")


def test_ints_of_a_range():
    assert checked(Annotated[int, (1, 3)], 3) == 3
    for wrong in (0, 4):
        with pytest.raises(CheckpointError, match=rf"^n={wrong}: want 1\.\.3$"):
            checked(Annotated[int, (1, 3)], wrong, "n")
