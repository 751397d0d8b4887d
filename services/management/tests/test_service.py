"""The methods, called over a real channel by people with the rights of the built-in roles."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import AlreadyExists, Forbidden, Invalid, NotFound, Reason, Stale, Unauthenticated, WrongState
from quintet.common.v1 import common_pb2
from quintet.federation.v1.facts_pb2 import ZoneDelegated
from quintet.management.v1 import management_pb2 as pb
from services.management.convert import time_pb
from services.management.tests.samples import (
    GRAFFITI,
    NOISE,
    NOW,
    PARKS,
    SEWERS,
    TWIN_PEAKS,
    WORKS,
    YESTERDAY,
)

if TYPE_CHECKING:
    from services.management.tests.conftest import MakeNode, Node

OFFICER = "people/duty-officer"
WHO = {
    "file": OFFICER,
    "dispatch": "people/dispatcher",
    "dispose": "people/handler.works",
    "feed_back": "people/handler.works",
    "verify": "people/verifier",
    "evaluate": "people/supervisor",
}


async def opened(node: Node, zone: str = "us-ca-sf-d6", event_type: str = GRAFFITI.name, **more: Any) -> pb.Event:
    request = pb.OpenEventRequest(parent=f"zones/{zone}", type=event_type, description="Tags on the wall", **more)
    response = await node.call("OpenEvent", request, OFFICER)
    event: pb.Event = response.event
    return event


async def advance(node: Node, name: str, action: str, subject: str = "", **more: Any) -> pb.Event:
    request = pb.AdvanceEventRequest(name=name, action=action, **more)
    event: pb.Event = (await node.call("AdvanceEvent", request, subject or WHO[action])).event
    return event


async def dispatched(node: Node, organisation: str = WORKS) -> pb.Event:
    event = await opened(node)
    await advance(node, event.name, "file")
    return await advance(node, event.name, "dispatch", organisation=organisation)


async def test_an_event_walks_the_seven_steps(city: Node) -> None:
    event = await opened(city, occurred_at=time_pb(YESTERDAY))
    for action in ("file", "dispatch", "dispose", "feed_back", "verify", "evaluate"):
        more = {"reason": "Painted over"} if action == "feed_back" else {}
        event = await advance(city, event.name, action, etag=event.revision, **more)
    assert (event.status, event.revision, event.answer) == ("evaluated", 7, "Painted over")
    assert event.HasField("closed_at")
    response = await city.call("ListEventSteps", pb.ListEventStepsRequest(name=event.name, page_size=4), OFFICER)
    assert [step.action for step in response.steps] == ["open", "file", "dispatch", "dispose"]
    rest = pb.ListEventStepsRequest(name=event.name, page_size=4, page_token=response.next_page_token)
    response = await city.call("ListEventSteps", rest, OFFICER)
    assert [(step.action, step.actor) for step in response.steps] == [
        (action, WHO[action]) for action in ("feed_back", "verify", "evaluate")
    ]
    assert response.next_page_token == ""
    facts = await city.stated()
    assert [fact.type.rpartition(".")[2] for fact, _ in facts] == ["EventOpened"] + ["EventAdvanced"] * 6
    assert {(fact.key, fact.zone) for fact, _ in facts} == {(event.name, "us-ca-sf-d6")}
    assert [message.revision for _, message in facts[1:]] == [2, 3, 4, 5, 6, 7]
    assert [message.answer for _, message in facts[1:]] == ["", "", "", "Painted over", "", ""]
    audit = await city.rows(
        "SELECT actor, action, resource FROM audit_entries WHERE action LIKE 'management.events.%' ORDER BY id"
    )
    assert [(row["actor"], row["action"]) for row in audit] == [
        (WHO.get(action, OFFICER), f"management.events.{action}") for action in ("open", *WHO)
    ]
    assert {row["resource"] for row in audit} == {event.name}


async def test_the_event_says_why_it_goes_where_it_goes(city: Node) -> None:
    event = await opened(city, "us-ca-sf-d10-potrero-hill")
    assert event.organisation == ""
    assert event.routing.rule == GRAFFITI.name
    assert event.routing.inputs["organisation"] == PARKS
    assert event.name.startswith("zones/us-ca-sf-d10-potrero-hill/events/2026-")
    found = (await city.call("GetEvent", pb.GetEventRequest(name=event.name), OFFICER)).event
    assert found == event


async def test_two_officers_at_one_place_share_an_event(city: Node) -> None:
    place = common_pb2.Place(address=TWIN_PEAKS.address)
    first = await opened(city, place=place)
    request = pb.OpenEventRequest(parent="zones/us-ca-sf-d6", type=GRAFFITI.name, description="Again", place=place)
    response = await city.call("OpenEvent", request, OFFICER)
    assert response.merged
    assert (response.event.name, response.event.reports) == (first.name, 2)
    assert await city.stated_types() == ["EventOpened", "ReportMerged"]


async def test_the_same_request_id_opens_once(city: Node) -> None:
    first = await opened(city, request_id="a", event_type=NOISE.name)
    assert await opened(city, request_id="a", event_type=NOISE.name) == first
    with pytest.raises(AlreadyExists):
        await opened(city, request_id="a", event_type=GRAFFITI.name)
    one = await advance(city, first.name, "file", request_id="b")
    assert await advance(city, first.name, "file", request_id="b") == one
    assert await city.stated_types() == ["EventOpened", "EventAdvanced"]


async def test_of_two_who_advance_at_once_one_wins(city: Node) -> None:
    event = await opened(city)
    calls = [advance(city, event.name, "file", etag=event.revision) for _ in range(4)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, pb.Event) for result in results) == 1
    assert {type(result) for result in results} == {pb.Event, Stale}


async def test_what_advance_refuses(city: Node) -> None:
    event = await opened(city)
    with pytest.raises(WrongState) as caught:
        await advance(city, event.name, "evaluate")
    assert caught.value.reason == Reason.WRONG_STATE
    assert caught.value.metadata["allowed"] == "file, void"
    with pytest.raises(WrongState, match="possible: file, void"):
        await advance(city, event.name, "nonsense", OFFICER)
    with pytest.raises(Stale) as stale:
        await advance(city, event.name, "file", etag=9)
    assert stale.value.metadata["etag"] == "1"
    with pytest.raises(Invalid, match="future"):
        await advance(city, event.name, "file", occurred_at=time_pb(NOW.replace(year=2027)))
    with pytest.raises(NotFound):
        await advance(city, "zones/us-ca-sf-d6/events/none", "file")
    unrouted = await opened(city, event_type=NOISE.name)
    await advance(city, unrouted.name, "file")
    with pytest.raises(Invalid, match="organisation"):
        await advance(city, unrouted.name, "dispatch")


async def test_a_time_before_the_last_step_is_kept_and_flagged(city: Node) -> None:
    event = await opened(city, occurred_at=time_pb(YESTERDAY))
    early = YESTERDAY.replace(hour=1)
    event = await advance(city, event.name, "file", occurred_at=time_pb(early))
    assert [flag.code for flag in event.flags] == ["TIME_REVERSED"]
    steps = (await city.call("ListEventSteps", pb.ListEventStepsRequest(name=event.name), OFFICER)).steps
    assert steps[1].occurred_at == time_pb(early)


# -------------------------------------------------------------------------------------------------------------- rights


@pytest.mark.parametrize(
    ("action", "subject"),
    [
        ("file", "people/dispatcher"),
        ("file", "people/handler.works"),
        ("void", "people/verifier"),
        ("file", "people/resident.01"),
        ("file", "people/dispatcher.d10"),
    ],
)
async def test_each_action_has_a_right_of_its_own(city: Node, action: str, subject: str) -> None:
    event = await opened(city)
    with pytest.raises(Forbidden):
        await advance(city, event.name, action, subject, reason="x")


async def test_a_handler_acts_for_their_organisation_only(city: Node) -> None:
    event = await dispatched(city)
    with pytest.raises(Forbidden):
        await advance(city, event.name, "dispose", "people/handler.ops")
    with pytest.raises(Forbidden):
        await city.call("GetEvent", pb.GetEventRequest(name=event.name), "people/handler.ops")
    assert (await advance(city, event.name, "dispose")).status == "disposed"


async def test_lists_hold_what_the_caller_may_see(city: Node) -> None:
    mine = await dispatched(city)
    other = await dispatched(city, SEWERS)
    d10 = await opened(city, "us-ca-sf-d10")
    request = pb.ListEventsRequest(parent="zones/us-ca-sf")

    async def listed(subject: str, wanted: pb.ListEventsRequest = request) -> list[str]:
        return [event.name for event in (await city.call("ListEvents", wanted, subject)).events]

    assert await listed(OFFICER) == [d10.name, other.name, mine.name]
    assert await listed("people/handler.works") == [mine.name]
    assert await listed("people/handler.parks") == []
    in_d10 = pb.ListEventsRequest(parent="zones/us-ca-sf-d10")
    assert await listed("people/dispatcher.d10", in_d10) == [d10.name]
    assert await listed(OFFICER, in_d10) == [d10.name]
    with pytest.raises(Forbidden):
        await listed("people/dispatcher.d10")
    with pytest.raises(Forbidden):
        await listed("people/resident.01")
    with pytest.raises(Unauthenticated):
        await listed("")
    page = await city.call("ListEvents", pb.ListEventsRequest(parent="zones/us-ca-sf", page_size=2), OFFICER)
    assert not page.events[0].requests
    token = page.next_page_token
    rest = pb.ListEventsRequest(parent="zones/us-ca-sf", page_size=2, page_token=token)
    assert await listed(OFFICER, rest) == [mine.name]
    with pytest.raises(Invalid):
        await listed(OFFICER, pb.ListEventsRequest(parent="zones/us-ca-sf", status="filed", page_token=token))
    by_organisation = pb.ListEventsRequest(parent="zones/us-ca-sf", organisation=SEWERS, status="dispatched")
    assert await listed(OFFICER, by_organisation) == [other.name]
    assert await listed("people/handler.works", by_organisation) == []


async def test_counters_need_the_whole_zone(city: Node) -> None:
    await dispatched(city)
    await opened(city, "us-ca-sf-d10")
    response = await city.call("GetCounters", pb.GetCountersRequest(zone="zones/us-ca-sf"), OFFICER)
    assert [(zone.zone, zone.node, zone.events, dict(zone.by_status)) for zone in response.zones] == [
        ("us-ca-sf-d10", "sf", 1, {"collected": 1}),
        ("us-ca-sf-d6", "sf", 1, {"dispatched": 1}),
    ]
    assert (response.total.zone, response.total.node, response.total.events) == ("us-ca-sf", "sf", 2)
    assert response.total.requests == response.total.merged == 0
    only = await city.call("GetCounters", pb.GetCountersRequest(zone="zones/us-ca-sf-d10"), OFFICER)
    assert only.total.events == 1
    with pytest.raises(Forbidden):
        await city.call("GetCounters", pb.GetCountersRequest(zone="zones/us-ca-sf"), "people/handler.works")


# --------------------------------------------------------------------------------------------------- zones and types


async def test_zones_of_other_nodes_are_theirs(make_node: MakeNode) -> None:
    city = await make_node("sf", "us-ca-sf-d10")
    with pytest.raises(WrongState) as caught:
        await opened(city, "us-ca-sf-d10-potrero-hill")
    assert (caught.value.reason, caught.value.metadata["node"]) == (Reason.ZONE_DELEGATED, "sf-d10")
    with pytest.raises(NotFound):
        await opened(city, "us-ca-sf-d99")


async def test_an_event_stays_with_its_node_when_its_zone_is_delegated_later(city: Node) -> None:
    event = await opened(city, "us-ca-sf-d10")
    await city.hear(ZoneDelegated(zone="us-ca-sf-d10", node="sf-d10"))
    with pytest.raises(WrongState):
        await opened(city, "us-ca-sf-d10")
    assert (await advance(city, event.name, "file")).status == "filed"


def graffiti(**changes: Any) -> pb.EventType:
    values: dict[str, Any] = {
        "name": "eventTypes/new",
        "deadline": pb.Allowance(minutes=480),
        "loop": "loops/seven-step",
    }
    return pb.EventType(**(values | changes))


async def test_event_types_are_versioned(city: Node) -> None:
    async def put(subject: str = "people/admin", **changes: Any) -> pb.PutEventTypeResponse:
        request = pb.PutEventTypeRequest(event_type=graffiti(**changes))
        response: pb.PutEventTypeResponse = await city.call("PutEventType", request, subject)
        return response

    first = await put(loop="")
    assert (first.changed, first.event_type.version, first.event_type.loop) == (True, 1, "loops/seven-step")
    assert not (await put()).changed
    second = await put(routes=[pb.Route(zone="us-ca-sf", organisation=WORKS)], merge=pb.MergePolicy(radius_m=50))
    assert (second.changed, second.event_type.version) == (True, 2)
    with pytest.raises(Invalid, match="loops/none is not a loop of this node"):
        await put(loop="loops/none")
    with pytest.raises(Invalid, match="one route per zone"):
        await put(routes=[pb.Route(zone="us-ca-sf", organisation=WORKS)] * 2)
    with pytest.raises(Invalid, match=r"deadline\.minutes"):
        await put(deadline=pb.Allowance())
    with pytest.raises(Forbidden):
        await put("people/admin.d10")
    with pytest.raises(Forbidden):
        await put("people/supervisor")
    found = await city.call("GetEventType", pb.GetEventTypeRequest(name="eventTypes/new"), "")
    assert found.event_type == second.event_type
    with pytest.raises(NotFound):
        await city.call("GetEventType", pb.GetEventTypeRequest(name="eventTypes/none"), "")
    page = await city.call("ListEventTypes", pb.ListEventTypesRequest(page_size=2), "")
    rest = pb.ListEventTypesRequest(page_size=2, page_token=page.next_page_token)
    names = [found.name for found in (*page.event_types, *(await city.call("ListEventTypes", rest, "")).event_types)]
    assert names == [GRAFFITI.name, "eventTypes/new", NOISE.name]


async def test_events_in_flight_keep_their_type(city: Node) -> None:
    event = await opened(city, event_type=GRAFFITI.name)
    changed = pb.EventType(
        name=GRAFFITI.name, deadline=pb.Allowance(minutes=1), routes=[pb.Route(zone="us-ca-sf", organisation=PARKS)]
    )
    await city.call("PutEventType", pb.PutEventTypeRequest(event_type=changed), "people/admin")
    await advance(city, event.name, "file")
    after = await advance(city, event.name, "dispatch")
    assert (after.organisation, after.type_version, after.due_at) == (WORKS, 1, event.due_at)


async def test_types_that_take_no_reports(city: Node) -> None:
    with pytest.raises(NotFound):
        await opened(city, event_type="eventTypes/none")
    retired = pb.PutEventTypeRequest(event_type=graffiti(retired=True))
    await city.call("PutEventType", retired, "people/admin")
    with pytest.raises(WrongState) as caught:
        await opened(city, event_type="eventTypes/new")
    assert caught.value.reason == Reason.EVENT_TYPE_RETIRED


# ------------------------------------------------------------------------------------------------------ joint disposal


async def test_a_joint_disposal_is_given_to_several_organisations(city: Node) -> None:
    event = await dispatched(city)
    request = pb.StartJointDisposalRequest(
        name=event.name,
        lead=SEWERS,
        sub_orders=[
            pb.SubOrderDraft(organisation=WORKS, instruction="paint"),
            pb.SubOrderDraft(organisation=SEWERS, instruction="pump"),
        ],
        reason="both are needed",
        etag=event.revision,
    )
    for subject in ("people/handler.works", "people/dispatcher.d10"):
        with pytest.raises(Forbidden):
            await city.call("StartJointDisposal", request, subject)
    event = (await city.call("StartJointDisposal", request, "people/dispatcher")).event
    assert (event.organisation, event.status, event.revision) == (SEWERS, "dispatched", 4)
    assert [(share.id, share.lead, share.done) for share in event.sub_orders] == [
        ("1", False, False),
        ("2", True, False),
    ]
    fact, message = (await city.stated())[-1]
    assert (fact.key, message.lead, message.started_by) == (event.name, SEWERS, "people/dispatcher")
    assert [share.organisation for share in message.sub_orders] == [WORKS, SEWERS]
    with pytest.raises(WrongState) as caught:
        await advance(city, event.name, "dispose", "people/handler.ops")
    assert caught.value.reason == Reason.SUB_ORDER_OPEN
    with pytest.raises(Stale):
        await city.call("StartJointDisposal", request, "people/dispatcher")
    # Who has a share sees the event but does not answer for the whole.
    seen = await city.call("GetEvent", pb.GetEventRequest(name=event.name), "people/handler.works")
    assert len(seen.event.sub_orders) == 2
    with pytest.raises(Forbidden):
        await advance(city, event.name, "dispose", "people/handler.works")
    listed = await city.call("ListEvents", pb.ListEventsRequest(parent="zones/us-ca-sf"), "people/handler.works")
    assert [each.name for each in listed.events] == [event.name]
    assert not listed.events[0].sub_orders
