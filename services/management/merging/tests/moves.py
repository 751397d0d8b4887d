"""What is done to reports in the tests of merging, and what must hold whatever was done."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from quintet.common.v1 import common_pb2
from quintet.management.v1 import merging_pb2 as pb
from services.management.tests.samples import TWIN_PEAKS, north_of
from services.management.tests.story import OFFICER, counters, events, filed

if TYPE_CHECKING:
    from quintet.management.v1 import management_pb2
    from services.management.tests.conftest import Node

DISPATCHER = "people/dispatcher"
ZONE = "us-ca-sf-d10"


async def file(node: Node, number: int, metres: float = 0.0, words: str = "Tags on the wall", **more: Any) -> str:
    """Let a resident's report come in, so many metres north of the others; return its event."""
    place = north_of(TWIN_PEAKS, metres)
    where = common_pb2.Place(point=common_pb2.Point(latitude=place.latitude or 0, longitude=place.longitude or 0))
    message = filed(number, place=where, **more)
    message.request.description = words
    await node.hear(message)
    return await event_of(node, number, more.get("zone", ZONE))


async def event_of(node: Node, number: int, zone: str = ZONE) -> str:
    """Return the event in which a request stands."""
    found = [event.name for event in await events(node) if f"zones/{zone}/requests/r{number}" in event.requests]
    assert len(found) == 1, found
    return found[0]


async def merge(node: Node, event: str, into: str, **more: Any) -> management_pb2.Event:
    request = pb.MergeEventsRequest(name=event, into=into, **{"reason": "the same wall", **more})
    found: management_pb2.Event = (await node.call("MergeEvents", request, DISPATCHER)).event
    return found


async def reports(node: Node, event: str) -> list[pb.EventReport]:
    response = await node.call("ListEventReports", pb.ListEventReportsRequest(parent=event), OFFICER)
    return list(response.reports)


async def split(node: Node, report: str, reason: str = "another wall") -> pb.SplitReportResponse:
    request = pb.SplitReportRequest(name=report, reason=reason)
    response: pb.SplitReportResponse = await node.call("SplitReport", request, DISPATCHER)
    return response


async def suggestions(node: Node, **more: Any) -> list[pb.MergeSuggestion]:
    request = pb.ListMergeSuggestionsRequest(parent=f"zones/{node.zones.root}", **more)
    return list((await node.call("ListMergeSuggestions", request, OFFICER)).suggestions)


async def check(node: Node, requests: int) -> None:
    """Assert that every report stands in exactly one event, and that the counters equal the recount."""
    standing: Counter[str] = Counter()
    by_status: Counter[tuple[str, str]] = Counter()
    sums: dict[str, list[int]] = {}
    for event in await events(node):
        found = await reports(node, event.name)
        assert event.reports == len(found), event.name
        assert [report.source for report in found if report.kind == "request"] == list(event.requests)
        assert (event.status == "merged") == bool(event.merged_into)
        assert event.reports > 0 or event.merged_into
        assert sum(not report.merged for report in found) == (0 if event.merged_into else 1)
        standing.update(event.requests)
        by_status[event.zone, event.status] += 1
        merged = sum(report.merged for report in found if report.kind == "request")
        entry = sums.setdefault(event.zone, [0, 0])
        entry[0] += len(event.requests)
        entry[1] += merged
    assert (len(standing), set(standing.values())) == (requests, {1} if requests else set())
    for zone in (await counters(node, node.zones.root)).zones:
        assert [zone.requests, zone.merged] == sums[zone.zone]
        assert dict(zone.by_status) == {status: n for (code, status), n in by_status.items() if code == zone.zone}
