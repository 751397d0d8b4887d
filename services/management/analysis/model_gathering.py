"""Counts by zone and window, gathered into what is tested: zones with those below them, and their true history."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from services.management.analysis.model_rise import BASELINE_WINDOWS_MIN, Cell, Counts, season_factor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from services.management.analysis.model_rise import Windows


class Counted(NamedTuple):
    """How many events of a type a zone had itself, in the window at `place` of `Windows.every`."""

    place: int
    zone: str
    type: str
    events: int


class Gathered(NamedTuple):
    """What `find` tests."""

    cells: dict[Cell, Counts]
    seasons: dict[str, float]


def gather(
    counted: Iterable[Counted], windows: Windows, since: Mapping[str, datetime], above: Callable[[str], Sequence[str]]
) -> Gathered:
    """Sum what was counted over the zones above, and cut each history to the time in which there was one.

    `since` says since when a type is in the catalogue; what occurred before that (history that was brought along)
    counts as well. `above` gives a zone with those above it that are looked at, in their present codes. A zone of
    which nothing was heard until lately is left out altogether: that a district begins to report is no rise.
    """
    rows = list(counted)
    length = len(windows.baseline)
    zone_first = _first((row.zone, row.place) for row in rows if 1 <= row.place <= length)
    type_first = _first((row.type, row.place) for row in rows if 1 <= row.place <= length)
    sums: dict[Cell, list[int]] = defaultdict(lambda: [0] * len(windows.every()))
    reporting: dict[str, int] = {}
    for row in rows:
        first = zone_first.get(row.zone, length + 1)
        if length + 1 - first < BASELINE_WINDOWS_MIN:
            continue
        for zone in above(row.zone):
            sums[Cell(zone, row.type)][row.place] += row.events
            reporting[zone] = min(reporting.get(zone, first), first)
    cells: dict[Cell, Counts] = {}
    for cell, numbers in sums.items():
        first = max(reporting[cell.zone], _in_use(cell.type, windows, since, type_first.get(cell.type, length + 1)))
        cells[cell] = Counts(numbers[0], tuple(numbers[first : length + 1]))
    return Gathered(cells, _seasons(rows, windows))


def _first(places: Iterable[tuple[str, int]]) -> dict[str, int]:
    first: dict[str, int] = {}
    for key, place in places:
        first[key] = min(first.get(key, place), place)
    return first


def _in_use(kind: str, windows: Windows, since: Mapping[str, datetime], first: int) -> int:
    """Return the place of the first baseline window in which a type was in use; past the last one when in none."""
    created = since.get(kind)
    if created is None:
        return first
    whole = (place for place, window in enumerate(windows.baseline, start=1) if window.start >= created)
    return min(first, next(whole, len(windows.baseline) + 1))


def _seasons(rows: Iterable[Counted], windows: Windows) -> dict[str, float]:
    season = range(1 + len(windows.baseline), 1 + len(windows.baseline) + len(windows.season))
    around: dict[str, int] = defaultdict(int)
    before: dict[str, int] = defaultdict(int)
    for row in rows:
        if row.place in season:
            around[row.type] += row.events
        elif row.place >= season.stop:
            before[row.type] += row.events
    return {kind: season_factor(events, before[kind]) for kind, events in around.items()}
