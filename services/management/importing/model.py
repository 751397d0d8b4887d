"""What a record of the past becomes: an event that has gone through its loop by the times of the record. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from libs.errors import DomainError, Invalid
from services.management.deadlines.model_clocks import (
    MINUTE,
    CalendarSet,
    reckoned,
    scheduled,
    step_reckoned,
    stepped,
    to_tell,
)
from services.management.model import Clocks, Event, EventType, Step
from services.management.model_loop import Command, Loop, advance
from services.management.model_merge import Candidate, can_match, judge
from services.management.model_report import Report, Routing, merge_report, open_event, opening_step

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.management.model_merge import Match

SOURCE = "imports/{source}/{record}"


class Refused(Exception):
    """A record breaks a rule: `field` is its path in JSON spelling, `rule` says what is accepted."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule


@dataclass(frozen=True, slots=True)
class PastStep:
    """One step that was taken in the past."""

    action: str
    occurred_at: datetime | None
    organisation: str = ""
    reason: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a record is handled by: its type, the type's loop, where it is routed to, and the calendars."""

    type: EventType
    loop: Loop
    routing: Routing
    calendars: CalendarSet


@dataclass(slots=True)
class Life:
    """An event of the past with all that befell it, oldest first: (the event after it, its step, its report if any)."""

    opened: Event
    report: Report
    moments: list[tuple[Event, Step, Report | None]] = field(default_factory=list)

    @property
    def event(self) -> Event:
        """The event as it is in the end."""
        return self.moments[-1][0]

    @property
    def candidate(self) -> Candidate:
        opened, place = self.opened, self.opened.place
        return Candidate(
            0, opened.name, opened.occurred_at, place.address, place.latitude, place.longitude, opened.type,
            opened.description,
        )  # fmt: skip

    def was_open(self, at: datetime) -> bool:
        """Tell whether it took reports at a moment of the past."""
        return self.opened.occurred_at <= at and (self.event.closed_at is None or self.event.closed_at > at)

    def merge(self, report: Report, match: Match, *, actor: str, now: datetime) -> None:
        """Let it stand for one more report."""
        after, step = merge_report(self.event, report, match.explanation, actor=actor, now=now)
        self.moments.append((after, step, report))


def live(
    report: Report,
    steps: Sequence[PastStep],
    kind: Kind,
    *,
    promised_at: datetime | None,
    node: str,
    name: str,
    actor: str,
    now: datetime,
) -> Life:
    """Return the event that a record tells of. It was opened when it occurred; its steps are recorded `now`.

    Raises Refused for a step that the loop does not allow or that lacks something, and for a promise before the report.
    """
    event = open_event(report, kind.type, kind.loop, kind.routing, node=node, name=name, now=now)
    event = replace(event, opened_at=event.occurred_at, clocks=Clocks(promised_min=_promised_min(report, promised_at)))
    event = reckoned(event, kind.type, kind.calendars)
    life = Life(event, report, [(event, opening_step(event, actor=actor), report)])
    for index, past in enumerate(steps):
        command = Command(
            action=past.action,
            actor=actor,
            now=now,
            reason=past.reason,
            organisation=past.organisation,
            answer=past.answer,
            occurred_at=past.occurred_at,
        )
        try:
            after, step = advance(kind.loop, event, command)
        except DomainError as error:
            raise _refused(index, error) from error
        after = step_reckoned(stepped(event, after, kind.type, kind.loop), kind.type, kind.calendars)
        life.moments.append((after, step, None))
        event = after
    _silence(life, kind.type, now)
    return life


def match_past(
    event_type: EventType, report: Report, lives: Iterable[Life], stored: Iterable[Candidate]
) -> tuple[Match, Life | None] | None:
    """Return the event that a report of the past was of, if one was open then, and its life if it is not stored yet."""
    if not can_match(event_type.merge, report.place):
        return None
    new = {life.opened.name: life for life in lives if life.opened.type == event_type.name}
    open_then = [life.candidate for life in new.values() if life.was_open(report.occurred_at)]
    found = judge(event_type, report, [*open_then, *stored]).matches
    return (found[0], new.get(found[0].candidate.name)) if found else None


def _promised_min(report: Report, promised_at: datetime | None) -> int:
    if promised_at is None:
        return 0
    if promised_at - report.occurred_at < MINUTE:
        raise Refused("promisedAt", "must be at least a minute after occurredAt")
    return (promised_at - report.occurred_at) // MINUTE


def _silence(life: Life, event_type: EventType, now: datetime) -> None:
    """Let nobody be told of deadlines that were over before the event came here."""
    event, step, report = life.moments[-1]
    _, over = to_tell(event, event_type, now)
    life.moments[-1] = (scheduled(event, event_type, over), step, report)


def _refused(index: int, error: DomainError) -> Refused:
    if isinstance(error, Invalid):
        field, rule = error.violations[0]
        return Refused(f"steps[{index}].{field}", rule)
    return Refused(f"steps[{index}].action", error.message)
