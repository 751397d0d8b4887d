"""Entries of the ledger as protos, and back."""

from __future__ import annotations

from datetime import UTC, datetime

from quintet.management.v1 import exceptions_pb2 as pb
from services.management.convert import explanation_of, explanation_pb, time_of, time_pb
from services.management.deadlines.model_exceptions import Entry, Kind, State, Wanted

_KINDS = {pb.ExceptionKind.Value(f"EXCEPTION_KIND_{kind.name}"): kind for kind in Kind}
_STATES = {pb.ExceptionState.Value(f"EXCEPTION_STATE_{state.name}"): state for state in State}
_KINDS_PB = {kind: number for number, kind in _KINDS.items()}
_STATES_PB = {state: number for number, state in _STATES.items()}
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def kind_of(kind: int) -> Kind | None:
    """Return None for a kind that this release does not know, and for none."""
    return _KINDS.get(pb.ExceptionKind.ValueType(kind))


def state_of(state: int) -> State | None:
    """Return None for a state that this release does not know, and for none."""
    return _STATES.get(pb.ExceptionState.ValueType(state))


def wanted_of(request: pb.AskExceptionRequest) -> Wanted:
    """Read what somebody asks for; the rules of the fields have been checked."""
    return Wanted(
        kind=_KINDS[request.kind],
        reason=request.reason,
        minutes=request.minutes,
        until=time_of(request, "until"),
        role=request.role,
        decide_by=time_of(request, "decide_by"),
    )


def entry_pb(entry: Entry) -> pb.EventException:
    return pb.EventException(
        name=entry.name,
        event=entry.event,
        kind=_KINDS_PB[entry.kind],
        state=_STATES_PB[entry.state],
        reason=entry.reason,
        minutes=entry.minutes,
        until=time_pb(entry.until),
        role=entry.role,
        organisation=entry.organisation,
        asked_by=entry.asked_by,
        asked_at=time_pb(entry.asked_at),
        decide_by=time_pb(entry.decide_by),
        decided_by=entry.decided_by,
        decided_at=time_pb(entry.decided_at),
        note=entry.note,
        ended_at=time_pb(entry.ended_at),
        due_before=time_pb(entry.due_before),
        due_after=time_pb(entry.due_after),
        step_due_before=time_pb(entry.step_due_before),
        step_due_after=time_pb(entry.step_due_after),
        revision=entry.revision,
        explanation=explanation_pb(entry.explanation),
    )


def entry_of(entry: pb.EventException, *, zone: str, node: str, kind: Kind, state: State) -> Entry:
    """Read an entry of another node's ledger; what the charter masks is empty."""
    return Entry(
        name=entry.name,
        event=entry.event,
        zone=zone,
        node=node,
        kind=kind,
        state=state,
        reason=entry.reason,
        minutes=entry.minutes,
        until=time_of(entry, "until"),
        role=entry.role,
        organisation=entry.organisation,
        asked_by=entry.asked_by,
        asked_at=time_of(entry, "asked_at") or _NEVER,
        decide_by=time_of(entry, "decide_by"),
        decided_by=entry.decided_by,
        decided_at=time_of(entry, "decided_at"),
        note=entry.note,
        ended_at=time_of(entry, "ended_at"),
        due_before=time_of(entry, "due_before"),
        due_after=time_of(entry, "due_after"),
        step_due_before=time_of(entry, "step_due_before"),
        step_due_after=time_of(entry, "step_due_after"),
        revision=entry.revision,
        explanation=explanation_of(entry.explanation) if entry.HasField("explanation") else None,
    )
