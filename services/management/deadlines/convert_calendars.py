"""Calendars as protos, and back."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from libs.errors import Invalid
from quintet.common.v1 import common_pb2
from quintet.management.v1 import calendars_pb2 as pb
from services.management.deadlines.model_calendar import (
    WEEK_DAYS,
    Calendar,
    Hours,
    SpecialDays,
    SpecialKind,
    clock,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_KINDS = {
    pb.SPECIAL_DAY_KIND_HOLIDAY: SpecialKind.HOLIDAY,
    pb.SPECIAL_DAY_KIND_WORKDAY: SpecialKind.WORKDAY,
}
_KINDS_PB = {kind: number for number, kind in _KINDS.items()}


def calendar_of(calendar: pb.Calendar) -> Calendar:
    """Read a calendar as somebody wants it; its version is the store's affair.

    Raises Invalid for what cannot be read at all; `model_calendar.check` finds what is wrong with the rest.
    """
    return Calendar(
        name=calendar.name,
        title_zh=calendar.title.zh,
        title_en=calendar.title.en,
        timezone=calendar.timezone,
        week=_week_of(calendar.week),
        special_days=tuple(_special_of(special, index) for index, special in enumerate(calendar.special_days)),
        organisations=tuple(calendar.organisations),
        source=calendar.source,
    )


def calendar_pb(calendar: Calendar) -> pb.Calendar:
    return pb.Calendar(
        name=calendar.name,
        title=common_pb2.LocalText(zh=calendar.title_zh, en=calendar.title_en),
        timezone=calendar.timezone,
        week=_week_pb(calendar.week),
        special_days=[_special_pb(special) for special in calendar.special_days],
        organisations=calendar.organisations,
        source=calendar.source,
        version=calendar.version,
    )


def _week_of(week: Iterable[pb.WeekHours]) -> tuple[tuple[Hours, ...], ...]:
    found: list[tuple[Hours, ...] | None] = [None] * WEEK_DAYS
    for index, part in enumerate(week):
        for place, day in enumerate(part.days):
            field = f"calendar.week[{index}].days[{place}]"
            if day == pb.WEEKDAY_UNSPECIFIED:
                raise Invalid(field, "must be a weekday")
            if found[day - 1] is not None:
                raise Invalid(field, f"{pb.Weekday.Name(day).removeprefix('WEEKDAY_')} stands in the week twice")
            found[day - 1] = _hours_of(part.hours)
    return tuple(hours or () for hours in found)


def _week_pb(week: Sequence[tuple[Hours, ...]]) -> list[pb.WeekHours]:
    """Return the week with days of equal hours together, so that it reads as people write it."""
    found: list[pb.WeekHours] = []
    for hours in dict.fromkeys(day for day in week if day):
        days = [pb.Weekday.ValueType(number) for number, day in enumerate(week, 1) if day == hours]
        found.append(pb.WeekHours(days=days, hours=_hours_pb(hours)))
    return found


def _special_of(special: pb.SpecialDays, index: int) -> SpecialDays:
    first = _day(special.first_day, f"calendar.specialDays[{index}].firstDay")
    last = _day(special.last_day, f"calendar.specialDays[{index}].lastDay") if special.last_day else first
    return SpecialDays(
        first=first,
        last=last,
        kind=_KINDS[special.kind],
        title_zh=special.title.zh,
        title_en=special.title.en,
        hours_of=special.hours_of - 1 if special.hours_of else None,
        hours=_hours_of(special.hours),
    )


def _special_pb(special: SpecialDays) -> pb.SpecialDays:
    return pb.SpecialDays(
        first_day=special.first.isoformat(),
        last_day=special.last.isoformat() if special.last > special.first else "",
        kind=_KINDS_PB[special.kind],
        title=common_pb2.LocalText(zh=special.title_zh, en=special.title_en),
        hours_of=pb.Weekday.ValueType(0 if special.hours_of is None else special.hours_of + 1),
        hours=_hours_pb(special.hours),
    )


def _day(text: str, field: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Invalid(field, f"{text} is not a day of the calendar") from None


def _hours_of(hours: Iterable[pb.WorkingHours]) -> tuple[Hours, ...]:
    return tuple(Hours(_minutes(each.opens), _minutes(each.closes)) for each in hours)


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


def _hours_pb(hours: Iterable[Hours]) -> list[pb.WorkingHours]:
    return [pb.WorkingHours(opens=clock(each.opens), closes=clock(each.closes)) for each in hours]
