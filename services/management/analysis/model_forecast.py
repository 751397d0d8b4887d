"""A forecast of load for planning shifts: the profile of a week times a level that follows the weeks. Pure.

The level is the number of events a week by simple exponential smoothing (Brown: Statistical Forecasting for
Inventory Control, 1959); the profile is each shift's share of the events of all weeks. How good that is, is
measured: the last weeks are forecast from those before them, and the error stands beside that of the naive
forecast, which repeats the week before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.management.analysis.model_tails import upper_tail

if TYPE_CHECKING:
    from collections.abc import Sequence

HISTORY_WEEKS = 12
HISTORY_WEEKS_MIN = 5
BACKTEST_WEEKS = 4
SMOOTHING = 0.3
# Each end of the interval is passed with this probability.
TAIL = 0.1
# Half an event over all weeks in each shift: what never happened yet may.
PRIOR_EVENTS = 0.5


@dataclass(frozen=True, slots=True)
class ShiftLoad:
    """The load of one shift: what is expected, and the ends of the interval that it lies in with probability 0.8."""

    expected: float
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """The next week, shift by shift, and the mean absolute errors per shift of this and of the naive forecast."""

    shifts: tuple[ShiftLoad, ...]
    error: float
    naive_error: float
    tested: int
    dispersion: float


def forecast(weeks: Sequence[Sequence[int]]) -> Forecast:
    """Return the forecast of the week after `weeks`: counts by shift, oldest week first, all of one length.

    Raises ValueError for fewer than HISTORY_WEEKS_MIN weeks.
    """
    if len(weeks) < HISTORY_WEEKS_MIN:
        raise ValueError(f"a forecast needs {HISTORY_WEEKS_MIN} weeks")
    error = naive_error = squares = 0.0
    tested = 0
    for place in range(max(1, len(weeks) - BACKTEST_WEEKS), len(weeks)):
        for count, expected, before in zip(weeks[place], _means(weeks[:place]), weeks[place - 1], strict=True):
            error += abs(count - expected)
            naive_error += abs(count - before)
            squares += (count - expected) ** 2 / expected
            tested += 1
    spread = max(1.0, squares / tested)
    shifts = tuple(ShiftLoad(mean, *_interval(mean, spread)) for mean in _means(weeks))
    return Forecast(shifts, error / tested, naive_error / tested, tested, spread)


def _means(weeks: Sequence[Sequence[int]]) -> list[float]:
    totals = [float(sum(week)) for week in weeks]
    level = totals[0]
    for total in totals[1:]:
        level += SMOOTHING * (total - level)
    sums = [sum(counts) + PRIOR_EVENTS for counts in zip(*weeks, strict=True)]
    whole = sum(sums)
    return [max(level, PRIOR_EVENTS) * each / whole for each in sums]


def _interval(mean: float, spread: float) -> tuple[int, int]:
    """Return the largest count that is passed below with probability TAIL at most, and the smallest one above."""
    low = 0
    while 1 - upper_tail(low + 1, mean, spread) <= TAIL:
        low += 1
    high = low
    while upper_tail(high + 1, mean, spread) > TAIL:
        high += 1
    return low, high
