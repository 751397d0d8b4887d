"""Exceptions of an event: asked by one, decided by another, and what they do to its clocks. Pure.

Only what stands in the ledger moves the deadline of an event. Each entry that did says what it was before and after, so
that the entries, in the order of the revisions that they made, lead from the first deadline to the present one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from libs.errors import Forbidden, Invalid, Reason, WrongState
from services.management.deadlines.model_clocks import CalendarSet, reckoned, stepped
from services.management.deadlines.model_time import ALLOWANCE_MAX_MIN, Span
from services.management.model import EventType, Explanation, Step, StepAction, step_between
from services.management.model_loop import Command, Loop, advance, check_not_suspended

if TYPE_CHECKING:
    from services.management.model import Event

DECISION_DEFAULT = timedelta(hours=48)
DECISION_MAX = timedelta(days=30)
SUSPENSION_MAX = timedelta(days=366)
PAUSES_MAX = 100
# All extensions of an event together; with it and the longest allowance, a deadline is always found.
EXTENSIONS_MAX_MIN = ALLOWANCE_MAX_MIN


class Kind(StrEnum):
    EXTENSION = "extension"
    SUSPENSION = "suspension"
    VOID = "void"
    REOPEN = "reopen"
    ESCALATION = "escalation"
    SUPERVISION = "supervision"
    RESUMPTION = "resumption"
    CALENDAR = "calendar"


class State(StrEnum):
    ASKED = "asked"
    APPROVED = "approved"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"
    ENDED = "ended"
    RECORDED = "recorded"


NOT_ASKED = frozenset((Kind.RESUMPTION, Kind.CALENDAR))
_STEPS = {
    Kind.EXTENSION: StepAction.EXTEND,
    Kind.SUSPENSION: StepAction.SUSPEND,
    Kind.RESUMPTION: StepAction.RESUME,
    Kind.ESCALATION: StepAction.ESCALATE,
    Kind.SUPERVISION: StepAction.SUPERVISE,
    Kind.CALENDAR: StepAction.RECKON_ANEW,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the ledger. The fields are those of EventException in exceptions.proto."""

    name: str
    event: str
    zone: str
    node: str
    kind: Kind
    state: State
    reason: str
    asked_by: str
    asked_at: datetime
    minutes: int = 0
    until: datetime | None = None
    role: str = ""
    organisation: str = ""
    decide_by: datetime | None = None
    decided_by: str = ""
    decided_at: datetime | None = None
    note: str = ""
    ended_at: datetime | None = None
    due_before: datetime | None = None
    due_after: datetime | None = None
    step_due_before: datetime | None = None
    step_due_after: datetime | None = None
    revision: int = 0
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks for."""

    kind: Kind
    reason: str
    minutes: int = 0
    until: datetime | None = None
    role: str = ""
    decide_by: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What an event goes by: its loop, its type in the version with which it was opened, the calendars of the node."""

    loop: Loop
    type: EventType
    calendars: CalendarSet


class Effect(NamedTuple):
    """An event after an exception, the step for its history, and the entry that tells of it."""

    event: Event
    step: Step
    entry: Entry


def ask(event: Event, rules: Rules, wanted: Wanted, *, name: str, actor: str, now: datetime) -> Entry:
    """Return a new entry that waits for its decision.

    Raises Invalid for what the kind needs and was not given, or was given and does not take; WrongState for what is not
    possible with the event as it is now.
    """
    _check_wanted(wanted, now)
    _check_possible(event, rules, wanted.kind, wanted.minutes, now)
    return Entry(
        name=name,
        event=event.name,
        zone=event.zone,
        node=event.node,
        kind=wanted.kind,
        state=State.ASKED,
        reason=wanted.reason,
        asked_by=actor,
        asked_at=now,
        minutes=wanted.minutes,
        until=wanted.until,
        role=wanted.role,
        organisation=event.organisation,
        decide_by=wanted.decide_by or now + DECISION_DEFAULT,
    )


def refuse(entry: Entry, *, note: str, actor: str, now: datetime) -> Entry:
    """Return an entry refused. Raises Forbidden to who asked, WrongState, Invalid without a note."""
    _check_decidable(entry, actor, now)
    if not note.strip():
        raise Invalid("note", "is required to refuse")
    return replace(entry, state=State.REFUSED, decided_by=actor, decided_at=now, note=note)


def withdraw(entry: Entry, *, actor: str, now: datetime) -> Entry:
    """Return an entry taken back. Raises Forbidden to anybody but who asked, WrongState when it is decided."""
    if actor != entry.asked_by:
        raise Forbidden(Reason.NOT_PERMITTED, "only who asked can withdraw")
    _check_asked(entry)
    return replace(entry, state=State.WITHDRAWN, decided_by=actor, decided_at=now)


