"""Random lives of an event in the hands of three organisations: offers, answers, disputes, steps of the loop."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from libs.errors import DomainError, Forbidden, Invalid, Reason, WrongState
from services.management.deadlines.model_calendar import DEFAULT
from services.management.deadlines.model_clocks import EVERY_HOUR, CalendarSet, reckoned, step_reckoned, stepped
from services.management.deadlines.model_time import WorkingTime
from services.management.deadlines.tests.calendars import CHINA
from services.management.handover import model_turns as turns
from services.management.handover.model import DISPUTABLE, LADDER, WAITING, Handover, Offer, State, Terms
from services.management.model import Allowance, Event
from services.management.model_loop import Command, advance
from services.management.model_report import open_event, route
from services.management.tests.samples import GRAFFITI, NODE, NOW, PARKS, SEVEN, SEWERS, WORKS, report, tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.management.handover.model_turns import Turn

CALENDARS = CalendarSet({**EVERY_HOUR.by_name, DEFAULT: WorkingTime(CHINA)}, {})
TERMS = Terms(CALENDARS, "")
TYPE = replace(GRAFFITI, deadline=Allowance(20 * 60))
ORGANISATIONS = [WORKS, SEWERS, PARKS]
PEOPLE = ["people/one", "people/two", "people/boss"]
# In which states of a hand-over each action is declared; an offer makes one.
DECLARED = {
    "accept": {State.OFFERED},
    "refuse": {State.OFFERED},
    "withdraw": WAITING,
    "lapse": {State.OFFERED},
    "dispute": DISPUTABLE,
    "escalate": {State.DISPUTED},
    "decide": {State.DISPUTED},
}
TAKES_THE_EVENT = {State.ACCEPTED, State.ORDERED}


class HandoverLife(RuleBasedStateMachine):
    """One event that three organisations hand to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.event: Event
        self.handovers: list[Handover] = []
        self.holder = ""

    @initialize()
    def dispatch(self) -> None:
        taken = report(occurred_at=self.now)
        routing = route(TYPE, taken.zone, tree())
        event = open_event(taken, TYPE, SEVEN, routing, node=NODE, name="zones/z/events/1", now=self.now)
        self.event = reckoned(event, TYPE, CALENDARS)
        self.due_at = self.event.deadlines.due_at
        for action in ("file", "dispatch"):
            self._advance(action)

    @rule(minutes=st.integers(1, 3 * 24 * 60))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(to=st.sampled_from(ORGANISATIONS), actor=st.sampled_from(PEOPLE))
    def somebody_offers(self, to: str, actor: str) -> None:
        wanted = Offer(to, "not ours", "the kerb is the boundary")
        name = f"{self.event.name}/handovers/{len(self.handovers)}"
        current = [h for h in self.handovers if h.state in WAITING and self._is_current(h)]
        try:
            turn = turns.offer(self.event, wanted, self.handovers, TERMS, name=name, actor=actor, now=self.now)
        except Invalid:
            assert to == self.event.organisation
            return
        except WrongState as error:
            if error.reason == Reason.HANDOVER_OPEN:
                assert current
            elif error.reason == Reason.HANDOVER_DECIDED:
                assert any(h.state in {State.ORDERED, State.DISMISSED} for h in self.handovers)
            else:
                assert not self.event.is_open or not self.event.organisation
            return
        assert not current
        assert turn.handover.answer_due_at > self.now
        self.handovers.append(turn.handover)
        self._take(turn)

    @precondition(lambda self: self.handovers)
    @rule(
        data=st.data(),
        action=st.sampled_from(sorted(DECLARED)),
        actor=st.sampled_from(PEOPLE),
        to=st.sampled_from(ORGANISATIONS),
    )
    def somebody_acts(self, data: st.DataObject, action: str, actor: str, to: str) -> None:
        place = data.draw(st.integers(0, len(self.handovers) - 1))
        before = self.handovers[place]
        try:
            turn = self._act(action, before, actor, to)
        except Forbidden:
            assert action == "decide"
            assert actor in {before.offered_by, before.answered_by, before.disputed_by}
            return
        except Invalid:
            assert action == "decide"
            assert to not in {before.from_organisation, before.to_organisation}
            return
        except WrongState:
            assert (
                before.state not in DECLARED[action]
                or not self._is_current(before)
                or self._out_of_time(action, before)
            )
            return
        assert before.state in DECLARED[action]
        assert self._is_current(before)
        assert turn.handover.version == before.version + 1
        self.handovers[place] = turn.handover
        self._take(turn)

    @rule(action=st.sampled_from([action.action for action in SEVEN.actions]))
    def the_loop_goes_on(self, action: str) -> None:
        self._advance(action)

    @precondition(lambda self: self.handovers)
    @rule(data=st.data())
    def what_lost_its_event_ends(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.handovers) - 1))
        before = self.handovers[place]
        try:
            self.handovers[place] = turns.supersede(self.event, before)
        except WrongState:
            assert before.state not in WAITING or self._is_current(before)
            return
        assert before.state in WAITING
        assert not self._is_current(before)

    def _act(self, action: str, handover: Handover, actor: str, to: str) -> Turn:
        event, now = self.event, self.now
        waiting = any(h.state in WAITING and self._is_current(h) for h in self.handovers)
        acts: dict[str, Callable[[], Turn]] = {
            "accept": lambda: turns.accept(event, handover, note="ours", actor=actor, now=now),
            "refuse": lambda: turns.refuse(event, handover, reason="not ours", actor=actor, now=now),
            "withdraw": lambda: turns.withdraw(event, handover, actor=actor, now=now),
            "lapse": lambda: turns.lapse(event, handover, TERMS, actor=actor, now=now),
            "dispute": lambda: turns.dispute(
                event, handover, TERMS, reason="yours", waiting=waiting, actor=actor, now=now
            ),
            "escalate": lambda: turns.escalate(event, handover, TERMS, actor=actor, now=now),
            "decide": lambda: turns.decide(event, handover, to, reason="by the boundary", actor=actor, now=now),
        }
        return acts[action]()

    def _out_of_time(self, action: str, handover: Handover) -> bool:
        """Tell whether it is too late, or too early, or whether another hand-over waits."""
        if action in {"accept", "refuse"}:
            return self.now >= handover.answer_due_at
        if action == "lapse":
            return self.now < handover.answer_due_at
        if action == "escalate":
            last = handover.rung == len(LADDER)
            return last or handover.decide_due_at is None or self.now < handover.decide_due_at
        return action == "dispute" and any(h.state in WAITING and self._is_current(h) for h in self.handovers)

    def _is_current(self, handover: Handover) -> bool:
        return self.event.is_open and self.event.organisation == handover.from_organisation

    def _take(self, turn: Turn) -> None:
        assert turn.step.revision == turn.event.revision == self.event.revision + 1
        assert turn.step.organisation == turn.event.organisation
        assert turn.event.status == self.event.status
        moved = turn.event.organisation != self.event.organisation
        assert moved == (turn.handover.state in TAKES_THE_EVENT)
        if moved:
            assert turn.event.organisation == turn.handover.to_organisation
            assert self.event.organisation == turn.handover.from_organisation
        assert turn.handover.explanation is not None
        assert turn.handover.explanation.zh
        assert turn.handover.explanation.en
        self.event = step_reckoned(turn.event, TYPE, CALENDARS)
        self.holder = self.event.organisation

    def _advance(self, action: str) -> None:
        try:
            after, _ = advance(SEVEN, self.event, Command(action, "people/x", self.now, "because"))
        except DomainError:
            return
        self.event = step_reckoned(stepped(self.event, after, TYPE, SEVEN), TYPE, CALENDARS)
        self.holder = self.event.organisation

    @invariant()
    def exactly_one_organisation_answers_for_it(self) -> None:
        if getattr(self, "event", None) is None:
            return
        assert self.event.organisation == self.holder
        if self.event.status in {"dispatched", "disposed", "fed_back"}:
            assert self.event.organisation in ORGANISATIONS

    @invariant()
    def one_hand_over_waits_at_a_time(self) -> None:
        waiting = [h for h in self.handovers if h.state in WAITING and self._is_current(h)]
        assert len(waiting) <= 1

    @invariant()
    def the_business_clock_goes_on(self) -> None:
        if getattr(self, "event", None) is not None:
            assert self.event.deadlines.due_at == self.due_at


TestHandoverLife = HandoverLife.TestCase
TestHandoverLife.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_decision_binds_both() -> None:
    life = HandoverLife()
    life.dispatch()
    life.somebody_offers(SEWERS, "people/one")
    life.handovers[0] = _settled(life, "refuse", "people/two")
    life.handovers[0] = _settled(life, "dispute", "people/one")
    life.handovers[0] = _settled(life, "decide", "people/boss", WORKS)
    wanted = Offer(SEWERS, "again", "the kerb")
    with pytest.raises(WrongState) as caught:
        turns.offer(life.event, wanted, life.handovers, TERMS, name="n", actor="people/one", now=life.now)
    assert caught.value.reason == Reason.HANDOVER_DECIDED
    other = replace(wanted, organisation=PARKS)
    turns.offer(life.event, other, life.handovers, TERMS, name="n", actor="people/one", now=life.now)


def _settled(life: HandoverLife, action: str, actor: str, to: str = "") -> Handover:
    turn = life._act(action, life.handovers[0], actor, to)
    life._take(turn)
    return turn.handover
