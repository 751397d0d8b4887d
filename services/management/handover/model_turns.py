"""The hand-over of an event as a state machine. Pure.

An event has one organisation that answers for it. Only two turns change it: the other organisation accepts, or an upper
role orders it to take the event. Every turn makes a step of the event, but for the end of a hand-over that has lost its
object: the step that took the event away stands there already.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from libs.errors import Forbidden, Invalid, Reason, WrongState
from services.management.deadlines.texts import both, duration, moment, plain
from services.management.handover import texts
from services.management.handover.model import (
    ANSWER_DEFAULT_MIN,
    DECISION_MIN,
    DISPUTABLE,
    HANDOVERS_MAX,
    LADDER,
    WAITING,
    Handover,
    Offer,
    State,
    Terms,
)
from services.management.model import Event, Explanation, Step, StepAction, step_between
from services.management.model_loop import passed_on

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.management.texts import Text


class Turn(NamedTuple):
    """The event, the hand-over and the step after one turn."""

    event: Event
    handover: Handover
    step: Step


def offer(
    event: Event, wanted: Offer, earlier: Iterable[Handover], terms: Terms, *, name: str, actor: str, now: datetime
) -> Turn:
    """Offer an event. `earlier` are its hand-overs so far.

    Raises WrongState for an event that nobody answers for or whose shares are open, while another hand-over waits, and
    for what was decided; Invalid for the organisation that has it.
    """
    _check_offerable(event, wanted, list(earlier))
    time = terms.answering(wanted.organisation)
    amount = timedelta(minutes=wanted.answer_min or ANSWER_DEFAULT_MIN)
    handover = Handover(
        name=name,
        event=event.name,
        title=event.title,
        zone=event.zone,
        node=event.node,
        from_organisation=event.organisation,
        to_organisation=wanted.organisation,
        reason=wanted.reason,
        boundary=wanted.boundary,
        state=State.OFFERED,
        offered_by=actor,
        offered_at=now,
        answer_due_at=time.add(now, amount),
        version=0,
        to_node=wanted.node,
    )
    calendar = time.calendar
    why = _explained(
        handover,
        texts.OFFERED,
        due=moment(handover.answer_due_at, time.zone),
        amount=duration(amount),
        calendar=(calendar.title_zh or calendar.name, calendar.title_en or calendar.name),
    )
    return _turn(event, handover, StepAction.OFFER_HANDOVER, why, actor, now, wanted.reason)


def accept(event: Event, handover: Handover, *, note: str, actor: str, now: datetime) -> Turn:
    """The other organisation takes the event. Raises WrongState: not offered any more, or shares are open."""
    _check_offered(event, handover, now)
    _check_shares(event)
    after = replace(handover, state=State.ACCEPTED, answered_by=actor, answered_at=now, answer=note)
    why = _explained(after, texts.ACCEPTED)
    return _turn(event, after, StepAction.ACCEPT_HANDOVER, why, actor, now, note, to=handover.to_organisation)


def refuse(event: Event, handover: Handover, *, reason: str, actor: str, now: datetime) -> Turn:
    """The other organisation does not take it. Raises WrongState, Invalid without a reason."""
    _check_offered(event, handover, now)
    if not reason.strip():
        raise Invalid("reason", "is required to refuse")
    after = replace(handover, state=State.REFUSED, answered_by=actor, answered_at=now, answer=reason)
    return _turn(event, after, StepAction.REFUSE_HANDOVER, _explained(after, texts.REFUSED), actor, now, reason)


def withdraw(event: Event, handover: Handover, *, actor: str, now: datetime) -> Turn:
    """Who offers takes it back. Raises WrongState."""
    _check_state(handover, WAITING)
    _check_current(event, handover)
    after = replace(handover, state=State.WITHDRAWN, decide_due_at=None)
    return _turn(event, after, StepAction.WITHDRAW_HANDOVER, _explained(after, texts.WITHDRAWN), actor, now, "")


def lapse(event: Event, handover: Handover, terms: Terms, *, actor: str, now: datetime) -> Turn:
    """Nobody answered in time. Raises WrongState before that."""
    _check_state(handover, {State.OFFERED})
    _check_current(event, handover)
    if now < handover.answer_due_at:
        raise _wrong(handover, f"{handover.name} can be answered until {handover.answer_due_at.isoformat()}")
    after = replace(handover, state=State.LAPSED, answered_at=now)
    why = _explained(
        after, texts.LAPSED, due=moment(handover.answer_due_at, terms.answering(handover.to_organisation).zone)
    )
    return _turn(event, after, StepAction.LAPSE_HANDOVER, why, actor, now, "")


def dispute(
    event: Event, handover: Handover, terms: Terms, *, reason: str, waiting: bool, actor: str, now: datetime
) -> Turn:
    """Who offered brings it before an upper role. `waiting`: a later hand-over of the event waits.

    Raises WrongState, also for a hand-over between tiers: there the upper one takes over, or leaves it. Invalid without
    a reason.
    """
    _check_state(handover, DISPUTABLE)
    if handover.to_node:
        raise _wrong(handover, f"{handover.name} is between tiers, where nobody stands above both but the upper one")
    _check_current(event, handover)
    if waiting:
        raise _open(event)
    if not reason.strip():
        raise Invalid("reason", "is required to dispute")
    due_at = terms.deciding.add(now, timedelta(minutes=DECISION_MIN))
    after = replace(
        handover,
        state=State.DISPUTED,
        disputed_by=actor,
        disputed_at=now,
        dispute=reason,
        decide_due_at=due_at,
        rung=1,
    )
    role = LADDER[0].title.fill()
    why = _explained(after, texts.DISPUTED, role=role, due=moment(due_at, terms.zone))
    return _turn(event, after, StepAction.DISPUTE_HANDOVER, why, actor, now, reason)


def escalate(event: Event, handover: Handover, terms: Terms, *, actor: str, now: datetime) -> Turn:
    """Nobody decided in time: it goes to the next who can be asked. Raises WrongState before that."""
    _check_state(handover, {State.DISPUTED})
    _check_current(event, handover)
    due_at = handover.decide_due_at
    if due_at is None or now < due_at or handover.rung >= len(LADDER):
        raise _wrong(handover, f"{handover.name} is not to be escalated now")
    rung = handover.rung + 1
    next_due = terms.deciding.add(now, timedelta(minutes=DECISION_MIN)) if rung < len(LADDER) else None
    after = replace(handover, rung=rung, decide_due_at=next_due)
    ahead = both(texts.NEXT_DUE, due=moment(next_due, terms.zone)) if next_due else ("", "")
    why = _explained(
        after,
        texts.ESCALATED,
        before=LADDER[rung - 2].title.fill(),
        role=LADDER[rung - 1].title.fill(),
        due=moment(due_at, terms.zone),
        next=ahead,
    )
    return _turn(event, after, StepAction.ESCALATE_HANDOVER, why, actor, now, "")


def decide(
    event: Event,
    handover: Handover,
    organisation: str,
    *,
    reason: str,
    actor: str,
    now: datetime,
    directive: tuple[str, str] | None = None,
) -> Turn:
    """An upper role says who answers for the event. `directive` is (node, name) when the tier above did.

    Raises WrongState, Forbidden to who took part, Invalid for a third organisation.
    """
    _check_state(handover, {State.DISPUTED})
    _check_current(event, handover)
    if actor in {handover.offered_by, handover.answered_by, handover.disputed_by}:
        raise Forbidden(Reason.APPROVAL_BY_SAME, "who took part in a dispute cannot decide it", name=handover.name)
    if organisation not in {handover.from_organisation, handover.to_organisation}:
        both_names = f"{handover.from_organisation} or {handover.to_organisation}"
        raise Invalid("organisation", f"must be {both_names}")
    if not reason.strip():
        raise Invalid("reason", "is required to decide")
    ordered = organisation == handover.to_organisation
    if ordered:
        _check_shares(event)
    after = replace(
        handover,
        state=State.ORDERED if ordered else State.DISMISSED,
        decided_by=actor,
        decided_at=now,
        decision=reason,
        decide_due_at=None,
    )
    why = _explained(after, texts.ORDERED if ordered else texts.DISMISSED)
    if directive is not None:
        node, name = directive
        said = both(texts.BY_DIRECTIVE, node=plain(node), directive=plain(name), said=(why.zh, why.en))
        why = replace(why, rule=name, zh=said[0], en=said[1])
    return _turn(event, after, StepAction.DECIDE_HANDOVER, why, actor, now, reason, to=organisation)


def supersede(event: Event | None, handover: Handover) -> Handover:
    """Return a hand-over that lost its object: its event was closed or went elsewhere. Raises WrongState otherwise."""
    _check_state(handover, WAITING)
    if event is not None and _is_current(event, handover):
        raise _wrong(handover, f"{handover.name} still has its event")
    why = _explained(handover, texts.SUPERSEDED)
    after = replace(handover, state=State.SUPERSEDED, decide_due_at=None, explanation=why)
    return replace(after, version=handover.version + 1)


# -------------------------------------------------------------------------------------------------------------- pieces


def _turn(
    event: Event,
    handover: Handover,
    action: StepAction,
    why: Explanation,
    actor: str,
    now: datetime,
    reason: str,
    *,
    to: str = "",
) -> Turn:
    after = replace(event, revision=event.revision + 1, organisation=to or event.organisation)
    after = passed_on(event, after)
    told = replace(handover, explanation=why, version=handover.version + 1, revision=after.revision)
    step = step_between(event, after, action, actor=actor, now=now, reason=reason, explanation=why)
    return Turn(after, told, step)


def _explained(handover: Handover, text: Text, **values: tuple[str, str]) -> Explanation:
    sender, receiver = handover.from_organisation, handover.to_organisation
    zh, en = both(text, sender=plain(sender), receiver=plain(receiver), **values)
    inputs = {"from": sender, "to": receiver, "answer_due_at": handover.answer_due_at.isoformat()}
    if handover.decide_due_at is not None:
        inputs["decide_due_at"] = handover.decide_due_at.isoformat()
    return Explanation(handover.name, zh, en, inputs)


def _is_current(event: Event, handover: Handover) -> bool:
    return event.is_open and event.organisation == handover.from_organisation


def _check_offerable(event: Event, wanted: Offer, earlier: list[Handover]) -> None:
    if not event.is_open or not event.organisation:
        text = f"{event.name} is {event.status} and with {event.organisation or 'nobody'}: nothing to hand over"
        raise WrongState(Reason.WRONG_STATE, text, name=event.name, status=event.status)
    _check_shares(event)
    if wanted.organisation == event.organisation:
        raise Invalid("organisation", f"must be another than {event.organisation}, which has the event")
    if len(earlier) >= HANDOVERS_MAX:
        text = f"{event.name} was offered {HANDOVERS_MAX} times"
        raise WrongState(Reason.WRONG_STATE, text, name=event.name)
    for handover in earlier:
        if handover.state in WAITING and _is_current(event, handover):
            raise _open(event)
        if _decided_against(handover, event.organisation, wanted.organisation):
            text = f"{handover.decided_by} decided that {event.organisation} answers for {event.name}"
            raise WrongState(Reason.HANDOVER_DECIDED, text, name=event.name, handover=handover.name)


def _check_shares(event: Event) -> None:
    """Raise WrongState while shares of a joint disposal are open: the lead answers for the whole."""
    if event.shares_open:
        text = f"{event.shares_open} sub-orders of {event.name} are not done"
        raise WrongState(Reason.SUB_ORDER_OPEN, text, name=event.name, open=str(event.shares_open))


def _decided_against(handover: Handover, sender: str, receiver: str) -> bool:
    """Tell whether a decision says that, of these two, the sender has to keep the event."""
    pair = handover.from_organisation, handover.to_organisation
    return (handover.state is State.DISMISSED and pair == (sender, receiver)) or (
        handover.state is State.ORDERED and pair == (receiver, sender)
    )


def _check_offered(event: Event, handover: Handover, now: datetime) -> None:
    _check_state(handover, {State.OFFERED})
    _check_current(event, handover)
    if now >= handover.answer_due_at:
        due = handover.answer_due_at.isoformat(timespec="minutes")
        raise _wrong(handover, f"{handover.name} lapsed at {due}")


def _check_state(handover: Handover, states: Iterable[State]) -> None:
    if handover.state not in states:
        raise _wrong(handover, f"{handover.name} is {handover.state}")


def _check_current(event: Event, handover: Handover) -> None:
    if not _is_current(event, handover):
        raise _wrong(handover, f"{event.name} is {event.status} and with {event.organisation or 'nobody'} by now")


def _wrong(handover: Handover, text: str) -> WrongState:
    return WrongState(Reason.WRONG_STATE, text, name=handover.name, state=handover.state)


def _open(event: Event) -> WrongState:
    return WrongState(Reason.HANDOVER_OPEN, f"a hand-over of {event.name} waits already", name=event.name)
