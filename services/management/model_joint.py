"""Joint disposal (联合处置): shares of one event for several organisations, one of which answers for the whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from libs.errors import Invalid, Reason, WrongState
from services.management.model import Doubt, Event, Flag, Step, StepAction, SubOrder, flagged, step_between
from services.management.model_loop import check_not_suspended, passed_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.management.model_loop import Loop

SUB_ORDERS_MIN = 2
# Over the whole life of an event, so that every list of its shares stays short.
SUB_ORDERS_MAX = 100


@dataclass(frozen=True, slots=True)
class Draft:
    """A share to be given."""

    organisation: str
    instruction: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a share by the word of whoever has it: done, or cancelled."""

    done: bool
    at: datetime
    note: str
    actor: str


def start(
    loop: Loop, event: Event, drafts: Sequence[Draft], lead: str, *, reason: str, actor: str, now: datetime
) -> tuple[Event, Step, list[SubOrder]]:
    """Return the event with its new shares. Raises WrongState outside of the loop's joint states; Invalid."""
    if event.status not in loop.joint_states:
        allowed = ", ".join(loop.joint_states) or "no state"
        text = f"a joint disposal starts in {allowed}; {event.name} is {event.status}"
        raise WrongState(Reason.WRONG_STATE, text, name=event.name, status=event.status)
    check_not_suspended(event, now)
    if event.shares_open:
        text = f"{event.shares_open} sub-orders of {event.name} are not done"
        raise WrongState(Reason.SUB_ORDER_OPEN, text, name=event.name, open=str(event.shares_open))
    _check(event, drafts, lead)
    shares = [
        SubOrder(str(number), draft.organisation, draft.instruction, lead=draft.organisation == lead)
        for number, draft in enumerate(drafts, event.shares + 1)
    ]
    after = replace(
        event,
        organisation=lead,
        supporters=tuple(dict.fromkeys((*event.supporters, *(draft.organisation for draft in drafts)))),
        shares=event.shares + len(shares),
        shares_open=len(shares),
        revision=event.revision + 1,
    )
    after = passed_on(event, after)
    step = step_between(event, after, StepAction.START_JOINT_DISPOSAL, actor=actor, now=now, reason=reason)
    return after, step, shares


def settle(event: Event, share: SubOrder, outcome: Outcome, now: datetime) -> tuple[Event, Step, SubOrder]:
    """Return the event and the share after the share was done or cancelled. The share must be open."""
    at = min(outcome.at, now)
    flags = event.flags
    if outcome.done:
        settled = replace(share, done_at=at, note=outcome.note)
        action = StepAction.COMPLETE_SUB_ORDER
    else:
        settled = replace(share, withdrawn_at=at, note=outcome.note)
        action = StepAction.WITHDRAW_SUB_ORDER
        text = f"{share.organisation} cancelled share {share.id}: {outcome.note}"
        flags = flagged(flags, Flag(Doubt.SUB_ORDER_CANCELLED, "subOrders", text))
    after = replace(event, shares_open=event.shares_open - 1, revision=event.revision + 1, flags=flags)
    step = step_between(event, after, action, actor=outcome.actor, now=now, occurred_at=at, reason=outcome.note)
    return after, step, settled


def _check(event: Event, drafts: Sequence[Draft], lead: str) -> None:
    organisations = [draft.organisation for draft in drafts]
    problems: list[tuple[str, str]] = []
    if len(drafts) < SUB_ORDERS_MIN:
        problems.append(("subOrders", f"must be at least {SUB_ORDERS_MIN}"))
    if len(set(organisations)) < len(organisations):
        problems.append(("subOrders", "must be for different organisations"))
    if lead not in organisations:
        problems.append(("lead", "must have a sub-order"))
    if event.shares + len(drafts) > SUB_ORDERS_MAX:
        problems.append(("subOrders", f"an event has at most {SUB_ORDERS_MAX} in all"))
    if problems:
        raise Invalid.many(problems)
