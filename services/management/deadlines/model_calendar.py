"""Calendars of working time: the week, holidays and make-up days (调休), in the time zone of those who work by them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

from libs.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DEFAULT = "calendars/default"
ALWAYS_NAME = "calendars/always"
DAY_MIN = 24 * 60
# With these two, the longest allowance ends within model_time.SCAN_MAX_DAYS.
WEEK_WORKED_MIN_MIN = 60
HOLIDAYS_MAX_DAYS = 3_660
WEEK_DAYS = 7


@dataclass(frozen=True, slots=True)
class Hours:
    """One stretch of a local day, in minutes after midnight: `opens` worked, `closes` no longer (DAY_MIN: midnight)."""

    opens: int
    closes: int


class SpecialKind(StrEnum):
    HOLIDAY = "holiday"
    WORKDAY = "workday"


@dataclass(frozen=True, slots=True)
class SpecialDays:
    """Days from `first` to `last`, both included, on which the week does not hold.

    For workdays `hours_of` is the weekday, 0 Monday, whose hours count; None when they have `hours` of their own.
    """

    first: date
    last: date
    kind: SpecialKind
    title_zh: str = ""
    title_en: str = ""
    hours_of: int | None = None
    hours: tuple[Hours, ...] = ()


@dataclass(frozen=True, slots=True)
class Calendar:
    """One version of a calendar. `week` has seven entries, Monday first."""

    name: str
    timezone: str
    week: tuple[tuple[Hours, ...], ...]
    title_zh: str = ""
    title_en: str = ""
    special_days: tuple[SpecialDays, ...] = ()
    organisations: tuple[str, ...] = ()
    source: str = ""
    version: int = 0

    def special(self, day: date) -> SpecialDays | None:
        """Return the special days that a day is one of."""
        return next((special for special in self.special_days if special.first <= day <= special.last), None)

    def hours(self, day: date) -> tuple[Hours, ...]:
        """Return the working hours of a local day, in order."""
        special = self.special(day)
        if special is None:
            return self.week[day.weekday()]
        if special.kind is SpecialKind.HOLIDAY:
            return ()
        return special.hours if special.hours_of is None else self.week[special.hours_of]


ALWAYS = Calendar(
    ALWAYS_NAME, "UTC", ((Hours(0, DAY_MIN),),) * WEEK_DAYS, title_zh="全天候", title_en="Around the clock"
)


def check(calendar: Calendar) -> None:
    """Raise Invalid with every rule that a calendar breaks, each under the field where it stands."""
    problems = [*_names(calendar), *_week(calendar), *_special_days(calendar)]
    if problems:
        raise Invalid.many([(f"calendar.{field}", rule) for field, rule in problems])


def _names(calendar: Calendar) -> Iterator[tuple[str, str]]:
    if calendar.name == ALWAYS_NAME:
        yield "name", f"{ALWAYS_NAME} is built in; give the calendar another name"
    if calendar.timezone not in available_timezones():
        yield "timezone", "must be a name of the IANA database, such as Asia/Shanghai"
    twice = [name for name, count in Counter(calendar.organisations).items() if count > 1]
    if twice:
        yield "organisations", f"has {twice[0]} twice"


def _week(calendar: Calendar) -> Iterator[tuple[str, str]]:
    worked = sum(hours.closes - hours.opens for day in calendar.week for hours in day)
    if worked < WEEK_WORKED_MIN_MIN:
        yield "week", f"must have at least {WEEK_WORKED_MIN_MIN} minutes of working hours in all"
    for day in calendar.week:
        for rule in _hours(day):
            yield "week", rule


def _special_days(calendar: Calendar) -> Iterator[tuple[str, str]]:
    for index, special in enumerate(calendar.special_days):
        field = f"specialDays[{index}]"
        if special.last < special.first:
            yield f"{field}.lastDay", "must not lie before firstDay"
        if special.kind is SpecialKind.HOLIDAY and (special.hours or special.hours_of is not None):
            yield f"{field}.hours", "must be empty for a holiday"
        if special.kind is SpecialKind.WORKDAY and (special.hours_of is None) == (not special.hours):
            yield f"{field}.hours", "must be given for a workday, or hoursOf, one of the two"
        if special.hours_of is not None and not calendar.week[special.hours_of]:
            yield f"{field}.hoursOf", "must be a weekday that the week has hours for"
        for rule in _hours(special.hours):
            yield f"{field}.hours", rule
    free = sum((special.last - special.first).days + 1 for special in calendar.special_days)
    if free > HOLIDAYS_MAX_DAYS:
        yield "specialDays", f"must be at most {HOLIDAYS_MAX_DAYS} days in all"
    in_order = sorted(enumerate(calendar.special_days), key=lambda entry: entry[1].first)
    for (_, before), (index, after) in pairwise(in_order):
        if after.first <= before.last:
            yield f"specialDays[{index}].firstDay", f"{after.first} stands in other special days too"


def _hours(day: Sequence[Hours]) -> Iterator[str]:
    for hours in day:
        if hours.closes <= hours.opens:
            yield f"hours must close after they open, not at {clock(hours.closes)} after {clock(hours.opens)}"
    for before, after in pairwise(day):
        if after.opens < before.closes:
            yield f"hours must be in order and apart: {clock(after.opens)} lies before {clock(before.closes)}"


def clock(minutes: int) -> str:
    """Return minutes after midnight as "09:30"; DAY_MIN as "24:00"."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def zone(calendar: Calendar) -> ZoneInfo:
    return ZoneInfo(calendar.timezone)
