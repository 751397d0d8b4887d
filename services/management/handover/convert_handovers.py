"""Hand-overs as protos, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from quintet.management.v1 import handovers_pb2 as pb
from services.management.convert import explanation_of, explanation_pb, tier_pb, time_of, time_pb
from services.management.handover.model import LADDER, Handover, State

if TYPE_CHECKING:
    from collections.abc import Iterable

_STATES = {pb.HandoverState.Value(f"HANDOVER_STATE_{state.name}"): state for state in State}
_STATES_PB = {state: number for number, state in _STATES.items()}
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def state_of(state: int) -> State | None:
    """Return None for a state that this release does not know, and for none."""
    return _STATES.get(pb.HandoverState.ValueType(state))


def handover_pb(handover: Handover, now: datetime) -> pb.Handover:
    """Return a hand-over as it is at a moment."""
    before = handover.before
    return pb.Handover(
        name=handover.name,
        event=handover.event,
        title=handover.title,
        zone=handover.zone,
        node=handover.node,
        from_organisation=handover.from_organisation,
        to_organisation=handover.to_organisation,
        reason=handover.reason,
        boundary=handover.boundary,
        state=_STATES_PB[handover.state],
        offered_by=handover.offered_by,
        offered_at=time_pb(handover.offered_at),
        answer_due_at=time_pb(handover.answer_due_at),
        answered_by=handover.answered_by,
        answered_at=time_pb(handover.answered_at),
        answer=handover.answer,
        disputed_by=handover.disputed_by,
        disputed_at=time_pb(handover.disputed_at),
        dispute=handover.dispute,
        decide_due_at=time_pb(handover.decide_due_at),
        decide_role=before.role if before else "",
        decide_tier=tier_pb(before.tier) if before else pb.Handover().decide_tier,
        decided_by=handover.decided_by,
        decided_at=time_pb(handover.decided_at),
        decision=handover.decision,
        explanation=explanation_pb(handover.explanation),
        version=handover.version,
        revision=handover.revision,
        overdue=handover.is_overdue(now),
        to_node=handover.to_node,
    )


def handovers_pb(handovers: Iterable[Handover], now: datetime) -> list[pb.Handover]:
    return [handover_pb(handover, now) for handover in handovers]


def handover_of(handover: pb.Handover, *, state: State) -> Handover:
    """Read a hand-over of another node; what the charter masks is empty."""
    tiers = [(rung.role, tier_pb(rung.tier)) for rung in LADDER]
    before = (handover.decide_role, handover.decide_tier)
    return Handover(
        name=handover.name,
        event=handover.event,
        title=handover.title,
        zone=handover.zone,
        node=handover.node,
        from_organisation=handover.from_organisation,
        to_organisation=handover.to_organisation,
        reason=handover.reason,
        boundary=handover.boundary,
        state=state,
        offered_by=handover.offered_by,
        offered_at=time_of(handover, "offered_at") or _NEVER,
        answer_due_at=time_of(handover, "answer_due_at") or _NEVER,
        answered_by=handover.answered_by,
        answered_at=time_of(handover, "answered_at"),
        answer=handover.answer,
        disputed_by=handover.disputed_by,
        disputed_at=time_of(handover, "disputed_at"),
        dispute=handover.dispute,
        decide_due_at=time_of(handover, "decide_due_at"),
        rung=tiers.index(before) + 1 if before in tiers else 0,
        decided_by=handover.decided_by,
        decided_at=time_of(handover, "decided_at"),
        decision=handover.decision,
        explanation=explanation_of(handover.explanation) if handover.HasField("explanation") else None,
        version=handover.version,
        revision=handover.revision,
        to_node=handover.to_node,
    )
