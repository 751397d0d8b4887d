"""The two clocks of an event: the business clock (业务时限) of the whole, the step clock (环节时限) of its state.

A deadline is never set by hand. It is reckoned from what the event went through: the allowance of its type, when the
clock began to count, the calendar, and the pauses. Whoever changes one of these calls `reckoned`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from services.management.deadlines.model_calendar import ALWAYS, ALWAYS_NAME, DEFAULT
from services.management.deadlines.model_time import WorkingTime
from services.management.model import Allowance, ClockKind, Escalation, Reminder

if TYPE_CHECKING:
    from services.management.model import Event, EventType
    from services.management.model_loop import Loop

MINUTE = timedelta(minutes=1)
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
    extended_min: int = 0

    @property
    def amount(self) -> timedelta:
        """All that may pass."""
        return timedelta(minutes=self.allowance.minutes + self.extended_min)

    def due_at(self, event: Event) -> datetime:
        return self.time.add(self.since, self.amount, event.clocks.pauses)


def business_clock(event: Event, event_type: EventType, calendars: CalendarSet) -> Clock | None:
    """Return the clock of the whole event; None for a type without a deadline."""
    promised = Allowance(event.clocks.promised_min, around_the_clock=True) if event.clocks.promised_min else None
    allowance = promised or event_type.deadline
    if allowance is None:
        return None
    time = _time(allowance, calendars.named(event_type.calendar))
    return Clock(event.occurred_at, allowance, time, event.clocks.extended_min)


def step_clock(event: Event, event_type: EventType, calendars: CalendarSet) -> Clock | None:
    """Return the clock of the present step; None where the type gives its state no deadline."""
    allowance = event_type.step_deadlines.get(event.status)
    if allowance is None:
        return None
    own = calendars.of(event.organisation, otherwise=calendars.named(event_type.calendar))
    since = event.clocks.step_since or event.step_at
    return Clock(since, allowance, _time(allowance, own), event.clocks.step_extended_min)


def stepped(before: Event, after: Event, event_type: EventType, loop: Loop) -> Event:
    """Return an event after an action of its loop.

    Another state or organisation starts the step clock anew. A closing starts the window for reopening, if the type has
    one and the loop can.
    """
    if (before.status, before.organisation) == (after.status, after.organisation):
        return after
    reopen_until = None
    if after.closed_at is not None and event_type.reopen_days and loop.reopening(after.status) is not None:
        reopen_until = after.closed_at + timedelta(days=event_type.reopen_days)
    return replace(
        after,
        clocks=replace(after.clocks, step_since=after.step_at, step_extended_min=0),
        deadlines=replace(after.deadlines, reopen_until=reopen_until),
    )


def step_reckoned(event: Event, event_type: EventType, calendars: CalendarSet) -> Event:
    """Return an event with the deadline of its present step. The business deadline moves by the ledger only."""
    step = step_clock(event, event_type, calendars)
    event = replace(
        event,
        deadlines=replace(event.deadlines, step_due_at=step.due_at(event) if step else None),
        clocks=replace(
            event.clocks,
            step_calendar=step.time.calendar.name if step else "",
            step_calendar_version=step.time.calendar.version if step else 0,
        ),
    )
    return scheduled(event, event_type)


def reckoned(event: Event, event_type: EventType, calendars: CalendarSet) -> Event:
    """Return an event with the deadlines that follow from its type, its clocks and the calendars."""
    business = business_clock(event, event_type, calendars)
    due_at = business.due_at(event) if business else None
    event = replace(
        event,
        deadlines=replace(event.deadlines, due_at=due_at, first_due_at=event.deadlines.first_due_at or due_at),
        clocks=replace(
            event.clocks,
            calendar=business.time.calendar.name if business else "",
            calendar_version=business.time.calendar.version if business else 0,
        ),
    )
    return step_reckoned(event, event_type, calendars)


def _time(allowance: Allowance, time: WorkingTime) -> WorkingTime:
    return AROUND_THE_CLOCK if allowance.around_the_clock else time


# ------------------------------------------------------------------------------------------- moments around a deadline


@dataclass(frozen=True, slots=True)
class Moment:
    """Something to tell of at a time: a reminder, a rung of the ladder, or, without either, that a deadline passed.

    `key` is one for each moment around each deadline: a deadline that moves has moments of its own.
    """

    at: datetime
    key: str
    clock: ClockKind
    due_at: datetime
    cause: Reminder | Escalation | None = None

    @property
    def is_void(self) -> bool:
        """Tell whether nobody needs to be told once `at` is over: a reminder of what has been missed meanwhile."""
        return isinstance(self.cause, Reminder) and self.at < self.due_at


def moments(event: Event, event_type: EventType) -> list[Moment]:
    """Return all moments around the present deadlines of an event, in order; of the business clock while it is open."""
    found: list[Moment] = []
    due = {ClockKind.BUSINESS: event.deadlines.due_at, ClockKind.STEP: event.deadlines.step_due_at}
    for clock, due_at in due.items():
        if due_at is None or not event.is_open:
            continue
        prefix = f"{clock} {due_at.isoformat()}"
        found.append(Moment(due_at, f"{prefix} missed", clock, due_at))
        for number, reminder in enumerate(event_type.reminders):
            if reminder.clock is clock:
                at = due_at + reminder.offset_min * MINUTE
                found.append(Moment(at, f"{prefix} reminder {number}", clock, due_at, reminder))
        for number, rung in enumerate(event_type.escalations):
            if rung.clock is clock:
                at = due_at + rung.after_min * MINUTE
                found.append(Moment(at, f"{prefix} escalation {number}", clock, due_at, rung))
    return sorted(found, key=lambda moment: (moment.at, moment.key))


def scheduled(event: Event, event_type: EventType, told: Collection[str] = ()) -> Event:
    """Return an event with what was told of its present deadlines, `told` added, and when to look at it again."""
    every = moments(event, event_type)
    done = {*event.clocks.signalled, *told}
    signalled = tuple(moment.key for moment in every if moment.key in done)
    ahead = [moment.at for moment in every if moment.key not in done]
    if event.deadlines.suspended_until is not None:
        ahead.append(event.deadlines.suspended_until)
    return replace(event, clocks=replace(event.clocks, signalled=signalled, next_at=min(ahead, default=None)))


def to_tell(event: Event, event_type: EventType, now: datetime) -> tuple[list[Moment], list[str]]:
    """Return what to tell of an event now, and the keys of all that is over."""
    over = [m for m in moments(event, event_type) if m.at <= now and m.key not in event.clocks.signalled]
    tell = [moment for moment in over if not (moment.is_void and moment.due_at <= now)]
    return tell, [moment.key for moment in over]
