"""The wire's words for requests, and back."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from libs.zones import Doubt
from quintet.common.v1.common_pb2 import Component as ComponentMessage
from quintet.common.v1.common_pb2 import Flag, LocalText
from quintet.common.v1.common_pb2 import Place as PlaceMessage
from quintet.delivery.v1 import delivery_pb2 as pb
from quintet.delivery.v1.facts_pb2 import FollowUpAnswered, RequestFiled, RequestRated, RequestReopened, RequestsClosed
from services.delivery.model import (
    Asked,
    Closed,
    Component,
    DeadlineChange,
    Deadlines,
    Draft,
    Place,
    Request,
    Status,
    Step,
)

_STATUS = {status: pb.RequestStatus.Value(f"REQUEST_STATUS_{status.name}") for status in Status}
_STATUS_OF = {value: status for status, value in _STATUS.items()}
_CHANNEL_PREFIX = "REQUEST_CHANNEL_"


def timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    made = Timestamp()
    made.FromDatetime(time)
    return made


def time_of(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)


def draft(request: pb.FileRequestRequest) -> Draft:
    """Return what somebody wants to file; the rules of its fields have been checked."""
    return Draft(
        type=request.type,
        description=request.description,
        place=_place(request.place) if request.HasField("place") else None,
        channel=pb.RequestChannel.Name(request.channel).removeprefix(_CHANNEL_PREFIX).lower(),
        contact=request.contact,
        reported_at=time_of(request.reported_at) if request.HasField("reported_at") else None,
        external_id=request.external_id,
        component=Component(request.component.type, request.component.code) if request.HasField("component") else None,
    )


def request_message(
    request: Request,
    *,
    personal: bool,
    steps: Iterable[Step] = (),
    deadlines: Deadlines | None = None,
    asked: Asked | None = None,
) -> pb.Request:
    """Return a request as somebody gets to see it; without `personal` nothing that says who filed it."""
    due = deadlines or Deadlines()
    return pb.Request(
        name=request.name,
        number=request.number,
        type=request.type,
        description=request.description,
        place=_place_message(request.place) if request.place is not None else None,
        zone=request.zone,
        channel=pb.RequestChannel.Value(_CHANNEL_PREFIX + request.channel.upper()),
        reporter=request.reporter if personal else "",
        contact=request.contact if personal else "",
        reported_at=timestamp(request.reported_at),
        filed_at=timestamp(request.filed_at),
        status=_STATUS[request.status],
        event=request.event,
        event_status=request.event_status,
        event_revision=request.event_revision,
        merged=request.merged,
        organisation=request.organisation,
        due_at=timestamp(request.due_at),
        answer=request.answer,
        rating=request.rating,
        rating_comment=request.rating_comment,
        flags=[Flag(code=flag.code, field=flag.field, reason=flag.reason) for flag in request.flags],
        updates=[_update(step) for step in steps],
        external_id=request.external_id,
        first_due_at=timestamp(due.first_due_at),
        suspended_until=timestamp(due.suspended_until),
        reopen_until=timestamp(due.reopen_until),
        follow_up_asked_at=timestamp(asked.asked_at if asked else None),
        deadline_changes=[_change(change) for change in due.changes],
        component=_component_message(request.component),
    )


def filed(request: Request) -> RequestFiled:
    """Return the fact. How to reach the reporter is nobody's business but delivery's, so it does not go on the bus."""
    return RequestFiled(request=request_message(replace(request, contact=""), personal=True))


def rated(request: Request) -> RequestRated:
    return RequestRated(
        request=request.name, event=request.event, rating=request.rating, organisation=request.organisation
    )


def reopened(request: Request, reason: str, now: datetime) -> RequestReopened:
    return RequestReopened(request=request.name, event=request.event, reason=reason, asked_at=timestamp(now))


def closed(found: Closed, event: str, revision: int, zone: str, now: datetime) -> RequestsClosed:
    return RequestsClosed(
        event=event,
        event_revision=revision,
        organisation=found.organisation,
        type=found.type,
        zone=zone,
        requests=found.requests,
        closed_at=timestamp(now),
    )


def answered(asked: Asked, request: pb.AnswerFollowUpRequest, now: datetime) -> FollowUpAnswered:
    return FollowUpAnswered(
        follow_up=asked.follow_up,
        request=request.name,
        solved=request.solved,
        satisfaction=request.satisfaction,
        comment=request.comment,
        answered_at=timestamp(now),
    )


def status_filter(value: pb.RequestStatus.ValueType) -> Status | None:
    return _STATUS_OF.get(value)


def doubts(flags: Iterable[Doubt]) -> list[str]:
    """Return the codes of flags, for the audit: the reasons may quote what a reporter said."""
    return [flag.code for flag in flags]


def _update(step: Step) -> pb.RequestUpdate:
    return pb.RequestUpdate(
        status=_STATUS[step.status],
        event_status=step.event_status,
        time=timestamp(step.time),
        organisation=step.organisation,
        note=step.note,
        reason=LocalText(zh=step.reason_zh, en=step.reason_en) if step.reason_en else None,
    )


def _change(change: DeadlineChange) -> pb.DeadlineChange:
    return pb.DeadlineChange(
        time=timestamp(change.time),
        due_before=timestamp(change.due_before),
        due_after=timestamp(change.due_after),
        reason=LocalText(zh=change.reason_zh, en=change.reason_en),
    )


def _place(message: PlaceMessage) -> Place:
    point = message.point if message.HasField("point") else None
    return Place(
        address=message.address,
        latitude=point.latitude if point is not None else None,
        longitude=point.longitude if point is not None else None,
        zone_hint=message.zone_hint,
        neighbourhood=message.neighbourhood,
    )


def _component_message(component: Component | None) -> ComponentMessage | None:
    return ComponentMessage(type=component.type, code=component.code) if component else None


def _place_message(place: Place) -> PlaceMessage:
    message = PlaceMessage(address=place.address, zone_hint=place.zone_hint, neighbourhood=place.neighbourhood)
    if place.latitude is not None and place.longitude is not None:
        message.point.latitude = place.latitude
        message.point.longitude = place.longitude
    return message