def lapse(entry: Entry, *, now: datetime) -> Entry:
    """Return an entry that nobody decided in time."""
    return replace(entry, state=State.LAPSED, decided_at=now)


def approve(event: Event, rules: Rules, entry: Entry, *, note: str, actor: str, now: datetime) -> Effect:
    """Return what an entry does once it is approved. Raises Forbidden to who asked; WrongState."""
    _check_decidable(entry, actor, now)
    _check_possible(event, rules, entry.kind, entry.minutes, now, asked_at=entry.asked_at)
    if entry.kind is Kind.SUSPENSION and entry.until is not None and entry.until <= now:
        raise WrongState(Reason.WRONG_STATE, f"{entry.name} would have ended already", name=entry.name)
    approved = replace(entry, state=State.APPROVED, decided_by=actor, decided_at=now, note=note)
    return _apply(event, rules, approved, actor, now)


def record(event: Event, rules: Rules, entry: Entry, *, actor: str, now: datetime) -> Effect:
    """Return what an entry does that takes effect without a decision. Raises WrongState."""
    _check_possible(event, rules, entry.kind, entry.minutes, now, asked_at=entry.asked_at)
    return _apply(event, rules, entry, actor, now)


def recorded(event: Event, kind: Kind, reason: str, *, name: str, actor: str, now: datetime, role: str = "") -> Entry:
    """Return an entry that is only recorded, for `record`."""
    return Entry(
        name=name,
        event=event.name,
        zone=event.zone,
        node=event.node,
        kind=kind,
        state=State.RECORDED,
        reason=reason,
        asked_by=actor,
        asked_at=now,
        role=role,
        organisation=event.organisation,
    )


def ended(entry: Entry, at: datetime) -> Entry:
    """Return the entry of a suspension that is over."""
    return replace(entry, state=State.ENDED, ended_at=at)


def unsuspended(event: Event) -> Event:
    """Return an event whose suspension ended by itself: its clocks count as reckoned."""
    return replace(
        event,
        deadlines=replace(event.deadlines, suspended_until=None),
        clocks=replace(event.clocks, suspension=""),
    )


def is_suspended(event: Event, now: datetime) -> bool:
    until = event.deadlines.suspended_until
    return until is not None and now < until


# ------------------------------------------------------------------------------------------------------- what they do


def _apply(event: Event, rules: Rules, entry: Entry, actor: str, now: datetime) -> Effect:
    if entry.kind in {Kind.VOID, Kind.REOPEN}:
        after, step = _by_the_loop(event, rules, entry, actor, now)
    else:
        after = replace(_changed(event, entry, now), revision=event.revision + 1)
        step = _step(event, after, entry, actor, now)
    if entry.kind is not Kind.VOID:  # a voided event keeps its deadlines, as any closed one does
        after = reckoned(after, rules.type, rules.calendars)
    before, now_due = event.deadlines, after.deadlines
    told = replace(
        entry,
        due_before=before.due_at,
        due_after=now_due.due_at,
        step_due_before=before.step_due_at,
        step_due_after=now_due.step_due_at,
        revision=after.revision,
    )
    return Effect(after, step, told)


def _by_the_loop(event: Event, rules: Rules, entry: Entry, actor: str, now: datetime) -> tuple[Event, Step]:
    void = entry.kind is Kind.VOID
    action = rules.loop.voiding(event.status) if void else rules.loop.reopening(event.status)
    if action is None:
        raise _not_possible(event, entry.kind)
    command = Command(action.action, actor, now, entry.reason, on_request=True)
    after, step = advance(rules.loop, event, command)
    if not void and event.closed_at is not None:
        pause = Span(event.closed_at, now)  # nobody could work on it while it was closed
        after = replace(after, clocks=replace(after.clocks, pauses=(*after.clocks.pauses, pause)))
    return stepped(event, after, rules.type, rules.loop), step


def _changed(event: Event, entry: Entry, now: datetime) -> Event:
    clocks, deadlines = event.clocks, event.deadlines
    match entry.kind:
        case Kind.EXTENSION:
            clocks = replace(
                clocks,
                extended_min=clocks.extended_min + entry.minutes,
                step_extended_min=clocks.step_extended_min + entry.minutes,
            )
        case Kind.SUSPENSION:
            until = entry.until or now  # `ask` sees to it that there is one
            clocks = replace(clocks, pauses=(*clocks.pauses, Span(now, until)), suspension=entry.name)
            deadlines = replace(deadlines, suspended_until=until)
        case Kind.RESUMPTION:
            last = clocks.pauses[-1]
            clocks = replace(clocks, pauses=(*clocks.pauses[:-1], Span(last.start, now)), suspension="")
            deadlines = replace(deadlines, suspended_until=None)
        case _:
            pass
    return replace(event, clocks=clocks, deadlines=deadlines)


