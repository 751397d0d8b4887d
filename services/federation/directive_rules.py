"""The rules of directives: what follows what, what another node may say of one, and what is due when. No I/O.

Both ends keep their own record and change it at their own time, so two records are merged by rank: whatever order the
news comes in, and however often, both end up the same. What was answered stays answered: it was done.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from libs.errors import Forbidden, Invalid, Reason, WrongState
from quintet.federation.v1 import directive_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

SENT = pb.DIRECTIVE_STATE_SENT
DELIVERED = pb.DIRECTIVE_STATE_DELIVERED
ACKNOWLEDGED = pb.DIRECTIVE_STATE_ACKNOWLEDGED
ANSWERED = pb.DIRECTIVE_STATE_ANSWERED
EXPIRED = pb.DIRECTIVE_STATE_EXPIRED
CANCELLED = pb.DIRECTIVE_STATE_CANCELLED

OPEN = frozenset({SENT, DELIVERED, ACKNOWLEDGED})
UNACKNOWLEDGED = frozenset({SENT, DELIVERED})
# Escalated and not settled: what an alarm is for, until it is answered or taken back.
UNSETTLED = frozenset({SENT, DELIVERED, EXPIRED})

DAYS_MAX = 366
# How often the missing acknowledgement of one directive is escalated before it expires, and after which time again.
ESCALATIONS_MAX = 3
ESCALATE_AGAIN_S = 3600
NOT_ACKNOWLEDGED = "NOT_ACKNOWLEDGED"
NOT_ANSWERED = "NOT_ANSWERED"

_RANK = {SENT: 0, DELIVERED: 1, ACKNOWLEDGED: 2, EXPIRED: 3, CANCELLED: 4, ANSWERED: 5}
# What the one who gives it says of it; all else is for the nodes to say.
_GIVEN = ("zone", "organisation", "title", "text", "subject", "acknowledge_by", "expires_at", "escalate_to")
_STAMPED = ("name", "from_node", "issued_by", "issued_at")
_BY_RECEIVER = (("acknowledged_by", "acknowledged_at"), ("answered_by", "answered_at"))


def issued(asked: pb.Directive, *, name: str, node: str, person: str, now: datetime) -> pb.Directive:
    """Return a new directive of this node. Raises Invalid for times that cannot be kept."""
    made = _taken(asked, _GIVEN)
    wrong: list[tuple[str, str]] = []
    if not made.HasField("expires_at"):
        wrong.append(("directive.expiresAt", "is required"))
    elif not now < time_of(made.expires_at) <= now + timedelta(days=DAYS_MAX):
        wrong.append(("directive.expiresAt", f"must be in the future, at most {DAYS_MAX} days ahead"))
    if made.HasField("acknowledge_by") and not now < time_of(made.acknowledge_by) <= time_of(made.expires_at):
        wrong.append(("directive.acknowledgeBy", "must be in the future, and not after directive.expiresAt"))
    if wrong:
        raise Invalid.many(wrong)
    made.name, made.from_node, made.issued_by, made.state = name, node, person, SENT
    made.issued_at.FromDatetime(now)
    return made


def received(told: pb.Directive, *, node: str) -> pb.Directive:
    """Return the record of a directive that came from above, as sent on. Raises Invalid and Forbidden."""
    if told.from_node in {"", node}:
        raise Forbidden(Reason.NOT_PERMITTED, f"{told.name} was not given by a tier above", directive=told.name)
    if not (told.HasField("expires_at") and told.HasField("issued_at")):
        raise Invalid("directive.expiresAt", "is required")
    made = _taken(told, _GIVEN + _STAMPED)
    made.state = SENT
    if told.state == CANCELLED:
        made.state, made.reason = CANCELLED, told.reason
    return made


def delivered(directive: pb.Directive, *, node: str, now: datetime) -> pb.Directive:
    """Return it as it stands at the node that has to act: one that comes too late is shown, and nobody acts on it."""
    after = _copy(directive)
    after.to_node = node
    if after.state == SENT:
        after.state = DELIVERED if now < time_of(after.expires_at) else EXPIRED
    return after


def acknowledged(directive: pb.Directive, *, person: str, now: datetime) -> pb.Directive:
    """Return it as acknowledged; one that was acknowledged before unchanged. Raises WrongState when it is over."""
    _require_open(directive, now)
    if directive.state == ACKNOWLEDGED:
        return directive
    after = _copy(directive)
    after.state, after.acknowledged_by = ACKNOWLEDGED, person
    after.acknowledged_at.FromDatetime(now)
    return after


def answered(directive: pb.Directive, answer: str, *, person: str, now: datetime) -> pb.Directive:
    """Return it as answered, and with that acknowledged. Raises WrongState when it is over."""
    after = _copy(acknowledged(directive, person=person, now=now))
    after.state, after.answer, after.answered_by = ANSWERED, answer, person
    after.answered_at.FromDatetime(now)
    return after


def cancelled(directive: pb.Directive, reason: str) -> pb.Directive:
    """Return it as taken back, also one that has expired: that settles it. Raises WrongState when it is over."""
    if directive.state not in OPEN | {EXPIRED}:
        raise _over(directive)
    after = _copy(directive)
    after.state, after.reason = CANCELLED, reason
    return after


def told_from_above(kept: pb.Directive, told: pb.Directive) -> pb.Directive:
    """Return the record after news from above: a directive may be taken back, and is never changed."""
    if told.state != CANCELLED or _RANK[kept.state] >= _RANK[CANCELLED]:
        return kept
    after = _copy(kept)
    after.state, after.reason = CANCELLED, told.reason
    return after


def told_from_below(kept: pb.Directive, told: pb.Directive) -> pb.Directive:
    """Return the record after news from below: who took it up, what was answered, that it expired there.

    Raises Forbidden for a state that only a node above gives.
    """
    if told.state not in {DELIVERED, ACKNOWLEDGED, ANSWERED, EXPIRED}:
        raise Forbidden(Reason.NOT_PERMITTED, "only the node that gave a directive takes it back", directive=kept.name)
    after = _copy(kept)
    for by, at in _BY_RECEIVER:
        if getattr(told, by) and not getattr(kept, by):
            setattr(after, by, getattr(told, by))
            getattr(after, at).CopyFrom(getattr(told, at))
    if told.state == ANSWERED and kept.state != ANSWERED:
        after.answer = told.answer
    after.to_node = told.to_node or kept.to_node
    if _RANK[told.state] > _RANK[kept.state]:
        after.state = told.state
    return after


# --------------------------------------------------------------------------------------------------------- what is due


def look_at(directive: pb.Directive, *, escalates: bool) -> datetime | None:
    """Return when something is due if nobody does anything; None for a directive that is over.

    `escalates` is false at a node that only passes it on.
    """
    if directive.state not in OPEN:
        return None
    due = time_of(directive.expires_at)
    waits = directive.state in UNACKNOWLEDGED and directive.HasField("acknowledge_by")
    if escalates and waits and directive.escalations < ESCALATIONS_MAX:
        again = time_of(directive.escalated_at) + timedelta(seconds=ESCALATE_AGAIN_S)
        due = min(due, again if directive.escalations else time_of(directive.acknowledge_by))
    return due


def looked(directive: pb.Directive, now: datetime, *, escalates: bool) -> tuple[pb.Directive, str]:
    """Return the directive after what is due now, and the reason of its escalation, "" for none."""
    due = look_at(directive, escalates=escalates)
    if due is None or now < due:
        return directive, ""
    after = _copy(directive)
    expired = now >= time_of(directive.expires_at)
    if expired:
        after.state = EXPIRED
    if not escalates:
        return after, ""
    after.escalations += 1
    after.escalated_at.FromDatetime(now)
    return after, NOT_ANSWERED if expired else NOT_ACKNOWLEDGED


def time_of(stamp: Timestamp) -> datetime:
    """Return a time of a directive, UTC."""
    return stamp.ToDatetime(UTC)


def _require_open(directive: pb.Directive, now: datetime) -> None:
    if directive.state not in OPEN or now >= time_of(directive.expires_at):
        raise _over(directive)


def _over(directive: pb.Directive) -> WrongState:
    name = pb.DirectiveState.Name(directive.state)
    return WrongState(Reason.WRONG_STATE, f"{directive.name} is over", state=name, directive=directive.name)


def _taken(told: pb.Directive, fields: tuple[str, ...]) -> pb.Directive:
    made = pb.Directive()
    for name in fields:
        value = getattr(told, name)
        if isinstance(value, str):
            setattr(made, name, value)
        elif told.HasField(name):  # type: ignore[arg-type]  # a name of our own list
            getattr(made, name).CopyFrom(value)
    return made


def _copy(directive: pb.Directive) -> pb.Directive:
    made = pb.Directive()
    made.CopyFrom(directive)
    return made
