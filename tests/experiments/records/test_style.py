"""Colours are told apart without colour vision and on grey paper."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from experiments.records import style


@pytest.mark.parametrize("colour", [s.colour for s in style.SERIES] + [style.OURS, style.OTHERS])
def test_a_line_stands_out_from_the_paper(colour):
    assert style.contrast(colour) >= 3


@pytest.mark.parametrize("colour", [style.INK, style.MUTED, style.OURS])
@pytest.mark.parametrize("ground", [style.PAPER, style.FAINT])
def test_words_can_be_read(colour, ground):
    assert style.contrast(colour, ground) >= 4.5


def test_no_two_series_look_alike_without_colour():
    assert len({(str(s.dash), s.marker) for s in style.SERIES}) == len(style.SERIES)
    assert len({s.bokeh_marker for s in style.SERIES}) == len(style.SERIES)


def test_stronger_is_darker_and_higher_is_lighter():
    grey = [style.luminance(colour) for colour in style.value_colours(64)]
    assert all(a > b for a, b in pairwise(grey))
    grey = [style.luminance(colour) for colour in style.error_colours(64)]
    assert all(a < b for a, b in pairwise(grey))
    assert all(style.contrast(colour, style.SILENT) > 1.25 for colour in style.error_colours(64))


@pytest.mark.parametrize("ground", style.value_colours(128))
def test_numbers_can_be_read_on_every_colour(ground):
    assert style.contrast(style.ink_on(ground), ground) >= 4.5


def test_the_style_sheet_names_only_colours_of_ours():
    named = set(re.findall(r"#[0-9a-f]{6}", style.CSS))
    assert named <= {style.INK, style.PAPER, style.MUTED, style.FAINT, style.EDGE, style.OURS, style.OTHERS}
    assert "url(" not in style.CSS
