"""The closed loop as a state machine that is data: which action leads where, and what it needs and does besides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from libs.errors import Invalid, Reason, WrongState
from services.management.model import Doubt, Event, Flag, Step, flagged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOOP_DEFAULT = "loops/seven-step"
# Clocks of callers may run this far ahead of ours; beyond it a time lies in the future.
CLOCK_AHEAD_MAX_S = 5
EVIDENCE_PER_STEP_MAX = 20


@dataclass(frozen=True, slots=True)
class Action:
    """One declared transition.

    needs_reason: the actor says why. needs_organisation: the event must have an organisation afterwards, given with the
    action, had before, or suggested by routing. needs_sub_orders_done: no share of a joint disposal may be open.
    sets_answer: the reporters are told something. releases_organisation: nobody handles it afterwards.
    counts_return: it was sent back. voids, reopens: what an approved request to do so takes. on_request_only: nobody
    takes it without one. exception: not the next step of the ordinary way, so nobody's work list holds an event for its
    sake. needs_evidence, needs_photos: how many pieces of evidence the step must show, and how many of them photos.
    """

    action: str
    title_zh: str
    title_en: str
    sources: tuple[str, ...]
    target: str
    permission: str
    needs_reason: bool = False
    needs_organisation: bool = False
    needs_sub_orders_done: bool = False
    sets_answer: bool = False
    releases_organisation: bool = False
    counts_return: bool = False
    voids: bool = False
    reopens: bool = False
    on_request_only: bool = False
    exception: bool = False
    needs_evidence: int = 0
    needs_photos: int = 0


@dataclass(frozen=True)
class Loop:
    """A state machine for events. In `open_states` an event takes further reports, in `joint_states` sub-orders.

    `routes_at_once`: the organisation that routing suggests has a new event at once, without a step that gives it to
    them. `version` is 0 for a loop that is not stored yet.
    """

    name: str
    title_zh: str
    title_en: str
    initial: str
    states: tuple[str, ...]
    open_states: tuple[str, ...]
    joint_states: tuple[str, ...]
    actions: tuple[Action, ...]
    routes_at_once: bool = False
    version: int = 0

    @cached_property
    def by_name(self) -> Mapping[str, Action]:
        return {action.action: action for action in self.actions}

    def voiding(self, status: str) -> Action | None:
        """Return the action that a request to void takes in a state."""
        return next((action for action in self.actions if action.voids and status in action.sources), None)

    def reopening(self, status: str) -> Action | None:
        """Return the action that a reopening takes in a state."""
        return next((action for action in self.actions if action.reopens and status in action.sources), None)

    def allowed(self, status: str) -> tuple[str, ...]:
        """Return the actions declared for a state, in the order of the loop."""
        return tuple(
            action.action for action in self.actions if status in action.sources and not action.on_request_only
        )

    def next_permissions(self, status: str) -> frozenset[str]:
        """Return the permissions of the ordinary next steps in a state: whose work an event in it is."""
        allowed = (self.by_name[action] for action in self.allowed(status))
        return frozenset(action.permission for action in allowed if not action.exception)


@dataclass(frozen=True, slots=True)
class Command:
    """What an actor asks for. `occurred_at` None means `now`. `on_request` takes what a request was approved for.

    `evidence` is what the step shows; whether it is enough and may be shown is checked by model_evidence.
    """

    action: str
    actor: str
    now: datetime
    reason: str = ""
    organisation: str = ""
    answer: str = ""
    occurred_at: datetime | None = None
    on_request: bool = False
    evidence: tuple[str, ...] = ()


def advance(loop: Loop, event: Event, command: Command) -> tuple[Event, Step]:
    """Return the event after one action, and the step for its history.

    Raises WrongState for what the loop does not declare in the present state, with the actions that it does, and while
    sub-orders are open; Invalid for what the action needs and was not given, or was given and does not take.
    """
    action = loop.by_name.get(command.action)
    if action is None or event.status not in action.sources or (action.on_request_only and not command.on_request):
        raise not_allowed(loop, event, command.action)
    check_not_suspended(event, command.now)
    if action.needs_sub_orders_done and event.shares_open:
        text = f"{event.shares_open} sub-orders of {event.name} are not done"
        raise WrongState(Reason.SUB_ORDER_OPEN, text, name=event.name, open=str(event.shares_open))
    _check(action, command)
    occurred_at = said_time(command.occurred_at, command.now)
    flags = event.flags
    if occurred_at < event.step_at:
        flags = flagged(flags, time_reversed(action.action))
    organisation = _organisation(action, event, command)
    after = replace(
        event,
        status=action.target,
        organisation=organisation,
        answer=(command.answer or command.reason or event.answer) if action.sets_answer else event.answer,
        closed_at=None if action.target in loop.open_states else event.closed_at or occurred_at,
        step_at=occurred_at,
        revision=event.revision + 1,
        flags=flags,
        returns=event.returns + action.counts_return,
        deadlines=replace(event.deadlines, reopens=event.deadlines.reopens + action.reopens),
    )
    after = passed_on(event, after, same_role=not _is_handed_over(loop, event.status, after.status))
    return after, Step(
        revision=after.revision,
        action=action.action,
        from_status=event.status,
        to_status=after.status,
        actor=command.actor,
        organisation=organisation,
        occurred_at=occurred_at,
        recorded_at=command.now,
        reason=command.reason,
        evidence=command.evidence,
    )


def passed_on(before: Event, after: Event, *, same_role: bool = True) -> Event:
    """Return the event without its assignee where it is not theirs any more.

    That is when another organisation gets it, when it is closed, and when the next step is another role's.
    """
    stays = same_role and after.is_open and after.organisation == before.organisation
    return after if stays or not after.assignee else replace(after, assignee="", assigned_as="")


def _is_handed_over(loop: Loop, before: str, after: str) -> bool:
    return loop.next_permissions(before).isdisjoint(loop.next_permissions(after))


def voided_states(loops: Iterable[Loop]) -> tuple[str, ...]:
    """Return the states in which events of these loops are voided."""
    return tuple(dict.fromkeys(action.target for loop in loops for action in loop.actions if action.voids))


def time_reversed(action: str) -> Flag:
    """Return the doubt about a step that is said to have happened before the one before it."""
    return Flag(Doubt.TIME_REVERSED, "occurredAt", f"{action} is said to have happened before the step before it")


def said_time(said: datetime | None, now: datetime) -> datetime:
    """Return when something happened by somebody's word; `now` when not said. Raises Invalid for the future."""
    if said is None:
        return now
    if said > now + timedelta(seconds=CLOCK_AHEAD_MAX_S):
        raise Invalid("occurredAt", "must not lie in the future")
    return min(said, now)


