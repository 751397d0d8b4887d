import json
from datetime import UTC, datetime

from google.protobuf import json_format

from demo.filing import RESIDENTS, body, resident_of
from demo.records import Record
from quintet.delivery.v1.delivery_pb2 import REQUEST_CHANNEL_PHONE, FileRequestRequest

RECORD = Record(
    key="6090725",
    created=datetime(2016, 7, 17, 16, 56, 24, tzinfo=UTC),
    closed=None,
    category="311 External Request",
    kind="Other",
    descriptor="",
    notes="",
    address="Intersection of GENEVA AVE and SANTOS ST",
    district="-1",
    neighbourhood="",
    source="Phone",
    latitude=0.0,
    longitude=0.0,
)


def test_a_record_is_filed_as_it_stands_dirt_and_all() -> None:
    request = json_format.Parse(json.dumps(body(RECORD)), FileRequestRequest())
    assert request.type == "eventTypes/street-furniture"
    assert request.description == "311 External Request, Other"
    assert request.place.zone_hint == "-1"
    assert request.place.HasField("point")
    assert (request.place.point.latitude, request.place.point.longitude) == (0, 0)
    assert request.channel == REQUEST_CHANNEL_PHONE
    assert request.reported_at.ToDatetime(UTC) == RECORD.created
    assert request.external_id == "sf311:6090725"


def test_filing_again_is_the_same_request_of_the_same_resident() -> None:
    assert body(RECORD) == body(RECORD)
    assert resident_of(RECORD) == resident_of(RECORD)
    assert resident_of(RECORD) in RESIDENTS
