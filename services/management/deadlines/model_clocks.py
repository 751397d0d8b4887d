"""The two clocks of an event: the business clock (业务时限) of the whole, the step clock (环节时限) of its state.

A deadline is never set by hand. It is reckoned from what the event went through: the allowance of its type, when the
clock began to count, the calendar, and the pauses. Whoever changes one of these calls `reckoned`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from services.management.deadlines.model_calendar import ALWAYS, ALWAYS_NAME, DEFAULT
from services.management.deadlines.model_time import WorkingTime
from services.management.model import Allowance

if TYPE_CHECKING:
    from services.management.model import Event, EventType

AROUND_THE_CLOCK = WorkingTime(ALWAYS)


@dataclass(frozen=True, slots=True)
class CalendarSet:
    """The calendars of a node at one moment, and which organisation works by which."""

    by_name: Mapping[str, WorkingTime]
    of_organisation: Mapping[str, str]

    def named(self, name: str) -> WorkingTime:
        """Return the calendar of a name; where it is not there, the default, and without one around the clock."""
        return self.by_name.get(name) or self.by_name.get(DEFAULT) or AROUND_THE_CLOCK

    def of(self, organisation: str, otherwise: WorkingTime) -> WorkingTime:
        """Return the calendar of an organisation; `otherwise` for one that no calendar lists."""
        name = self.of_organisation.get(organisation)
        return self.by_name[name] if name else otherwise


EVERY_HOUR = CalendarSet({ALWAYS_NAME: AROUND_THE_CLOCK}, {})


@dataclass(frozen=True, slots=True)
class Clock:
    """One clock of an event: since when it counts what allowance by which calendar."""

    since: datetime
    allowance: Allowance
    time: WorkingTime

    @property
    def amount(self) -> timedelta:
        """All that may pass."""
        return timedelta(minutes=self.allowance.minutes)

    def due_at(self, event: Event) -> datetime:
        return self.time.add(self.since, self.amount, event.clocks.pauses)


def business_clock(event: Event, event_type: EventType, calendars: CalendarSet) -> Clock | None:
    """Return the clock of the whole event; None for a type without a deadline."""
    allowance = event_type.deadline
    if allowance is None:
        return None
    return Clock(event.occurred_at, allowance, _time(allowance, calendars.named(event_type.calendar)))


def step_clock(event: Event, event_type: EventType, calendars: CalendarSet) -> Clock | None:
    """Return the clock of the present step; None where the type gives its state no deadline."""
    allowance = event_type.step_deadlines.get(event.status)
    if allowance is None:
        return None
    own = calendars.of(event.organisation, otherwise=calendars.named(event_type.calendar))
    return Clock(event.clocks.step_since or event.step_at, allowance, _time(allowance, own))


def stepped(before: Event, after: Event) -> Event:
    """Return an event after an action of its loop: another state or organisation starts the step clock anew."""
    if (before.status, before.organisation) == (after.status, after.organisation):
        return after
    return replace(after, clocks=replace(after.clocks, step_since=after.step_at))


def reckoned(event: Event, event_type: EventType, calendars: CalendarSet) -> Event:
    """Return an event with the deadlines that follow from its type, its clocks and the calendars."""
    business = business_clock(event, event_type, calendars)
    step = step_clock(event, event_type, calendars)
    due_at = business.due_at(event) if business else None
    deadlines = replace(
        event.deadlines,
        due_at=due_at,
        first_due_at=event.deadlines.first_due_at or due_at,
        step_due_at=step.due_at(event) if step else None,
    )
    clocks = replace(
        event.clocks,
        calendar=business.time.calendar.name if business else "",
        calendar_version=business.time.calendar.version if business else 0,
        step_calendar=step.time.calendar.name if step else "",
        step_calendar_version=step.time.calendar.version if step else 0,
    )
    return replace(event, deadlines=deadlines, clocks=clocks)


def _time(allowance: Allowance, time: WorkingTime) -> WorkingTime:
    return AROUND_THE_CLOCK if allowance.around_the_clock else time
