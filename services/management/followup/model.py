"""Follow-up: who is drawn, and what becomes of a call. Pure. All times are aware and in UTC."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from libs.errors import Forbidden, Invalid, Reason, WrongState
from services.management.followup import texts
from services.management.model import Explanation
from services.management.warnings.model_indicator import Said

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

FOLLOW_UP_NAME = "zones/{zone}/followUps/{follow_up}"
# How much of the hash makes the number: as many bits as a double holds exactly.
DRAW_BITS = 53
_HASH_BITS = 64
_SHOWN_DIGITS = 6
# A call is made in the shift in which it was taken; what is left lying goes back to the others.
CLAIM_HOURS = 4
# What reporters said is kept for a year and the month in which it is looked back at; then only the counts stay.
KEPT_DAYS = 400
# A call that nobody has made so long after its time to call is over: by then the reporter remembers little, and a list
# that only grows hides the calls that can still be made.
MADE_WITHIN_DAYS = 30


class State(StrEnum):
    NOT_DRAWN = "not_drawn"
    OPEN = "open"
    SOLVED = "solved"
    NOT_SOLVED = "not_solved"
    NOT_REACHED = "not_reached"
    WITHDRAWN = "withdrawn"
    NOT_MADE = "not_made"


class Way(StrEnum):
    """How the reporter answered."""

    NONE = ""
    PERSON = "person"
    FORM = "form"


@dataclass(frozen=True, slots=True)
class Policy:
    """Whose reporters are asked. `types` and `zones` are empty for all; `share` is 0 to 1."""

    name: str
    title: Said
    types: tuple[str, ...]
    zones: tuple[str, ...]
    share: float
    tries: int
    retry_hours: int
    form: bool = False
    form_hours: int = 0
    retired: bool = False


@dataclass(frozen=True, slots=True)
class FollowUp:
    """One reporter to be asked, or left out by the draw. `node` is the one that asks."""

    name: str
    zone: str
    node: str
    request: str
    event: str
    event_revision: int
    organisation: str
    type: str
    policy: str
    period: str
    draw: float
    explanation: Explanation | None
    state: State
    asked_at: datetime
    call_at: datetime
    tries: int = 0
    caller: str = ""
    claim_ends_at: datetime | None = None
    satisfaction: int = 0
    note: str = ""
    way: Way = Way.NONE
    finished_at: datetime | None = None
    finished_by: str = ""
    reopened: bool = False


@dataclass(frozen=True, slots=True)
class Closed:
    """An event that was closed with an answer, for requests that were filed at this node."""

    event: str
    revision: int
    organisation: str
    type: str
    zone: str


@dataclass(frozen=True, slots=True)
class Draw:
    """What a draw goes by: the policy, the node that draws, the month and its seed."""

    policy: Policy
    node: str
    period: str
    seed: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reporter said, or that nobody was reached. `by` is the person who recorded it, "" for the form."""

    state: State
    satisfaction: int
    note: str
    way: Way
    by: str = ""


# ------------------------------------------------------------------------------------------------------------ the draw


