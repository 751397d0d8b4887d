"""Emerging issues (未诉先办): a type and place whose rate rises beyond its own history. Pure.

How a place and type is tested. Its events in the window are counted, and those in windows of the same length before
it, a whole number of weeks apart, so that each covers the same weekdays and hours. The mean of these baseline counts
is what is expected; where the type rises at this time of the year, so much more. The count of the window is compared
with a negative binomial of that mean and of variance (dispersion * (1 + 1/n)) * mean: the dispersion is how much more
the n baseline counts vary than chance alone would let them, and 1/n is for the mean being an estimate itself. With
dispersion 1 this is exactly the predictive distribution of a Poisson count whose rate has a gamma posterior. The
probability of as many events or more is the p value. All types and places that had events at all are tested at once,
so the p values are corrected for the false discovery rate (Benjamini-Hochberg).

Everything that is uncertain is decided towards silence: a dispersion is not believed below 1, or below that of the type
over all its places; half an event is added to the baseline; a season only ever raises what is expected.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from services.management.analysis.model_tails import adjusted, dispersion, upper_tail

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

WEEK_H = 168
YEAR_WEEKS = 52
BASELINE_WINDOWS = 12
# A history shorter than this says nothing.
BASELINE_WINDOWS_MIN = 4
# A season is measured by the windows of a year ago and just around it, against as many before them as make a baseline.
SEASON_WINDOWS = 3
SEASON_EVENTS_MIN = 20
SEASON_FACTOR_MAX = 5.0
EVENTS_MIN = 5
FALSE_DISCOVERY_RATE = 0.05
# Jeffreys' prior of a Poisson rate: what was never seen may still happen.
PRIOR_EVENTS = 0.5


class Cell(NamedTuple):
    """A type in a zone and the zones below it."""

    zone: str
    type: str


class Window(NamedTuple):
    """A stretch of time; the end is not in it."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Windows:
    """What is looked at: the window in question, the baseline and the season's two, all oldest first."""

    recent: Window
    baseline: tuple[Window, ...]
    season: tuple[Window, ...]
    before_season: tuple[Window, ...]

    def every(self) -> tuple[Window, ...]:
        return (self.recent, *self.baseline, *self.season, *self.before_season)


@dataclass(frozen=True, slots=True)
class Counts:
    """Events of one cell: in the window, and in each window of its history, oldest first."""

    recent: int
    baseline: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rise:
    """What the test of one cell said. `q_value` is its p value corrected for all that were tested.

    `explained_by` are zones below, found too, without whose events the rest of this zone is not remarkable.
    """

    cell: Cell
    counts: Counts
    expected: float
    season: float
    dispersion: float
    p_value: float
    q_value: float = 1.0
    explained_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """Rises by their p value, and how many cells were tested; `baseline_windows` is how much history there was."""

    rises: tuple[Rise, ...]
    tested: int
    baseline_windows: int


