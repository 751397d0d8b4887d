"""Records of the past become events with their true times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Forbidden, Invalid
from quintet.common.v1.common_pb2 import Flag, Place, Point
from quintet.management.v1 import deadlines_pb2 as deadlines
from quintet.management.v1 import imports_pb2 as pb
from quintet.management.v1 import management_pb2 as management
from services.management.tests import samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.management.tests.conftest import MakeNode, Node

ADMIN = "people/admin"
LONG_AGO = datetime(2015, 3, 2, 9, 0, tzinfo=UTC)
WALL = Place(address="400 Block of GEARY ST", point=Point(latitude=37.787, longitude=-122.4107))
CLOSED = (("file", 0), ("dispatch", 1), ("dispose", 30), ("feed_back", 30), ("verify", 40))


def past(number: int, at_h: float = 0, steps: Sequence[tuple[str, float]] = CLOSED, **changes: Any) -> pb.PastEvent:
    """A record of graffiti, reported so many hours after LONG_AGO; its steps so many hours after that."""
    values: dict[str, Any] = {
        "type": samples.GRAFFITI.name,
        "description": "Tags",
        "place": WALL,
        "zone": "us-ca-sf-d6",
    }
    record = pb.PastEvent(external_id=str(number), **(values | changes))
    occurred_at = LONG_AGO + timedelta(hours=at_h)
    record.occurred_at.FromDatetime(occurred_at)
    for action, after_h in steps:
        record.steps.add(action=action).occurred_at.FromDatetime(occurred_at + timedelta(hours=after_h))
    return record


async def take(node: Node, *records: pb.PastEvent, subject: str = ADMIN) -> list[pb.ImportedEvent]:
    request = pb.ImportEventsRequest(parent="zones/us-ca-sf", source="old", events=records)
    response: pb.ImportEventsResponse = await node.call("ImportEvents", request, subject)
    return list(response.events)


async def event(node: Node, name: str) -> management.Event:
    response: management.GetEventResponse = await node.call(
        "GetEvent", management.GetEventRequest(name=name), "people/duty-officer"
    )
    return response.event


def outcomes(answers: Sequence[pb.ImportedEvent]) -> list[str]:
    return [pb.ImportOutcome.Name(answer.outcome).removeprefix("IMPORT_OUTCOME_") for answer in answers]


async def test_a_record_has_gone_through_the_loop_at_its_own_times(city: Node) -> None:
    (answer,) = await take(city, past(1))
    found = await event(city, answer.event)
    assert (found.status, found.organisation, found.zone) == ("closed", samples.WORKS, "us-ca-sf-d6")
    assert found.occurred_at.ToDatetime(UTC) == found.opened_at.ToDatetime(UTC) == LONG_AGO
    assert found.closed_at.ToDatetime(UTC) == LONG_AGO + timedelta(hours=40)
    assert samples.GRAFFITI.deadline is not None
    assert found.due_at.ToDatetime(UTC) == LONG_AGO + timedelta(minutes=samples.GRAFFITI.deadline.minutes)
    steps = await city.call(
        "ListEventSteps", management.ListEventStepsRequest(name=answer.event), "people/duty-officer"
    )
    assert [step.action for step in steps.steps] == ["open", *(action for action, _ in CLOSED)]
    assert {step.actor for step in steps.steps} == {ADMIN}
    assert {step.recorded_at.ToDatetime(UTC) for step in steps.steps[1:]} == {city.clock.now()}


async def test_a_record_is_taken_in_once_however_often_it_is_brought(city: Node) -> None:
    first = await take(city, past(1))
    again = await take(city, past(1, description="another text"), past(2, at_h=1000))
    assert outcomes([*first, *again]) == ["OPENED", "KNOWN", "OPENED"]
    assert again[0].event == first[0].event
    assert (await event(city, first[0].event)).description == "Tags"


async def test_reports_are_merged_into_what_was_open_then(city: Node) -> None:
    """In one batch, and into what an earlier batch brought; not into what was closed by then, however near."""
    answers = await take(city, past(1), past(2, at_h=10), past(3, at_h=41))
    assert outcomes(answers) == ["OPENED", "MERGED", "OPENED"]
    later = await take(city, past(4, at_h=42), past(5, at_h=200))
    assert outcomes(later) == ["MERGED", "OPENED"]
    assert later[0].event == answers[2].event
    assert (await event(city, answers[0].event)).reports == 2
    assert (await event(city, answers[2].event)).reports == 2


async def test_contradicting_times_are_kept_and_flagged(city: Node) -> None:
    doubt = Flag(code="STATUS_CONFLICT", field="closed_date", reason="closed without a time")
    (answer,) = await take(city, past(1, steps=[("file", 0), ("dispatch", 0), ("dispose", -5)], flags=[doubt]))
    assert list(answer.flags) == ["STATUS_CONFLICT", "TIME_REVERSED"]
    found = await event(city, answer.event)
    assert (found.status, [flag.code for flag in found.flags]) == ("disposed", list(answer.flags))


async def test_what_breaks_a_rule_is_refused_alone(city: Node) -> None:
    ahead = past(3)
    ahead.occurred_at.FromDatetime(city.clock.now() + timedelta(hours=1))
    answers = await take(
        city,
        past(1, steps=[("file", 0), ("verify", 1)]),
        past(2, zone="cn-110000"),
        ahead,
        past(4, type=samples.NOISE.name, steps=[("file", 0), ("dispatch", 1)]),
        past(5, at_h=5),
    )
    assert outcomes(answers) == ["REFUSED"] * 4 + ["OPENED"]
    assert [answer.field for answer in answers[:4]] == [
        "steps[1].action",
        "zone",
        "occurredAt",
        "steps[1].organisation",
    ]
    assert "dispatch" in answers[0].rule  # what would have been possible
    assert "cn-110000" in answers[1].rule
    stored = await city.rows("SELECT source FROM event_reports")
    assert [row["source"] for row in stored] == ["imports/old/5"]


async def test_the_tier_above_hears_of_it_and_counts_the_same(make_node: MakeNode) -> None:
    city, district = await make_node("sf", "us-ca-sf-d10"), await make_node("sf-d10", root="us-ca-sf-d10")
    records = [past(number, at_h=100 * number, zone="us-ca-sf-d10") for number in range(3)]
    request = pb.ImportEventsRequest(
        parent="zones/us-ca-sf-d10", source="old", events=[*records, past(9, at_h=201, zone="us-ca-sf-d10")]
    )
    answers = (await district.call("ImportEvents", request, "people/admin.d10")).events
    assert outcomes(answers) == ["OPENED", "OPENED", "OPENED", "MERGED"]
    await district.report_to(city)
    counters = management.GetCountersRequest(zone="zones/us-ca-sf-d10")
    for node in (city, district):
        total = (await node.call("GetCounters", counters, "people/duty-officer")).total
        assert dict(total.by_status) == {"closed": 3}
    mine, theirs = await event(district, answers[2].event), await event(city, answers[2].event)
    assert (theirs.status, theirs.reports, theirs.revision) == (mine.status, mine.reports, mine.revision)


async def test_only_who_may_import_does(city: Node) -> None:
    with pytest.raises(Forbidden):
        await take(city, past(1), subject="people/duty-officer")
    with pytest.raises(Forbidden):
        await take(city, past(1), subject="people/admin.d10")
    with pytest.raises(Invalid):
        await city.call("ImportEvents", pb.ImportEventsRequest(parent="zones/us-ca-sf", source="Old"), ADMIN)


async def test_a_promise_of_the_other_system_is_the_deadline(city: Node) -> None:
    record = past(1, steps=CLOSED[:2])
    record.promised_at.FromDatetime(LONG_AGO + timedelta(hours=5))
    (answer,) = await take(city, record)
    found = await event(city, answer.event)
    assert found.due_at.ToDatetime(UTC) == LONG_AGO + timedelta(hours=5)
    request = deadlines.GetEventDeadlinesRequest(name=answer.event)
    told = (await city.call("GetEventDeadlines", request, "people/duty-officer")).business.explanation.text
    assert "原系统" in told.zh
    assert "promised where it was handled before" in told.en
    early = past(2, at_h=1000)
    early.promised_at.FromDatetime(LONG_AGO)
    (refused,) = await take(city, early)
    assert (outcomes([refused]), refused.field) == (["REFUSED"], "promisedAt")


async def test_nobody_is_reminded_of_what_was_missed_long_ago(city: Node) -> None:
    await take(city, past(1, steps=CLOSED[:2]))
    assert await city.rows("SELECT 1 FROM events WHERE next_clock_at IS NOT NULL") == []