def check_not_suspended(event: Event, now: datetime) -> None:
    """Raise WrongState while an event is suspended, naming the entry of the ledger and when it ends."""
    until = event.deadlines.suspended_until
    if until is None or now >= until:
        return
    suspension = event.clocks.suspension
    text = f"{event.name} is suspended until {until.isoformat(timespec='minutes')}: {suspension}"
    raise WrongState(Reason.EVENT_SUSPENDED, text, name=event.name, suspension=suspension, until=until.isoformat())


def not_allowed(loop: Loop, event: Event, action: str) -> WrongState:
    """Return what is said when an action is not declared in the present state."""
    allowed = ", ".join(loop.allowed(event.status)) or "nothing"
    text = f"{action} is not possible while {event.name} is {event.status}; possible: {allowed}"
    return WrongState(Reason.WRONG_STATE, text, name=event.name, status=event.status, allowed=allowed)


def _check(action: Action, command: Command) -> None:
    problems: list[tuple[str, str]] = []
    if action.needs_reason and not command.reason.strip():
        problems.append(("reason", f"is required for {action.action}"))
    if command.organisation and not action.needs_organisation:
        problems.append(("organisation", f"is not taken by {action.action}"))
    if command.answer and not action.sets_answer:
        problems.append(("answer", f"is not taken by {action.action}"))
    if problems:
        raise Invalid.many(problems)


def _organisation(action: Action, event: Event, command: Command) -> str:
    if action.releases_organisation:
        return ""
    if not action.needs_organisation:
        return event.organisation
    organisation = command.organisation or event.organisation or event.suggestion
    if not organisation:
        raise Invalid("organisation", f"is required for {action.action}: routing suggests none")
    return organisation
