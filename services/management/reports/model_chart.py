"""Charts as rectangles and words, for any page: what SVG and PDF draw is the same. Pure.

Lengths are in points; y grows downwards from the top edge, as in SVG.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 480.0
COLUMNS_HEIGHT = 150.0
ROW_HEIGHT = 16.0
LEFT, TOP, BOTTOM = 34.0, 8.0, 18.0
NAMES_WIDTH = 150.0
LABELS_MAX = 8
# Axes end at one of these times a power of ten.
_STEPS = (1, 2, 4, 5, 8, 10)


class Bar(NamedTuple):
    """A filled rectangle of one of the colours, by number."""

    x: float
    y: float
    width: float
    height: float
    colour: int


class Words(NamedTuple):
    """A text whose baseline is at y; `anchor` is "start", "middle" or "end"."""

    x: float
    y: float
    text: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing of this size. `rules` are the heights of horizontal lines from LEFT to the right edge."""

    height: float
    bars: tuple[Bar, ...]
    words: tuple[Words, ...]
    rules: tuple[float, ...] = ()
    width: float = WIDTH


def columns(labels: Sequence[str], series: Sequence[Sequence[int]]) -> Chart:
    """Draw columns side by side, one per series, over each label; as many labels are written as there is room for."""
    top = ceiling(max((value for values in series for value in values), default=0))
    room = COLUMNS_HEIGHT - TOP - BOTTOM
    slot = (WIDTH - LEFT) / max(len(labels), 1)
    width = slot * 0.8 / len(series)
    bars = tuple(
        Bar(
            LEFT + slot * (place + 0.1) + width * number,
            TOP + room * (1 - value / top),
            width,
            room * value / top,
            number,
        )
        for number, values in enumerate(series)
        for place, value in enumerate(values)
        if value
    )
    every = -(-len(labels) // LABELS_MAX) or 1
    words = [
        Words(LEFT + slot * (place + 0.5), COLUMNS_HEIGHT - 4, label, "middle")
        for place, label in enumerate(labels)
        if place % every == 0
    ]
    rules = tuple(TOP + room * share for share in (0, 0.5, 1))
    words += [
        Words(LEFT - 4, height + 3, f"{top * share:g}", "end") for height, share in zip(rules, (1, 0.5, 0), strict=True)
    ]
    return Chart(COLUMNS_HEIGHT, bars, tuple(words), rules)


def rows(labels: Sequence[str], values: Sequence[int]) -> Chart:
    """Draw one bar per label to the right of it, with its value behind it."""
    top = max(values, default=0) or 1
    room = WIDTH - NAMES_WIDTH - 40
    bars = tuple(
        Bar(NAMES_WIDTH, place * ROW_HEIGHT + 3, room * value / top, ROW_HEIGHT - 6, 0)
        for place, value in enumerate(values)
        if value
    )
    words: list[Words] = []
    for place, (label, value) in enumerate(zip(labels, values, strict=True)):
        baseline = (place + 0.72) * ROW_HEIGHT
        words.append(Words(NAMES_WIDTH - 6, baseline, label, "end"))
        words.append(Words(NAMES_WIDTH + room * value / top + 4, baseline, str(value), "start"))
    return Chart(ROW_HEIGHT * max(len(labels), 1), bars, tuple(words))


def ceiling(most: int) -> int:
    """Return the end of an axis: the next even step above the greatest value, 2 at least."""
    power = 1
    while True:
        for step in _STEPS:
            if step * power >= max(most, 2):
                return step * power
        power *= 10