def windows(end: datetime, hours: int, zone: ZoneInfo) -> Windows:
    """Return the windows for one of `hours` that ends at `end`; by the wall clock of `zone`, whatever it was set to."""
    step = -(-hours // WEEK_H)  # weeks from one window to the next, so that they do not overlap
    local = end.astimezone(zone)

    def before(weeks: int) -> Window:
        last = (local.replace(tzinfo=None) - timedelta(weeks=weeks)).replace(tzinfo=zone)
        first = (local.replace(tzinfo=None) - timedelta(weeks=weeks, hours=hours)).replace(tzinfo=zone)
        return Window(first.astimezone(end.tzinfo), last.astimezone(end.tzinfo))

    middle = YEAR_WEEKS // step * step
    return Windows(
        recent=before(0),
        baseline=tuple(before(step * k) for k in range(BASELINE_WINDOWS, 0, -1)),
        season=tuple(before(middle + step * k) for k in (1, 0, -1)),
        before_season=tuple(before(middle + step * (1 + k)) for k in range(BASELINE_WINDOWS, 0, -1)),
    )


def find(
    cells: Mapping[Cell, Counts],
    seasons: Mapping[str, float],
    paths: Mapping[str, Sequence[str]],
    *,
    rate: float = FALSE_DISCOVERY_RATE,
    events_min: int = EVENTS_MIN,
) -> Findings:
    """Return the cells whose count of the window is beyond their history at the false discovery rate `rate`.

    Cells with fewer than BASELINE_WINDOWS_MIN windows of history are not tested. `seasons` has the season_factor of
    each type, `paths` for each zone the zones above it.
    """
    tested = {cell: counts for cell, counts in cells.items() if len(counts.baseline) >= BASELINE_WINDOWS_MIN}
    spread = _spreads(tested)
    enough = [
        test(cell, counts, seasons.get(cell.type, 1.0), spread[cell.type])
        for cell, counts in tested.items()
        if counts.recent >= events_min
    ]
    corrected = zip(enough, adjusted([rise.p_value for rise in enough], len(tested)), strict=True)
    found = [replace(rise, q_value=q) for rise, q in corrected if q <= rate]
    found = _explain(found, paths, rate)
    history = max((len(counts.baseline) for counts in tested.values()), default=0)
    return Findings(tuple(sorted(found, key=lambda rise: (rise.p_value, rise.cell))), len(tested), history)


def test(cell: Cell, counts: Counts, season: float, spread: float) -> Rise:
    """Return what the counts of one cell say; `season` and `spread` are the season and the dispersion of its type."""
    spread = max(spread, dispersion([counts.baseline]))
    expected, p_value = _compare(counts, season, spread)
    return Rise(cell, counts, expected, season, spread, p_value)


def _spreads(cells: Mapping[Cell, Counts]) -> dict[str, float]:
    """Return the dispersion of each type over all its cells: that of one cell alone is a poor estimate."""
    series: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for cell, counts in cells.items():
        series[cell.type].append(counts.baseline)
    return {kind: dispersion(each) for kind, each in series.items()}


def season_factor(season: int, before: int) -> float:
    """Return how much more there was at this time a year ago than just before it: 1 to SEASON_FACTOR_MAX.

    `season` is the number of events in SEASON_WINDOWS windows, `before` that in BASELINE_WINDOWS before them.
    """
    if min(season, before) < SEASON_EVENTS_MIN:
        return 1.0
    ratio = (season / SEASON_WINDOWS) / (before / BASELINE_WINDOWS)
    return min(SEASON_FACTOR_MAX, max(1.0, ratio))


def _compare(counts: Counts, season: float, spread: float) -> tuple[float, float]:
    """Return what is expected, and the p value of what was observed."""
    observed_windows = len(counts.baseline)
    expected = (sum(counts.baseline) + PRIOR_EVENTS) / observed_windows * season
    return expected, upper_tail(counts.recent, expected, spread * (1 + season / observed_windows))


def _explain(found: Sequence[Rise], paths: Mapping[str, Sequence[str]], rate: float) -> list[Rise]:
    """Say of each rise whether zones below it, found too, are all there is to it."""
    by_type: dict[str, list[Rise]] = defaultdict(list)
    for rise in found:
        by_type[rise.cell.type].append(rise)
    explained: list[Rise] = []
    for rises in by_type.values():
        for rise in rises:
            below = [other for other in rises if rise.cell.zone in paths.get(other.cell.zone, ())]
            top = [other for other in below if _zones(below).isdisjoint(paths[other.cell.zone])]
            explained.append(replace(rise, explained_by=_explaining(rise, top, rate)))
    return explained


def _zones(rises: Iterable[Rise]) -> set[str]:
    return {rise.cell.zone for rise in rises}


def _explaining(rise: Rise, below: Sequence[Rise], rate: float) -> tuple[str, ...]:
    """Return the zones `below` when the rest of the zone is as it was, at the level of a single test."""
    if not below:
        return ()
    rest = replace(
        rise.counts,
        recent=rise.counts.recent - sum(other.counts.recent for other in below),
        baseline=tuple(
            count - sum(other.counts.baseline[-back] for other in below if back <= len(other.counts.baseline))
            for back, count in zip(range(len(rise.counts.baseline), 0, -1), rise.counts.baseline, strict=True)
        ),
    )
    _, p_value = _compare(rest, rise.season, rise.dispersion)
    return tuple(sorted(_zones(below))) if p_value > rate else ()
