"""Requests and facts for the tests of delivery."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from libs.access import Visibility
from libs.ids import new_id
from quintet.fact.v1.fact_pb2 import Fact
from quintet.management.v1.facts_pb2 import EventAdvanced, EventOpened, ReportMerged
from quintet.management.v1.management_pb2 import Event, EventStep
from services.delivery.model import Place, Request

MIGRATIONS = Path(__file__).parents[1] / "migrations"
START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
RESIDENT = "people/resident.01"
EVENT = "zones/us-ca-sf-d10/events/e1"
PUBLIC_WORKS = "organisations/public-works"
EVERYTHING = Visibility(everything=True)


def request(request_id: str = "r1", **changed: Any) -> Request:
    made = Request(
        id=request_id,
        number=f"SF-20260105-{request_id.upper()}",
        zone="us-ca-sf-d10",
        type="eventTypes/street-light",
        description="The light is out",
        place=Place(address="100 Connecticut St", latitude=37.76, longitude=-122.39),
        channel="web",
        reporter=RESIDENT,
        contact="resident.01@example.org",
        external_id="",
        reported_at=START,
        filed_at=START,
    )
    return replace(made, **changed)


def stamp(time: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(time)
    return made


def fact(message: Any, *, received_from: str = "", time: datetime = START) -> Fact:
    """A fact as it comes from the bus."""
    return Fact(
        id=new_id(),
        type=message.DESCRIPTOR.full_name,
        node=received_from or "sf",
        zone="us-ca-sf-d10",
        key=EVENT,
        time=stamp(time),
        data=message.SerializeToString(),
        received_from=received_from,
    )


def opened(request_name: str = "", *, event: str = EVENT, revision: int = 1, due_h: int = 24) -> EventOpened:
    due = stamp(START + timedelta(hours=due_h))
    return EventOpened(event=Event(name=event, status="collected", revision=revision, due_at=due), request=request_name)


def merged(request_name: str, revision: int, status: str, organisation: str = "", *, due_h: int = 24) -> ReportMerged:
    due = stamp(START + timedelta(hours=due_h))
    return ReportMerged(
        event=EVENT, request=request_name, revision=revision, status=status, organisation=organisation, due_at=due
    )


def advanced(
    revision: int, status: str, organisation: str = "", *, answer: str = "", reason: str = ""
) -> EventAdvanced:
    step = EventStep(revision=revision, to=status, reason=reason, occurred_at=stamp(START + timedelta(hours=revision)))
    return EventAdvanced(
        event=EVENT, step=step, revision=revision, status=status, organisation=organisation, answer=answer
    )
