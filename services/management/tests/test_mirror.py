"""Other nodes' events: what a city sees of them, and when it does not believe what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Invalid, Reason, WrongState
from quintet.common.v1 import common_pb2
from quintet.management.v1 import facts_pb2
from quintet.management.v1 import management_pb2 as pb
from services.management.convert import time_pb
from services.management.tests.conftest import received
from services.management.tests.samples import NOISE, SEWERS, WORKS, YESTERDAY
from services.management.tests.story import OFFICER, counters, events, filed, task, walk

if TYPE_CHECKING:
    from quintet.fact.v1.fact_pb2 import Fact
    from services.management.tests.conftest import MakeNode, Node


async def family(make_node: MakeNode) -> tuple[Node, Node]:
    """A district that handles its own zone, and the city above it."""
    child = await make_node("sf-d10", root="us-ca-sf-d10")
    return child, await make_node("sf", "us-ca-sf-d10")


async def told(child: Node) -> list[pb.Event]:
    """The events of a district as others see them: by which loop they go is its own affair."""
    found = await events(child, "us-ca-sf-d10")
    for event in found:
        event.ClearField("loop")
        event.ClearField("loop_version")
    return found


async def busy(node: Node) -> list[str]:
    """Let much happen at a node and return the names of its events."""
    for number in range(1, 4):
        await node.hear(filed(number))
    post = common_pb2.Component(type="componentTypes/lamp-post", code="17")
    await node.hear(filed(4, place=None, event_type=NOISE.name, component=post))
    await node.hear(filed(5, zone="us-ca-sf-d10-potrero-hill", place=None))
    names = [event.name for event in await events(node, "us-ca-sf-d10")]
    await walk(node, names[0], "file", "dispatch")
    drafts = [pb.SubOrderDraft(organisation=each, instruction="go") for each in (WORKS, SEWERS)]
    request = pb.StartJointDisposalRequest(name=names[0], lead=WORKS, sub_orders=drafts, reason="both")
    await node.call("StartJointDisposal", request, "people/dispatcher")
    await node.hear(task(names[0], "1", WORKS, note="painted"))
    await node.hear(task(names[0], "2", SEWERS))
    await walk(node, names[0], "dispose")
    await walk(node, names[0], "feed_back", answer="Painted over")
    await walk(node, names[0], "verify", occurred_at=time_pb(YESTERDAY))
    await walk(node, names[1], "file")
    void = pb.AdvanceEventRequest(name=names[1], action="void", reason="not here")
    await node.call("AdvanceEvent", void, OFFICER)
    return names


async def test_the_city_sees_what_the_district_sees(make_node: MakeNode) -> None:
    child, city = await family(make_node)
    await busy(child)
    await child.report_to(city)
    assert await events(city) == await told(child)
    assert await counters(city) == pb.GetCountersResponse(
        zones=(await counters(child)).zones,
        total=pb.ZoneCounters(
            zone="us-ca-sf-d10", node="sf", events=3, merged=2, requests=5,
            by_status={"closed": 1, "voided": 1, "collected": 1},
        ),
    )  # fmt: skip
    assert await city.stated() == []
    for event in await events(city):
        wanted = pb.ListEventStepsRequest(name=event.name)
        here = (await city.call("ListEventSteps", wanted, OFFICER)).steps
        there = (await child.call("ListEventSteps", wanted, OFFICER)).steps
        assert [(s.revision, s.action, s.to) for s in here] == [(s.revision, s.action, s.to) for s in there]


async def test_facts_that_come_again_and_late_change_nothing(make_node: MakeNode) -> None:
    child, city = await family(make_node)
    await busy(child)
    facts = [received(fact) for fact, _ in await child.stated()]
    for fact in facts:
        await city.take_in(fact)
    before = await events(city), await counters(city)
    for fact in (*facts, *reversed(facts)):
        await city.take_in(fact)
    assert (await events(city), await counters(city)) == before


async def test_facts_in_any_order_end_in_the_same_state(make_node: MakeNode) -> None:
    child, city = await family(make_node)
    await busy(child)
    facts = [received(fact) for fact, _ in await child.stated()]
    for fact in reversed(facts):
        await city.take_in(fact)
    here = {event.name: event for event in await events(city)}
    for there in await events(child, "us-ca-sf-d10"):
        found = here[there.name]
        assert (found.status, found.revision, found.organisation) == (there.status, there.revision, there.organisation)
        assert (found.title, found.description, found.place) == (there.title, there.description, there.place)
        assert (found.reports, list(found.requests)) == (there.reports, list(there.requests))
        assert found.sub_orders == there.sub_orders
        assert found.closed_at == there.closed_at
    assert (await counters(city)).zones == (await counters(child)).zones


async def test_an_event_opened_before_the_charter_is_kept_in_part(make_node: MakeNode) -> None:
    child, city = await family(make_node)
    await child.hear(filed())
    (event,) = await events(child, "us-ca-sf-d10")
    child._relayed = 1  # the city was not told
    await walk(child, event.name, "file")
    await child.report_to(city)
    (partial,) = await events(city)
    assert (partial.name, partial.node, partial.status, partial.revision) == (event.name, "sf-d10", "filed", 2)
    assert [flag.code for flag in partial.flags] == ["HISTORY_MISSING"]
    total = (await counters(city)).total
    assert (total.events, dict(total.by_status)) == (1, {"filed": 1})
    opening, _ = (await child.stated())[0]
    await city.take_in(received(opening))
    assert await events(city) == await told(child)
    assert (await counters(city)).zones == (await counters(child)).zones


async def test_other_nodes_events_are_not_advanced_here(make_node: MakeNode) -> None:
    child, city = await family(make_node)
    await child.hear(filed())
    await child.report_to(city)
    (event,) = await events(city)
    with pytest.raises(WrongState, match="handled by node sf-d10") as caught:
        await walk(city, event.name, "file")
    assert caught.value.reason == Reason.NOT_AUTHORITATIVE
    own = pb.ListEventsRequest(parent="zones/us-ca-sf", own_only=True)
    assert not (await city.call("ListEvents", own, OFFICER)).events


async def test_nobody_speaks_for_another_node(make_node: MakeNode) -> None:
    child, city = await family(make_node)
    await city.hear(filed(zone="us-ca-sf-d6"))
    (ours,) = await events(city)
    await child.hear(filed())
    (opening, message), *_ = await child.stated()

    def claim(fact: Fact, stated: Any, node: str) -> Fact:
        return city.fact(stated, node=node, zone=fact.zone, key=fact.key, received_from=node)

    with pytest.raises(Invalid, match="speaks of it"):
        await city.take_in(claim(opening, message, "sf-d6"))
    closed = facts_pb2.EventAdvanced(event=ours.name, node="sf-d6", zone=ours.zone, revision=99, status="voided")
    with pytest.raises(Invalid, match="is handled by sf"):
        await city.take_in(claim(opening, closed, "sf-d6"))
    elsewhere = facts_pb2.EventAdvanced(event=ours.name, node="sf-d6", zone="us-ca-sf-d10", revision=99)
    with pytest.raises(Invalid, match="is not in"):
        await city.take_in(claim(opening, elsewhere, "sf-d6"))
    assert await events(city) == [ours]


async def test_our_own_facts_are_not_taken_for_others(city: Node) -> None:
    await city.hear(filed())
    before = await events(city)
    for fact, _ in await city.stated():
        await city.take_in(fact)
        await city.take_in(received(fact))  # come back to us by way of a peer
    assert await events(city) == before
