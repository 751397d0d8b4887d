"""Who has an event: taken, given, handed on, put back. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from libs.errors import Forbidden, Reason, WrongState
from services.management.model import Event, Explanation, Step, StepAction, step_between
from services.management.worklists.model import ADVANCE

if TYPE_CHECKING:
    from datetime import datetime

    from libs.access import Grants
    from services.management.model_loop import Loop

READ = "management.events.read"


def may_act(loop: Loop, event: Event, grants: Grants) -> bool:
    """Tell whether somebody may take an ordinary next step of an event."""
    return grants.allows(ADVANCE, event.zone, event.organisation) and any(
        grants.allows(permission, event.zone, event.organisation) for permission in loop.next_permissions(event.status)
    )


def check_entitled(loop: Loop, event: Event, grants: Grants) -> None:
    """Raise Forbidden unless the event may be given to somebody.

    They must be able to take its next step, or be of the organisation that handles it and see it.
    """
    colleague = event.organisation in grants.organisations and grants.allows(READ, event.zone, event.handlers)
    if not (grants.active and (colleague or may_act(loop, event, grants))):
        text = f"{grants.subject} can neither take the next step of {event.name} nor is of its organisation"
        raise Forbidden(Reason.ASSIGNEE_NOT_ENTITLED, text, name=event.name, assignee=grants.subject)


def check_open(event: Event) -> None:
    """Raise WrongState for an event that is closed: nobody has to do anything."""
    if not event.is_open:
        text = f"{event.name} is {event.status}: only open events are work"
        raise WrongState(Reason.WRONG_STATE, text, name=event.name, status=event.status)


def check_holder(event: Event, holder: str) -> None:
    """Raise WrongState unless a person has the event; for "" unless anybody has."""
    if not event.assignee or (holder and event.assignee != holder):
        text = f"{event.name} is not with {holder or 'anybody'}"
        raise WrongState(Reason.NOT_ASSIGNED, text, name=event.name, assignee=event.assignee)


def give(
    event: Event, action: StepAction, grants: Grants, *, actor: str, now: datetime, reason: str = ""
) -> tuple[Event, Step]:
    """Return the event in the hands of a person, as a member of its organisation or else of their own."""
    own = grants.organisations
    as_member = event.organisation if event.organisation in own else min(own, default="")
    return _changed(event, action, grants.subject, as_member, actor=actor, now=now, reason=reason)


def put_back(
    event: Event, *, actor: str, now: datetime, reason: str = "", explanation: Explanation | None = None
) -> tuple[Event, Step]:
    """Return the event in nobody's hands. `explanation` says why when software decided."""
    after, step = _changed(event, StepAction.RELEASE, "", "", actor=actor, now=now, reason=reason)
    return after, replace(step, explanation=explanation)


def _changed(
    event: Event, action: StepAction, assignee: str, assigned_as: str, *, actor: str, now: datetime, reason: str
) -> tuple[Event, Step]:
    after = replace(event, assignee=assignee, assigned_as=assigned_as, revision=event.revision + 1)
    step = step_between(event, after, action, actor=actor, now=now, reason=reason)
    return after, replace(step, assignee=assignee)
