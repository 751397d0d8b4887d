from dataclasses import replace
from datetime import UTC, datetime, timedelta

from demo.expected import outcome
from demo.records import Record, type_of
from demo.timeline import AFTER_ALL, FilingPosition, due, recorded_closing

START = datetime(2016, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def record(number: int = 0, closed_after: timedelta | None = HOUR) -> Record:
    created = START + number * HOUR
    return Record(
        key=str(number),
        created=created,
        closed=None if closed_after is None else created + closed_after,
        category="Sewer Issues",
        kind="Flooding",
        descriptor="On_street",
        notes="",
        address="1 MAIN ST",
        district="10",
        neighbourhood="",
        source="Phone",
        latitude=37.7,
        longitude=-122.4,
    )


def test_the_clock_stands_at_the_first_request_that_is_not_filed() -> None:
    position = FilingPosition([record(number) for number in range(3)])
    assert position.time == START
    position.filed_at(1)
    assert position.time == START
    position.filed_at(0)
    assert position.time == START + 2 * HOUR
    position.filed_at(0)
    assert position.filed == 2
    position.filed_at(2)
    assert position.time == AFTER_ALL
    assert position.share == 1.0


def test_an_event_is_due_when_the_last_of_its_requests_was_closed() -> None:
    assert due([record(0), record(5), record(1)]) == START + 6 * HOUR
    assert due([record(0), record(1, None)]) is None
    assert due([]) is None


def test_a_record_closed_before_it_was_created_is_due_at_its_creation_but_told_as_recorded() -> None:
    reversed_times = record(4, -2 * HOUR)
    assert due([reversed_times]) == START + 4 * HOUR
    assert recorded_closing([reversed_times]) == START + 2 * HOUR
    assert reversed_times.dirt == ("CLOSED_BEFORE_CREATED",)


def test_an_event_ends_as_its_records_did() -> None:
    assert outcome([record(0), record(1)]) == "evaluated"
    assert outcome([record(0), record(1, None)]) == "dispatched"


def test_the_zone_is_what_the_record_names() -> None:
    assert record().zone == "us-ca-sf-d10"
    assert replace(record(), neighbourhood="Potrero Hill").zone == "us-ca-sf-d10-potrero-hill"
    assert replace(record(), district="9", neighbourhood="Potrero Hill").zone == "us-ca-sf-d9"
    assert replace(record(), district="-1").zone == "us-ca-sf"
    assert replace(record(), district="").zone == "us-ca-sf"


def test_types_follow_category_and_complaint() -> None:
    assert type_of("Sewer Issues", "Flooding") == "sewer-flooding"
    assert type_of("Sewer Issues", "anything") == "sewer-other"
    assert type_of("MUNI Feedback", "MUNI  -") == "transit-feedback"
    assert type_of("General Request - MTA", "other") == "enquiry-transport"
    assert type_of("General Request -", "other") == "enquiry-other"
    assert type_of("Something New", "") == "other"
