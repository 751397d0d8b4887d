"""How alike texts are, in Chinese and English."""

from __future__ import annotations

from itertools import product
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.management.merging.tests.likeness import OTHER, SAME
from services.management.model_words import TEXT_CHARS_MAX, likeness


def test_reports_of_one_thing_are_told_from_those_of_two() -> None:
    same = [likeness(*pair) or 0.0 for pair in SAME]
    other = [likeness(*pair) or 0.0 for pair in OTHER]
    right = mean((one > two) + 0.5 * (one == two) for one, two in product(same, other))
    assert right > 0.98, (same, other)
    assert mean(same) > 4 * mean(other)


@pytest.mark.parametrize(
    ("text", "text_2"),
    [("路灯坏了", "The street light is out"), ("", "Tags"), ("!!!", "Tags"), ("的了", "墙"), ("it is the", "墙")],
)
def test_what_cannot_be_compared_says_nothing(text: str, text_2: str) -> None:
    assert likeness(text, text_2) is None


@pytest.mark.parametrize(
    ("text", "text_2"),
    [
        ("Street lights", "STREET LIGHT"),
        ("The flooded street", "street flooding"),
        ("路灯坏了", "路灯坏"),
        ("12345热线", "１２３４５ 热线"),
        ("路灯 street light", "street light 路灯"),
    ],
)
def test_spelling_endings_and_order_do_not_matter(text: str, text_2: str) -> None:
    assert likeness(text, text_2) == 1


@given(st.text(max_size=50), st.text(max_size=50))
def test_it_is_a_share_and_the_same_from_both_sides(text: str, text_2: str) -> None:
    found = likeness(text, text_2)
    assert found == likeness(text_2, text)
    assert found is None or 0 <= found <= 1
    assert likeness(text, text) in {None, 1}


def test_the_beginning_of_a_long_text_counts() -> None:
    assert likeness("wall " * TEXT_CHARS_MAX, "wall " * TEXT_CHARS_MAX + "unlike") == 1
