"""Askings, clocks and moved events as protos, and back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from quintet.common.v1 import common_pb2
from quintet.management.v1 import tiers_pb2 as pb
from services.management import convert
from services.management.convert import time_of, time_pb
from services.management.deadlines.model_time import Span
from services.management.model import Clocks, Event
from services.management.tiers.model import State, TakeOver

if TYPE_CHECKING:
    from quintet.management.v1 import facts_pb2

_STATES = {pb.TakeOverState.Value(f"TAKE_OVER_STATE_{state.name}"): state for state in State}
_STATES_PB = {state: number for number, state in _STATES.items()}
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def state_of(state: int) -> State | None:
    """Return None for a state that this release does not know, and for none."""
    return _STATES.get(pb.TakeOverState.ValueType(state))


def take_over_pb(asked: TakeOver, now: datetime) -> pb.TakeOver:
    """Return an asking as it is at a moment."""
    found = pb.TakeOver(
        name=asked.name,
        event=asked.event,
        title=asked.title,
        zone=asked.zone,
        from_node=asked.from_node,
        to_node=asked.to_node,
        organisation=asked.organisation,
        reason=asked.reason,
        state=_STATES_PB[asked.state_at(now)],
        asked_by=asked.asked_by,
        asked_at=time_pb(asked.asked_at),
        expires_at=time_pb(asked.expires_at),
        answered_at=time_pb(asked.answered_at),
        refusal=asked.refusal,
        revision=asked.revision,
    )
    if asked.refusal:
        found.refusal_text.CopyFrom(common_pb2.LocalText(zh=asked.refusal_zh, en=asked.refusal_en))
    return found


def asked_of(told: pb.TakeOver) -> TakeOver:
    """Read an asking as it was made."""
    return TakeOver(
        name=told.name,
        event=told.event,
        title=told.title,
        zone=told.zone,
        from_node=told.from_node,
        to_node=told.to_node,
        organisation=told.organisation,
        reason=told.reason,
        asked_by=told.asked_by,
        asked_at=time_of(told, "asked_at") or _NEVER,
        expires_at=time_of(told, "expires_at") or _NEVER,
    )


def clocks_pb(clocks: Clocks) -> pb.EventClocks:
    return pb.EventClocks(
        step_since=time_pb(clocks.step_since),
        pauses=[pb.ClockPause(start=time_pb(span.start), end=time_pb(span.end)) for span in clocks.pauses],
        extended_min=clocks.extended_min,
        step_extended_min=clocks.step_extended_min,
        suspension=clocks.suspension,
        promised_min=clocks.promised_min,
        signalled=clocks.signalled,
    )


def clocks_of(clocks: pb.EventClocks) -> Clocks:
    """Read the clocks of another node's event. By which calendars they counted is that node's affair."""
    spans = [(time_of(pause, "start"), time_of(pause, "end")) for pause in clocks.pauses]
    return Clocks(
        step_since=time_of(clocks, "step_since"),
        pauses=tuple(Span(start, end) for start, end in spans if start is not None and end is not None),
        extended_min=clocks.extended_min,
        step_extended_min=clocks.step_extended_min,
        suspension=clocks.suspension,
        promised_min=clocks.promised_min,
        signalled=tuple(clocks.signalled),
    )


def completed(mirrored: Event, message: facts_pb2.EventMoved) -> Event:
    """Return an event that moved here, with all that its old home says of it.

    Its row and its reports are those under which it is known here already.
    """
    event = message.event
    shares = event.sub_orders
    return replace(
        mirrored,
        type=event.type,
        title=event.title,
        description=event.description,
        place=convert.place_of(event.place),
        suggestion=message.suggestion,
        supporters=tuple(sorted({share.organisation for share in shares})),
        routing=convert.explanation_of(event.routing) if event.HasField("routing") else None,
        occurred_at=time_of(event, "occurred_at") or mirrored.occurred_at,
        step_at=time_of(message, "step_at") or mirrored.step_at,
        deadlines=convert.deadlines_of(event),
        clocks=clocks_of(message.clocks),
        warning=event.warning,
        flags=convert.flags_of(event.flags),
        returns=event.returns,
        answer=event.answer,
        split_from=event.split_from,
        partial=False,
    )
