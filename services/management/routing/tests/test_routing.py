"""Routing at a node: rules with conditions, suggestions with their reasons, and what returns teach."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from libs.errors import Forbidden, Invalid
from quintet.management.v1 import management_pb2
from quintet.management.v1 import routing_pb2 as pb
from services.management.deadlines.tests.calendars import shipped
from services.management.deadlines.tests.test_deadlines import at, put_calendar
from services.management.model import Route
from services.management.tests.samples import GRAFFITI, NOISE, PARKS, SEWERS, WORKS
from services.management.tests.story import events, filed, walk

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

ZONE = "us-ca-sf-d6"
RULE, HISTORY = pb.SUGGESTION_SOURCE_RULE, pb.SUGGESTION_SOURCE_HISTORY
DISPATCHER = "people/dispatcher"


async def opened(node: Node, number: int, event_type: str = NOISE.name, text: str = "") -> management_pb2.Event:
    message = filed(number, zone=ZONE, place=None, event_type=event_type)
    message.request.description = text or "Noise at night"
    await node.hear(message)
    return (await events(node, ZONE))[-1]


async def handled(node: Node, number: int, organisation: str, text: str = "") -> None:
    """An event of NOISE from its opening to its closing."""
    event = await opened(node, number, text=text)
    await walk(node, event.name, "file")
    await walk(node, event.name, "dispatch", organisation=organisation)
    by = {WORKS: "people/handler.works", SEWERS: "people/handler.ops", PARKS: "people/handler.parks"}[organisation]
    for action in ("dispose", "feed_back"):
        request = management_pb2.AdvanceEventRequest(name=event.name, action=action, reason="done")
        await node.call("AdvanceEvent", request, by)
    await walk(node, event.name, "verify")


async def works_by_hours(node: Node) -> None:
    """Public works have a calendar of working hours."""
    calendar = shipped("sf")
    calendar.organisations[:] = [WORKS]
    await put_calendar(node, calendar)


async def suggested(node: Node, event: str) -> pb.SuggestOrganisationsResponse:
    request = pb.SuggestOrganisationsRequest(event=event)
    answer: pb.SuggestOrganisationsResponse = await node.call("SuggestOrganisations", request, DISPATCHER)
    return answer


async def test_a_full_organisation_is_passed_over_and_the_event_says_why(city: Node) -> None:
    await city.put(replace(NOISE, routes=(Route("us-ca-sf", WORKS, open_events_max=1), Route("us-ca-sf", SEWERS))))
    first = await opened(city, 1)
    await walk(city, first.name, "file")
    first = await walk(city, first.name, "dispatch")
    assert first.organisation == WORKS
    second = await opened(city, 2)
    assert second.routing.inputs["organisation"] == SEWERS
    assert f"{WORKS} 未采用：在办事件已达上限 1 件" in second.routing.text.zh
    assert f"{WORKS} of us-ca-sf was passed over: it has 1 open events" in second.routing.text.en


async def test_who_is_off_duty_is_passed_over_until_their_hours(city: Node) -> None:
    await works_by_hours(city)
    await city.put(replace(NOISE, routes=(Route("us-ca-sf", WORKS, on_duty_only=True), Route("us-ca-sf", PARKS))))
    city.clock.set(at("2026-03-02 03:00"))
    night = await opened(city, 1)
    assert night.routing.inputs["organisation"] == PARKS
    assert "现在不在其工作时间" in night.routing.text.zh
    assert "it is not on duty now" in night.routing.text.en
    city.clock.set(at("2026-03-02 10:00"))
    assert (await opened(city, 2)).routing.inputs["organisation"] == WORKS


async def test_where_no_conditions_hold_the_first_takes_it_all_the_same(city: Node) -> None:
    await works_by_hours(city)
    await city.put(replace(NOISE, routes=(Route("us-ca-sf", WORKS, on_duty_only=True),)))
    city.clock.set(at("2026-03-01 03:00"))
    event = await opened(city, 1)
    assert event.routing.inputs["organisation"] == WORKS
    assert "all the same" in event.routing.text.en


async def test_routes_with_conditions_may_stand_beside_each_other(city: Node) -> None:
    routes = [
        management_pb2.Route(zone="us-ca-sf", organisation=WORKS, on_duty_only=True),
        management_pb2.Route(zone="us-ca-sf", organisation=SEWERS, open_events_max=5),
        management_pb2.Route(zone="us-ca-sf", organisation=PARKS),
    ]
    wanted = management_pb2.EventType(
        name=NOISE.name, deadline=management_pb2.Allowance(minutes=60), loop=NOISE.loop, routes=routes
    )
    request = management_pb2.PutEventTypeRequest(event_type=wanted)
    assert list((await city.call("PutEventType", request, "people/admin")).event_type.routes) == routes
    wanted.routes.add(zone="us-ca-sf", organisation=SEWERS)
    with pytest.raises(Invalid, match="one route per zone"):
        await city.call("PutEventType", management_pb2.PutEventTypeRequest(event_type=wanted), "people/admin")


async def test_history_suggests_and_says_why_and_a_return_teaches_it(city: Node) -> None:
    for number in range(1, 4):
        await handled(city, number, WORKS)
    await handled(city, 4, PARKS)
    event = await opened(city, 5)
    found = await suggested(city, event.name)
    assert [(each.organisation, each.source) for each in found.suggestions] == [(WORKS, HISTORY), (PARKS, HISTORY)]
    assert found.sample == 4
    why = found.suggestions[0].explanation
    assert "近4件已办结" in why.text.zh
    assert "of the last 4 closed events of “Noise”, 4 were in us-ca-sf-d6" in why.text.en
    assert found.suggestions[0].on_duty
    # It is dispatched to the first, who returns it: the next time the other comes first.
    await walk(city, event.name, "file")
    await walk(city, event.name, "dispatch", organisation=WORKS)
    assert (await suggested(city, event.name)).suggestions[0].open_events == 1
    back = management_pb2.AdvanceEventRequest(name=event.name, action="return", reason="not ours")
    await city.call("AdvanceEvent", back, "people/handler.works")
    after = await suggested(city, event.name)
    assert after.suggestions[0].organisation == PARKS
    assert all(each.organisation != WORKS or "returned" in each.explanation.text.en for each in after.suggestions)


async def test_the_rule_comes_first_and_both_are_measured(city: Node) -> None:
    await city.put(replace(NOISE, routes=(Route("us-ca-sf", SEWERS),)))
    for number in range(1, 5):
        await handled(city, number, PARKS)
        city.clock.advance(timedelta(hours=1))
    event = await opened(city, 5)
    found = await suggested(city, event.name)
    assert [(each.organisation, each.source) for each in found.suggestions] == [(SEWERS, RULE), (PARKS, HISTORY)]
    request = pb.MeasureRoutingRequest(parent=f"zones/{ZONE}", type=NOISE.name)
    measured = await city.call("MeasureRouting", request, DISPATCHER)
    rules, history = measured.accuracies
    assert (measured.events, rules.suggested, rules.right) == (4, 4, 0)
    assert history.right == history.suggested
    assert "准确率" in history.explanation.text.zh
    assert "with what was known before it occurred" in history.explanation.text.en
    everything = await city.call("MeasureRouting", pb.MeasureRoutingRequest(parent=f"zones/{ZONE}"), DISPATCHER)
    assert everything == measured
    with pytest.raises(Forbidden):
        await city.call("MeasureRouting", request, "people/handler.works")


async def test_plain_routes_decide_as_before(city: Node) -> None:
    event = await opened(city, 1, GRAFFITI.name)
    assert event.routing.text.en == f"{WORKS} handles {GRAFFITI.name} in us-ca-sf: the deepest route that covers {ZONE}"