def _step(event: Event, after: Event, entry: Entry, actor: str, now: datetime) -> Step:
    return step_between(event, after, _STEPS[entry.kind], actor=actor, now=now, reason=entry.reason)


# -------------------------------------------------------------------------------------------------- what is possible


def _check_wanted(wanted: Wanted, now: datetime) -> None:
    problems: list[tuple[str, str]] = []
    if wanted.kind in NOT_ASKED:
        problems.append(("kind", f"{wanted.kind} is recorded and cannot be asked for"))
    for field, kind, given in (
        ("minutes", Kind.EXTENSION, bool(wanted.minutes)),
        ("until", Kind.SUSPENSION, wanted.until is not None),
        ("role", Kind.ESCALATION, bool(wanted.role)),
    ):
        if given != (wanted.kind is kind):
            problems.append((field, f"is not taken by {wanted.kind}" if given else f"is required for {wanted.kind}"))
    if wanted.until is not None and not now < wanted.until <= now + SUSPENSION_MAX:
        problems.append(("until", f"must lie in the future, at most {SUSPENSION_MAX.days} days from now"))
    if wanted.decide_by is not None and not now < wanted.decide_by <= now + DECISION_MAX:
        problems.append(("decideBy", f"must lie in the future, at most {DECISION_MAX.days} days from now"))
    if problems:
        raise Invalid.many(problems)


def _check_possible(
    event: Event, rules: Rules, kind: Kind, minutes: int, now: datetime, *, asked_at: datetime | None = None
) -> None:
    if kind is Kind.REOPEN:
        _check_reopening(event, rules, asked_at or now)  # who asked in time need not fear a slow decision
    elif not event.is_open and kind is not Kind.CALENDAR:
        raise _not_possible(event, kind)
    if kind is Kind.VOID and rules.loop.voiding(event.status) is None:
        raise _not_possible(event, kind)
    if kind in {Kind.SUSPENSION, Kind.VOID}:
        check_not_suspended(event, now)
    if kind is Kind.RESUMPTION and not is_suspended(event, now):
        raise WrongState(Reason.WRONG_STATE, f"{event.name} is not suspended", name=event.name)
    if kind is Kind.EXTENSION and event.clocks.extended_min + minutes > EXTENSIONS_MAX_MIN:
        raise Invalid("minutes", f"must leave all extensions together at {EXTENSIONS_MAX_MIN} or less")
    if kind in {Kind.SUSPENSION, Kind.REOPEN} and len(event.clocks.pauses) >= PAUSES_MAX:
        text = f"{event.name} was suspended or reopened {PAUSES_MAX} times"
        raise WrongState(Reason.WRONG_STATE, text, name=event.name)


def _check_reopening(event: Event, rules: Rules, asked_at: datetime) -> None:
    until = event.deadlines.reopen_until
    if event.is_open or until is None or rules.loop.reopening(event.status) is None:
        raise _not_possible(event, Kind.REOPEN)
    if asked_at > until:
        text = f"{event.name} could be reopened until {until.isoformat(timespec='minutes')}"
        raise WrongState(Reason.REOPEN_WINDOW_OVER, text, name=event.name, ended=until.isoformat())


def _check_asked(entry: Entry) -> None:
    if entry.state is not State.ASKED:
        text = f"{entry.name} is {entry.state}"
        raise WrongState(Reason.WRONG_STATE, text, name=entry.name, state=entry.state)


def _check_decidable(entry: Entry, actor: str, now: datetime) -> None:
    if actor == entry.asked_by:
        raise Forbidden(Reason.APPROVAL_BY_SAME, "who asked cannot decide", name=entry.name)
    _check_asked(entry)
    if entry.decide_by is not None and now > entry.decide_by:
        text = f"{entry.name} lapsed at {entry.decide_by.isoformat(timespec='minutes')}"
        raise WrongState(Reason.WRONG_STATE, text, name=entry.name, state=State.LAPSED)


def _not_possible(event: Event, kind: Kind) -> WrongState:
    text = f"{kind} is not possible while {event.name} is {event.status}"
    return WrongState(Reason.WRONG_STATE, text, name=event.name, status=event.status)
