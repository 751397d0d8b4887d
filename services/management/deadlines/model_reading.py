"""Reading a clock at a moment: how much has counted, how late it is, what it skipped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from services.management.deadlines.model_calendar import ALWAYS_NAME, SpecialKind
from services.management.deadlines.model_clocks import Clock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from services.management.deadlines.model_calendar import Calendar, SpecialDays
    from services.management.deadlines.model_time import WorkingTime
    from services.management.model import Event

MINUTE = timedelta(minutes=1)


class ClockState(StrEnum):
    RUNNING = "running"
    RESTING = "resting"
    STOPPED = "stopped"
    PAUSED = "paused"


class SkippedKind(StrEnum):
    NIGHTS = "nights"
    WEEKLY = "weekly"
    HOLIDAY = "holiday"


@dataclass(frozen=True, slots=True)
class Skipped:
    """Days, or nights, that a clock did not count; with the name of the holiday."""

    kind: SkippedKind
    days: int
    title_zh: str = ""
    title_en: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """A clock at a moment. `counted`, `left` and `late` are time as the clock counts it."""

    clock: Clock
    due_at: datetime
    state: ClockState
    counted: timedelta
    left: timedelta
    late: timedelta
    overdue: bool
    skipped: tuple[Skipped, ...]


def read(clock: Clock, event: Event, due_at: datetime, *, now: datetime, ended_at: datetime | None) -> Reading:
    """Read a clock at `now`, or at `ended_at` when it has stopped. `due_at` is what was reckoned for it."""
    at = ended_at or now
    pauses = event.clocks.pauses
    counted = clock.time.between(clock.since, at, pauses)
    if ended_at is not None:
        state = ClockState.STOPPED
    elif any(pause.start <= now < pause.end for pause in pauses):
        state = ClockState.PAUSED
    else:
        state = ClockState.RUNNING if clock.time.is_working(now) else ClockState.RESTING
    return Reading(
        clock=clock,
        due_at=due_at,
        state=state,
        counted=counted,
        left=max(timedelta(), clock.amount - counted),
        late=clock.time.between(due_at, at, pauses),
        overdue=at > due_at,
        skipped=skipped(clock.time, clock.since, due_at),
    )


def skipped(time: WorkingTime, since: datetime, until: datetime) -> tuple[Skipped, ...]:
    """Return what lies between two instants and is no working time, nights first; nothing around the clock."""
    calendar = time.calendar
    if calendar.name == ALWAYS_NAME or until <= since:
        return ()
    first, last = (at.astimezone(time.zone).date() for at in (since, until))
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    nights = sum(_night_between(time, before, after) for before, after in pairwise(days))
    free = [day for day in days if not calendar.hours(day)]
    holidays: Counter[SpecialDays] = Counter(special for day in free if (special := _holiday(calendar, day)))
    weekly = len(free) - holidays.total()
    found = [Skipped(SkippedKind.NIGHTS, nights)] if nights else []
    found += [Skipped(SkippedKind.WEEKLY, weekly)] if weekly else []
    found += [Skipped(SkippedKind.HOLIDAY, n, each.title_zh, each.title_en) for each, n in holidays.items()]
    return tuple(found)


def _holiday(calendar: Calendar, day: date) -> SpecialDays | None:
    special = calendar.special(day)
    return special if special and special.kind is SpecialKind.HOLIDAY else None


def _night_between(time: WorkingTime, before: date, after: date) -> bool:
    """Tell whether two days in a row are both worked, with a rest in between."""
    evening, morning = time.day(before), time.day(after)
    return bool(evening and morning and evening[-1].end < morning[0].start)


def minutes(amount: timedelta) -> int:
    """Return whole minutes, what is begun not counted."""
    return amount // MINUTE


def ended_at(event: Event) -> datetime | None:
    """Return when the business clock of an event stopped."""
    return event.closed_at.astimezone(UTC) if event.closed_at else None


def working_pause(clock: Clock, event: Event, due_at: datetime) -> timedelta:
    """Return how much time that would have counted lay in pauses before the deadline."""
    pauses: Sequence[object] = event.clocks.pauses
    if not pauses:
        return timedelta()
    return clock.time.between(clock.since, due_at) - clock.time.between(clock.since, due_at, event.clocks.pauses)
