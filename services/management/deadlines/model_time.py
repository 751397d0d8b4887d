"""Arithmetic of working time: pure, exact to the microsecond, and right on days when the clocks are put on or back.

Working time is the time that really passes inside the working hours: an hour that the clocks skip is no working
time, and one that they repeat counts twice. All instants are aware and in UTC.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from services.management.deadlines.model_calendar import ALWAYS_NAME, DAY_MIN, Calendar, zone

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ALLOWANCE_MAX_MIN = 366 * DAY_MIN
# A year of minutes at one working hour a week, and all the holidays that a calendar may have, end well before this.
SCAN_MAX_DAYS = 400 * 366
DAYS_KEPT_MAX = 4_000
ZERO = timedelta(0)


@dataclass(frozen=True, slots=True)
class Span:
    """From `start`, included, to `end`, not included."""

    start: datetime
    end: datetime


class EndlessError(ValueError):
    """Working time does not come within SCAN_MAX_DAYS; `model_calendar.check` lets no such calendar pass."""


class WorkingTime:
    """Counts by one version of a calendar. Keeps the days that it has seen; several tasks may share it."""

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self.zone = zone(calendar)
        self._always = calendar.name == ALWAYS_NAME
        self._days: OrderedDict[date, tuple[Span, ...]] = OrderedDict()

    def add(self, start: datetime, amount: timedelta, pauses: Sequence[Span] = ()) -> datetime:
        """Return the first instant by which `amount` of working time outside the pauses has passed since `start`.

        That is `start` itself for nothing. Raises EndlessError.
        """
        if amount <= ZERO:
            return start
        left = amount
        for span in self._spans(start, pauses):
            length = span.end - span.start
            if length >= left:
                return span.start + left
            left -= length
        raise EndlessError(f"{amount} of working time after {start} by {self.calendar.name}")

    def between(self, start: datetime, end: datetime, pauses: Sequence[Span] = ()) -> timedelta:
        """Return the working time outside the pauses from `start` to `end`; zero when `end` is not later."""
        total = ZERO
        if end <= start:
            return total
        for span in self._spans(start, pauses, end):
            total += min(span.end, end) - span.start
        return total

    def is_working(self, at: datetime) -> bool:
        """Tell whether an instant lies in the working hours."""
        return any(span.start <= at < span.end for span in self.day(at.astimezone(self.zone).date()))

    def day(self, day: date) -> tuple[Span, ...]:
        """Return the working hours of a local day as instants, in order and apart."""
        found = self._days.get(day)
        if found is None:
            found = tuple(self._instants(day))
            self._days[day] = found
            if len(self._days) > DAYS_KEPT_MAX:
                self._days.popitem(last=False)
        return found

    def _spans(self, start: datetime, pauses: Sequence[Span], end: datetime | None = None) -> Iterator[Span]:
        """Yield the working time from `start` on that no pause takes away, up to the span in which `end` lies."""
        stops = joined(pauses)
        for span in self._worked(start, end):
            yield from without(span, stops)

    def _worked(self, start: datetime, end: datetime | None) -> Iterator[Span]:
        if self._always:
            yield Span(start, end or start + timedelta(days=SCAN_MAX_DAYS))
            return
        first = start.astimezone(self.zone).date()
        for number in range(SCAN_MAX_DAYS):
            for span in self.day(first + timedelta(days=number)):
                if end is not None and span.start >= end:
                    return
                if span.end > start:
                    yield Span(max(span.start, start), span.end if end is None else min(span.end, end))

    def _instants(self, day: date) -> Iterator[Span]:
        for hours in self.calendar.hours(day):
            opens, closes = self._instant(day, hours.opens), self._instant(day, hours.closes)
            if closes > opens:  # hours that the clocks skip as a whole are not there
                yield Span(opens, closes)

    def _instant(self, day: date, minutes: int) -> datetime:
        """Return when the clocks first show a time, or the moment when they skip it."""
        if minutes == DAY_MIN:
            day, minutes = day + timedelta(days=1), 0
        local = datetime.combine(day, time(minutes // 60, minutes % 60), tzinfo=self.zone)
        instant = local.astimezone(UTC)
        if instant.astimezone(self.zone).replace(tzinfo=None) == local.replace(tzinfo=None):
            return instant
        # Skipped: the change lies between what the clock's two offsets make of it.
        early = local.replace(fold=1).astimezone(UTC)
        before = early.astimezone(self.zone).utcoffset()
        seconds = range(int((instant - early).total_seconds()) + 1)
        moved = bisect_left(
            seconds, True, key=lambda s: (early + timedelta(seconds=s)).astimezone(self.zone).utcoffset() != before
        )
        return early + timedelta(seconds=moved)


def joined(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order, those that touch or overlap as one, empty ones left out."""
    found: list[Span] = []
    for span in sorted((span for span in spans if span.end > span.start), key=lambda span: span.start):
        if found and span.start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    return found


def without(span: Span, stops: Sequence[Span]) -> Iterator[Span]:
    """Yield what is left of a span when `stops`, in order and apart, are taken away."""
    start = span.start
    for stop in stops:
        if stop.end <= start:
            continue
        if stop.start >= span.end:
            break
        if stop.start > start:
            yield Span(start, stop.start)
        start = stop.end
    if start < span.end:
        yield Span(start, span.end)