def number(seed: str, request: str) -> float:
    """Return the number of a request in a draw, from 0 to below 1.

    The first 53 bits of SHA-256 over the seed, "/" and the request's name, as a fraction of 2^53: uniform, and the same
    for anybody who computes it.
    """
    digest = hashlib.sha256(f"{seed}/{request}".encode()).digest()
    first = int.from_bytes(digest[: _HASH_BITS // 8])
    return float((first >> (_HASH_BITS - DRAW_BITS)) / 2**DRAW_BITS)


def commitment(seed: str) -> str:
    """Return what is published of a seed before it may be known: SHA-256 in hex."""
    return hashlib.sha256(seed.encode()).hexdigest()


def fitting(
    policies: Iterable[Policy],
    type_name: str,
    zone: str,
    covers: Callable[[str, str], bool],
    depth: Callable[[str], int],
) -> Policy | None:
    """Return the policy for a type and zone. One that names the type goes first, then the deepest zone, then the name.

    `covers` tells whether one zone contains another, `depth` how deep a zone lies.
    """
    found: list[tuple[tuple[bool, int, str], Policy]] = []
    for policy in policies:
        if policy.retired or (policy.types and type_name not in policy.types):
            continue
        above = [depth(each) for each in policy.zones if covers(each, zone)]
        if policy.zones and not above:
            continue
        found.append(((not policy.types, -max(above, default=-1), policy.name), policy))
    return min(found, key=lambda each: each[0])[1] if found else None


def drawn(
    draw: Draw, closed: Closed, requests: Iterable[tuple[str, str]], *, again: Collection[str], now: datetime
) -> list[FollowUp]:
    """Return the follow-ups of an event's requests, those that the draw leaves out among them.

    `requests` are (name of the follow-up, request). Who called it not solved before, one of `again`, is always asked.
    """
    return [_drawn(draw, closed, name, request, again=request in again, now=now) for name, request in requests]


def _drawn(draw: Draw, closed: Closed, name: str, request: str, *, again: bool, now: datetime) -> FollowUp:
    policy, own = draw.policy, number(draw.seed, request)
    text = texts.AGAIN if again else texts.DRAWN if own < policy.share else texts.NOT_DRAWN
    inputs = {
        "period": draw.period,
        "number": f"{own:.{_SHOWN_DIGITS}f}",
        "share": f"{policy.share:g}",
        "commitment": commitment(draw.seed),
    }
    zh, en = text.fill(**inputs)
    return FollowUp(
        name=name,
        zone=closed.zone,
        node=draw.node,
        request=request,
        event=closed.event,
        event_revision=closed.revision,
        organisation=closed.organisation,
        type=closed.type,
        policy=policy.name,
        period=draw.period,
        draw=own,
        explanation=Explanation(policy.name, zh, en, inputs),
        state=State.OPEN if again or own < policy.share else State.NOT_DRAWN,
        asked_at=now,
        call_at=now + timedelta(hours=policy.form_hours if policy.form else 0),
    )


# ----------------------------------------------------------------------------------------------------------- the calls


def present(found: FollowUp, now: datetime) -> FollowUp:
    """Return a follow-up as it is now: in nobody's hands when the claim has lapsed."""
    if found.claim_ends_at is not None and found.claim_ends_at <= now:
        return replace(found, caller="", claim_ends_at=None)
    return found


def claimed(found: FollowUp, *, subject: str, organisations: Collection[str], now: datetime) -> FollowUp:
    """Return a call in somebody's hands, for CLAIM_HOURS from now.

    Raises WrongState when it is over or somebody else has it, Forbidden for who is of the organisation that it is
    about.
    """
    check_open(found)
    _check_caller(present(found, now), subject, organisations)
    return replace(found, caller=subject, claim_ends_at=now + timedelta(hours=CLAIM_HOURS))


def released(found: FollowUp, now: datetime) -> FollowUp:
    """Return a call in nobody's hands. Raises WrongState when it is over or nobody has it."""
    check_open(found)
    found = present(found, now)
    if not found.caller:
        raise WrongState(Reason.NOT_ASSIGNED, f"{found.name} is with nobody", name=found.name)
    return replace(found, caller="", claim_ends_at=None)


def recorded(
    found: FollowUp, answer: Answer, policy: Policy, *, organisations: Collection[str], now: datetime
) -> FollowUp:
    """Return a call after what came of it. Not reached, it is open again until the tries are used up.

    Whoever calls may say so, also without a claim or after it has lapsed, as long as nobody else has one. Raises like
    `claimed`, and Invalid for what the outcome needs and was not given, or was given and does not take.
    """
    check_open(found)
    if answer.way is Way.PERSON:
        _check_caller(present(found, now), answer.by, organisations)
    check_answer(answer)
    if answer.state is State.NOT_REACHED:
        after = replace(found, tries=found.tries + 1, caller="", claim_ends_at=None, note=answer.note or found.note)
        if after.tries < policy.tries:
            return replace(after, call_at=now + timedelta(hours=policy.retry_hours))
        return replace(after, state=State.NOT_REACHED, finished_at=now, finished_by=answer.by)
    return replace(
        found,
        state=answer.state,
        satisfaction=answer.satisfaction,
        note=answer.note,
        way=answer.way,
        caller="",
        claim_ends_at=None,
        finished_at=now,
        finished_by=answer.by,
    )


def not_made(found: FollowUp, now: datetime) -> FollowUp:
    """Return a call as over that nobody has made; it says nothing of how satisfied its reporter is."""
    return replace(found, state=State.NOT_MADE, caller="", claim_ends_at=None, finished_at=now)


def check_answer(answer: Answer) -> None:
    """Raise Invalid for an answer that cannot be."""
    problems: list[tuple[str, str]] = []
    if answer.state is State.NOT_SOLVED and not answer.note.strip():
        problems.append(("note", "is required when it is not solved: the handler must know what is left to do"))
    if answer.state is State.NOT_REACHED and answer.satisfaction:
        problems.append(("satisfaction", "is not said by somebody who was not reached"))
    if problems:
        raise Invalid.many(problems)


def check_open(found: FollowUp) -> None:
    """Raise WrongState for a follow-up that is over, or was never to be asked."""
    if found.state is not State.OPEN:
        raise WrongState(Reason.WRONG_STATE, f"{found.name} is {found.state}", name=found.name, state=found.state)


def _check_caller(found: FollowUp, subject: str, organisations: Collection[str]) -> None:
    if found.organisation and found.organisation in organisations:
        text = f"{subject} is of {found.organisation}, which handled {found.event}"
        raise Forbidden(Reason.OWN_WORK, text, name=found.name, organisation=found.organisation)
    if found.caller not in {"", subject}:
        until = found.claim_ends_at.isoformat() if found.claim_ends_at else ""
        text = f"{found.name} is with {found.caller}"
        raise WrongState(Reason.ALREADY_ASSIGNED, text, name=found.name, assignee=found.caller, until=until)


def months(first: str, last: str) -> int:
    """Return how many months there are from one to another, both counted; "2026-01" is a month."""
    (year, month), (last_year, last_month) = (map(int, each.split("-")) for each in (first, last))
    return (last_year - year) * 12 + last_month - month + 1
