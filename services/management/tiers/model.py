"""Moving events between tiers: an upper node asks for one, or an organisation of another tier accepts one. Pure.

An event has one home, the only node that changes it. The home alone can move it: what it states with the move is its
last word about the event, so that no revision is ever made by two nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from libs.errors import Reason, WrongState
from services.management.deadlines.texts import both, plain
from services.management.model import Event, Explanation, Step, StepAction, step_between
from services.management.texts import Text
from services.management.tiers import texts

if TYPE_CHECKING:
    from services.management.handover.model import Handover

TAKE_OVER_NAME = "zones/{zone}/events/{event}/takeOvers/{take_over}"
WAIT_DEFAULT_MIN = 24 * 60


class State(StrEnum):
    ASKED = "asked"
    MOVED = "moved"
    REFUSED = "refused"
    LAPSED = "lapsed"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an event is not given up: a stable reason, and the texts for people."""

    reason: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class TakeOver:
    """One asking. The fields are those of TakeOver in tiers.proto; LAPSED is never stored, it follows from the time."""

    name: str
    event: str
    title: str
    zone: str
    from_node: str
    to_node: str
    organisation: str
    reason: str
    asked_by: str
    asked_at: datetime
    expires_at: datetime
    state: State = State.ASKED
    answered_at: datetime | None = None
    refusal: str = ""
    refusal_zh: str = ""
    refusal_en: str = ""
    revision: int = 0

    def state_at(self, now: datetime) -> State:
        """Return what became of it by a moment."""
        return State.LAPSED if self.state is State.ASKED and now >= self.expires_at else self.state


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks for. `wait_min` 0 is WAIT_DEFAULT_MIN."""

    organisation: str
    reason: str
    wait_min: int = 0


def ask(
    event: Event, wanted: Wanted, *, node: str, is_above: bool, waiting: bool, name: str, actor: str, now: datetime
) -> TakeOver:
    """Return the asking of a node for another's event.

    `is_above`: the home is a node above this one. `waiting`: another asking for the event waits.
    Raises WrongState for an event of this node or of a node above, for one that has ended, and for one of which this
    node was not told from the beginning: it could not go on with it.
    """
    about = {"name": event.name, "node": event.node}
    if event.node == node:
        raise WrongState(Reason.WRONG_STATE, f"{event.name} is handled by this node", **about)
    if is_above:
        raise WrongState(Reason.NOT_BELOW, f"{event.name} is handled by {event.node}, which is above", **about)
    if not event.is_open:
        raise WrongState(Reason.WRONG_STATE, f"{event.name} is {event.status}", **about, status=event.status)
    if event.partial:
        text = f"{event.name} was opened before this node was told of it"
        raise WrongState(Reason.HISTORY_MISSING, text, **about)
    if waiting:
        raise WrongState(Reason.TAKE_OVER_OPEN, f"{event.node} has been asked for {event.name}", **about)
    return TakeOver(
        name=name,
        event=event.name,
        title=event.title,
        zone=event.zone,
        from_node=event.node,
        to_node=node,
        organisation=wanted.organisation,
        reason=wanted.reason,
        asked_by=actor,
        asked_at=now,
        expires_at=now + timedelta(minutes=wanted.wait_min or WAIT_DEFAULT_MIN),
    )


def objection(event: Event | None, asked: TakeOver, *, node: str, now: datetime) -> Refusal | None:
    """Return why this node does not give an event up; None when it does."""
    if event is None:
        return refusal(Reason.EVENT_NOT_FOUND, texts.UNKNOWN)
    if event.node != node:
        return refusal(Reason.NOT_AUTHORITATIVE, texts.ELSEWHERE, node=event.node)
    if not event.is_open:
        return refusal(Reason.WRONG_STATE, texts.CLOSED, status=event.status)
    if event.shares_open:
        return refusal(Reason.SUB_ORDER_OPEN, texts.SHARES_OPEN, open=str(event.shares_open))
    if now >= asked.expires_at:
        return refusal(Reason.TAKE_OVER_LAPSED, texts.LAPSED)
    return None


def refusal(reason: str, text: Text, **values: str) -> Refusal:
    """Return a refusal with its texts filled."""
    zh, en = text.fill(**values)
    return Refusal(reason, zh, en)


def refused(asked: TakeOver, why: Refusal, now: datetime) -> TakeOver:
    """Return an asking that the home refused."""
    return replace(
        asked,
        state=State.REFUSED,
        answered_at=now,
        refusal=why.reason,
        refusal_zh=why.zh,
        refusal_en=why.en,
    )


def moved(asked: TakeOver, revision: int, now: datetime) -> TakeOver:
    """Return an asking that was followed, by the revision of the event with which it moved."""
    return replace(asked, state=State.MOVED, answered_at=now, revision=revision)


@dataclass(frozen=True, slots=True)
class Move:
    """An event gets another home. `cause` is the take-over or hand-over that it follows, `action` the last step."""

    cause: str
    from_node: str
    to_node: str
    organisation: str
    actor: str
    reason: str
    action: StepAction
    text: Text


def following(asked: TakeOver) -> Move:
    """Return the move by which an asking is followed."""
    return Move(
        cause=asked.name,
        from_node=asked.from_node,
        to_node=asked.to_node,
        organisation=asked.organisation,
        actor=asked.asked_by,
        reason=asked.reason,
        action=StepAction.TAKE_OVER,
        text=texts.GIVEN_UP,
    )


def handing_over(handover: Handover, node: str, actor: str) -> Move:
    """Return the move to another tier whose organisation has accepted a hand-over; `node` is the old home."""
    return Move(
        cause=handover.name,
        from_node=node,
        to_node=handover.to_node,
        organisation=handover.to_organisation,
        actor=actor,
        reason="",
        action=StepAction.MOVE,
        text=texts.HANDED_OVER,
    )


def give_up(event: Event, move: Move, now: datetime) -> tuple[Event, Step]:
    """Return an event as its home leaves it to another node, and the step for its history.

    Nobody has it any more; its status and its deadlines stay.
    """
    after = replace(
        event,
        node=move.to_node,
        organisation=move.organisation,
        assignee="",
        assigned_as="",
        revision=event.revision + 1,
    )
    why = _explained(move, move.text)
    step = step_between(event, after, move.action, actor=move.actor, now=now, reason=move.reason, explanation=why)
    return after, step


def take_up(event: Event, move: Move, now: datetime) -> tuple[Event, Step]:
    """Return an event that came to this node, and the first step that its new home makes."""
    after = replace(event, revision=event.revision + 1)
    why = _explained(move, texts.TAKEN_UP)
    return after, step_between(event, after, StepAction.TAKE_UP, actor=move.actor, now=now, explanation=why)


def _explained(move: Move, text: Text) -> Explanation:
    values = {"node": move.to_node, "before": move.from_node, "organisation": move.organisation}
    zh, en = both(text, **{name: plain(value) for name, value in values.items()})
    inputs = {"from": move.from_node, "to": move.to_node, "organisation": move.organisation}
    return Explanation(move.cause, zh, en, inputs)
