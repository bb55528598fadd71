"""Step sizes: every power of two, schedules, and what is refused."""

from __future__ import annotations

import contextlib
import time
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wage_neuro.control import LOG2_ETA_RANGE
from wage_neuro.errors import SettingError
from wage_neuro.eta import EtaSchedule, log2_of

EXPONENTS = range(LOG2_ETA_RANGE[0], LOG2_ETA_RANGE[1] + 1)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_every_power_of_two_in_every_notation(exponent):
    value = 2.0**exponent
    for text in (str(Fraction(value)), f" {Fraction(value)} ", f"{value:.16f}", repr(value)):
        assert log2_of(text) == exponent


@pytest.mark.parametrize(
    "text", ["3", "0", "-8", "1/3", "0.3", "131072", "1/131072", "8/0", "nan", "inf", "eight", "", "2**3"]
)
def test_what_is_no_power_of_two_is_named(text):
    with pytest.raises(
        SettingError, match=r"want a power of two such as 8, 1 or 1/8 \(2\*\*-16 \.\. 2\*\*16\)"
    ) as error:
        log2_of(text)
    assert str(error.value).startswith(f"eta={text}: ")


schedules = st.tuples(
    st.sampled_from(EXPONENTS),
    st.dictionaries(st.integers(1, 400), st.sampled_from(EXPONENTS), max_size=5),
    st.sampled_from([",", ", ", " , "]),
)


@given(schedules, st.integers(0, 500))
def test_a_schedule_is_a_staircase(schedule, epoch):
    first, later, comma = schedule
    later = dict(sorted(later.items()))
    text = comma.join([f"{Fraction(2.0**first)}", *(f"{Fraction(2.0**e)}@{at}" for at, e in later.items())])
    wanted = first
    for at, exponent in later.items():
        if epoch >= at:
            wanted = exponent
    parsed = EtaSchedule.parse(text)
    assert parsed.log2_at(epoch) == wanted
    assert parsed == EtaSchedule.parse(text.replace(" ", ""))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", r"eta=3: want a power of two"),
        ("8, 3@2", r"eta=3: want a power of two"),
        ("8,", r"eta=: want a power of two"),
        ("8@2", r"eta '8@2': want a first value without @, then epochs that grow"),
        ("8, 4@0", r"want a first value without @, then epochs that grow"),
        ("8, 4@5, 2@5", r"eta '8, 4@5, 2@5': want a first .* epochs that grow"),
        ("8, 4@5, 2@3", r"epochs that grow"),
        ("8, 4", r"epochs that grow"),
        ("8, 4@x", r"eta '4@x': want a whole epoch after the @"),
        ("8, 4@", r"eta '4@': want a whole epoch"),
        ("8, 4@-1", r"eta '4@-1': want a whole epoch"),
        ("8, 4@1.5", r"eta '4@1.5': want a whole epoch"),
    ],
)
def test_schedules_that_cannot_be(text, message):
    with pytest.raises(SettingError, match=message):
        EtaSchedule.parse(text)


@given(st.one_of(st.text(max_size=12), st.text("0123456789@,./- ²", max_size=12)))
@example("8, 1@\x1f3")  # what str.strip takes away, int does not
@example("8, 1@²")  # a digit to str.isdigit, not to int
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(SettingError):
        assert EtaSchedule.parse(text).log2_at(0) in EXPONENTS


def test_a_huge_exponent_is_refused_at_once():
    began = time.monotonic()
    with pytest.raises(SettingError, match="eta=1e9000000: want a power of two"):
        log2_of("1e9000000")
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("text", ["8\n1", "1/\x1f4", "8, 1@3, 2\x853@4", "8, 1@\n, 2"])
def test_what_cannot_be_printed_is_refused_in_one_line(text):
    with pytest.raises(SettingError) as caught:
        EtaSchedule.parse(text)
    assert str(caught.value).isprintable()


def test_an_epoch_between_odd_blanks_is_read():
    assert EtaSchedule.parse("8, 1@\x1f3").steps == ((0, 3), (3, 0))
