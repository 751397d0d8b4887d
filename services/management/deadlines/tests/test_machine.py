"""Random lives of an event: steps of the loop, exceptions, pauses, new calendars. What must hold after each of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from libs.errors import DomainError, Forbidden, Invalid, Reason, WrongState
from services.management.deadlines.model_calendar import DEFAULT, SpecialDays, SpecialKind
from services.management.deadlines.model_clocks import (
    EVERY_HOUR,
    CalendarSet,
    business_clock,
    reckoned,
    step_clock,
    step_reckoned,
    stepped,
)
from services.management.deadlines.model_exceptions import (
    NOT_ASKED,
    Effect,
    Entry,
    Kind,
    Rules,
    State,
    Wanted,
    approve,
    ask,
    is_suspended,
    lapse,
    record,
    recorded,
    refuse,
    unsuspended,
    withdraw,
)
from services.management.deadlines.model_time import WorkingTime, joined
from services.management.deadlines.tests.calendars import CHINA
from services.management.model import Allowance, Event
from services.management.model_loop import Command, advance
from services.management.model_report import open_event, route
from services.management.tests.samples import GRAFFITI, NODE, NOW, SEVEN, WORKS, report, tree

TYPE = replace(
    GRAFFITI,
    deadline=Allowance(20 * 60),
    step_deadlines={"dispatched": Allowance(240), "filed": Allowance(60, around_the_clock=True)},
    reopen_days=5,
)
ACTIONS = [action.action for action in SEVEN.actions]
DECLARED = {(source, action.action): action for action in SEVEN.actions for source in action.sources}
PEOPLE = ["people/handler", "people/supervisor", "people/leader"]
people = st.sampled_from(PEOPLE)


class EventLife(RuleBasedStateMachine):
    """One event of a type with both clocks, by the calendar of China."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.go_by = Rules(SEVEN, TYPE, CalendarSet({**EVERY_HOUR.by_name, DEFAULT: WorkingTime(CHINA)}, {}))
        self.event: Event
        self.entries: dict[str, Entry] = {}
        self.effects: list[Entry] = []
        self.first: datetime | None = None

    @initialize()
    def open(self) -> None:
        taken = report(occurred_at=self.now)
        routing = route(TYPE, taken.zone, tree())
        event = open_event(taken, TYPE, SEVEN, routing, node=NODE, name="zones/z/events/1", now=self.now)
        self.event = reckoned(event, TYPE, self.go_by.calendars)
        self.first = self.event.deadlines.due_at

    @rule(minutes=st.integers(1, 4 * 24 * 60))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)
        until = self.event.deadlines.suspended_until
        if until is not None and until <= self.now:
            self.event = unsuspended(self.event)

    @rule(action=st.sampled_from([*ACTIONS, "open", "nonsense"]), reason=st.sampled_from(["", "because"]))
    def somebody_acts(self, action: str, reason: str) -> None:
        before = self.event
        declared = DECLARED.get((before.status, action))
        try:
            after, _ = advance(SEVEN, before, Command(action, "people/x", self.now, reason))
        except WrongState as error:
            suspended = error.reason == Reason.EVENT_SUSPENDED
            assert suspended == (
                is_suspended(before, self.now) and declared is not None and not declared.on_request_only
            )
            assert suspended or declared is None or declared.on_request_only
            return
        except Invalid:
            assert declared is not None
            assert declared.needs_reason
            assert not reason
            return
        assert declared is not None
        assert not declared.on_request_only
        assert not is_suspended(before, self.now)
        assert after.status == declared.target
        self.event = step_reckoned(stepped(before, after, TYPE, SEVEN), TYPE, self.go_by.calendars)
        assert self.event.deadlines.due_at == before.deadlines.due_at

    @rule(kind=st.sampled_from(Kind), actor=people, minutes=st.integers(1, 3000))
    def somebody_asks(self, kind: Kind, actor: str, minutes: int) -> None:
        wanted = Wanted(
            kind,
            "because",
            minutes=minutes if kind is Kind.EXTENSION else 0,
            until=self.now + timedelta(minutes=minutes) if kind is Kind.SUSPENSION else None,
            role="leader" if kind is Kind.ESCALATION else "",
        )
        name = f"{self.event.name}/exceptions/{len(self.entries)}"
        try:
            entry = ask(self.event, self.go_by, wanted, name=name, actor=actor, now=self.now)
        except Invalid:
            assert kind in NOT_ASKED
            return
        except WrongState:
            assert (
                kind is Kind.REOPEN or not self.event.is_open or is_suspended(self.event, self.now) or kind is Kind.VOID
            )
            return
        assert (entry.state, entry.revision) == (State.ASKED, 0)
        self.entries[name] = entry

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), actor=people, what=st.sampled_from(["approve", "refuse", "withdraw", "lapse"]))
    def somebody_settles(self, data: st.DataObject, actor: str, what: str) -> None:
        entry = self.entries[data.draw(st.sampled_from(sorted(self.entries)))]
        before = self.event
        try:
            match what:
                case "approve":
                    effect = approve(before, self.go_by, entry, note="", actor=actor, now=self.now)
                    self._take(effect)
                    settled = effect.entry
                case "refuse":
                    settled = refuse(entry, note="no", actor=actor, now=self.now)
                case "withdraw":
                    settled = withdraw(entry, actor=actor, now=self.now)
                case _:
                    assume(entry.state is State.ASKED)
                    settled = lapse(entry, now=self.now)
        except Forbidden:
            assert (actor == entry.asked_by) == (what != "withdraw")
            return
        except DomainError:
            return
        assert entry.state is State.ASKED
        assert what == "lapse" or (actor == entry.asked_by) == (what == "withdraw")
        assert what == "approve" or self.event is before
        self.entries[entry.name] = settled

    @rule()
    def the_suspension_is_ended(self) -> None:
        self._record(Kind.RESUMPTION)

    @rule(days=st.integers(0, 30))
    def the_calendar_changes(self, days: int) -> None:
        free = self.now.date() + timedelta(days=days)
        calendar = self.go_by.calendars.named(DEFAULT).calendar
        if calendar.special(free):
            return
        special = SpecialDays(free, free, SpecialKind.HOLIDAY)
        changed = replace(calendar, special_days=(*calendar.special_days, special), version=calendar.version + 1)
        by_name = {**self.go_by.calendars.by_name, DEFAULT: WorkingTime(changed)}
        self.go_by = replace(self.go_by, calendars=CalendarSet(by_name, {}))
        self._record(Kind.CALENDAR)

    def _record(self, kind: Kind) -> None:
        entry = recorded(self.event, kind, "", name="e", actor="services/management", now=self.now)
        try:
            self._take(record(self.event, self.go_by, entry, actor="services/management", now=self.now))
        except WrongState:
            assert kind is Kind.RESUMPTION
            assert not is_suspended(self.event, self.now)

    def _take(self, effect: Effect) -> None:
        assert effect.event.revision == effect.step.revision == self.event.revision + 1
        self.event = effect.event
        self.effects.append(effect.entry)

    @invariant()
    def the_ledger_explains_the_deadline(self) -> None:
        due = self.first
        for entry in self.effects:
            assert entry.due_before == due
            due = entry.due_after
        assert self.event.deadlines.due_at == due
        assert self.event.deadlines.first_due_at == self.first

    @invariant()
    def no_clock_counts_a_pause(self) -> None:
        pauses = joined(self.event.clocks.pauses)
        for clock, due_at in (
            (business_clock(self.event, TYPE, self.go_by.calendars), self.event.deadlines.due_at),
            (step_clock(self.event, TYPE, self.go_by.calendars), self.event.deadlines.step_due_at),
        ):
            if clock is None or due_at is None or not self.event.is_open:
                continue
            counted = clock.time.between(clock.since, due_at)
            paused = sum(
                (clock.time.between(max(p.start, clock.since), min(p.end, due_at)) for p in pauses), timedelta()
            )
            assert counted - paused == clock.amount
            assert not any(p.start < due_at < p.end for p in pauses)

    @invariant()
    def a_reopened_event_is_with_who_handled_it(self) -> None:
        if self.event.status == "dispatched":
            assert self.event.organisation == WORKS
        assert (self.event.status in SEVEN.open_states) == (self.event.closed_at is None)
        assert self.event.is_open or self.event.deadlines.suspended_until is None


TestEventLife = EventLife.TestCase
TestEventLife.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
