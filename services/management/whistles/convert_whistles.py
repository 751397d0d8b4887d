"""Whistles as protos, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from quintet.management.v1 import facts_pb2
from quintet.management.v1 import whistles_pb2 as pb
from services.management.convert import place_of, place_pb, time_of, time_pb
from services.management.whistles.model import Arrival, Rating, Summons, Whistle

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from quintet.common.v1 import common_pb2

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def whistle_pb(whistle: Whistle, now: datetime) -> pb.Whistle:
    """Return a whistle as it is at a moment."""
    finished = whistle.finished_at is not None
    return pb.Whistle(
        name=whistle.name,
        zone=whistle.zone,
        node=whistle.node,
        event=whistle.event,
        place=place_pb(whistle.place),
        radius_m=whistle.radius_m,
        instruction=whistle.instruction,
        summons=[summons_pb(each, whistle, now) for each in whistle.summons],
        state=pb.WHISTLE_STATE_FINISHED if finished else pb.WHISTLE_STATE_BLOWN,
        blown_by=whistle.blown_by,
        blown_at=time_pb(whistle.blown_at),
        report_by=time_pb(whistle.report_by),
        remind_at=time_pb(whistle.remind_at),
        finished_by=whistle.finished_by,
        finished_at=time_pb(whistle.finished_at),
        outcome=whistle.outcome,
        version=whistle.version,
    )


def summons_pb(summons: Summons, whistle: Whistle, now: datetime) -> pb.Summons:
    found = pb.Summons(
        organisation=summons.organisation,
        state=_state(summons, whistle, now),
        distance_m=round(summons.distance_m, 1),
        late_min=summons.late_min,
        reminded_at=time_pb(summons.reminded_at),
        escalated_at=time_pb(summons.escalated_at),
    )
    if summons.arrival is not None:
        arrival = summons.arrival
        found.reported_at.CopyFrom(time_pb(arrival.at) or found.reported_at)
        found.reported_by, found.note = arrival.by, arrival.note
        if arrival.latitude is not None and arrival.longitude is not None:
            found.position.latitude, found.position.longitude = arrival.latitude, arrival.longitude
    if summons.rating is not None:
        rating = summons.rating
        found.score, found.solved, found.rating_note, found.rated_by = (
            rating.score,
            rating.solved,
            rating.note,
            rating.by,
        )
        found.rated_at.CopyFrom(time_pb(rating.at) or found.rated_at)
    return found


def _state(summons: Summons, whistle: Whistle, now: datetime) -> pb.SummonsState.ValueType:
    if summons.arrival is not None:
        return pb.SUMMONS_STATE_ON_SITE
    if whistle.finished_at is not None:
        return pb.SUMMONS_STATE_ABSENT
    return pb.SUMMONS_STATE_OVERDUE if whistle.report_by <= now else pb.SUMMONS_STATE_CALLED


def whistle_of(whistle: pb.Whistle) -> Whistle:
    """Read another node's whistle; what the charter masks is empty."""
    return Whistle(
        name=whistle.name,
        zone=whistle.zone,
        node=whistle.node,
        event=whistle.event,
        place=place_of(whistle.place),
        radius_m=whistle.radius_m,
        instruction=whistle.instruction,
        summons=tuple(_summons_of(each) for each in whistle.summons),
        blown_by=whistle.blown_by,
        blown_at=time_of(whistle, "blown_at") or _NEVER,
        report_by=time_of(whistle, "report_by") or _NEVER,
        remind_at=time_of(whistle, "remind_at") or _NEVER,
        finished_by=whistle.finished_by,
        finished_at=time_of(whistle, "finished_at"),
        outcome=whistle.outcome,
        version=whistle.version,
    )


def _summons_of(summons: pb.Summons) -> Summons:
    arrival = rating = None
    if summons.HasField("reported_at"):
        latitude, longitude = point_of(summons, "position")
        at = time_of(summons, "reported_at") or _NEVER
        arrival = Arrival(summons.organisation, summons.reported_by, at, latitude, longitude, summons.note)
    if summons.score:
        at = time_of(summons, "rated_at") or _NEVER
        rating = Rating(summons.score, summons.solved, summons.rating_note, summons.rated_by, at)
    return Summons(
        organisation=summons.organisation,
        arrival=arrival,
        distance_m=summons.distance_m,
        late_min=summons.late_min,
        reminded_at=time_of(summons, "reminded_at"),
        escalated_at=time_of(summons, "escalated_at"),
        rating=rating,
    )


def point_of(message: Message, field: str) -> tuple[float | None, float | None]:
    """Return the degrees of a point, or twice None when it is not known."""
    point: common_pb2.Point = getattr(message, field)
    if not message.HasField(field) or (point.latitude, point.longitude) == (0.0, 0.0):
        return None, None
    return point.latitude, point.longitude


def arrival_pb(whistle: Whistle, arrival: Arrival) -> facts_pb2.WhistleReportedIn:
    """Return what the node of the organisation says of an arrival."""
    found = facts_pb2.WhistleReportedIn(
        whistle=whistle.name,
        organisation=arrival.organisation,
        reported_by=arrival.by,
        reported_at=time_pb(arrival.at),
        note=arrival.note,
    )
    if arrival.latitude is not None and arrival.longitude is not None:
        found.position.latitude, found.position.longitude = arrival.latitude, arrival.longitude
    return found
