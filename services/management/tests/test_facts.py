"""What the service does about facts: repeated, late, out of order, and of other nodes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from libs.bus import subject_of
from libs.errors import Away, NotFound
from libs.inbox import FactConsumer
from libs.outbox import OutboxRelay
from libs.testing import ConnectBus, eventually, running
from quintet.common.v1 import common_pb2
from quintet.federation.v1.facts_pb2 import ZoneDelegated, ZoneWithdrawn
from quintet.management.v1 import facts_pb2
from quintet.management.v1 import management_pb2 as pb
from quintet.perception.v1 import perception_pb2
from quintet.perception.v1.facts_pb2 import WarningRaised
from services.management.convert import time_pb
from services.management.tests.samples import GRAFFITI, NOISE, NOW, SEWERS, WORKS, YESTERDAY
from services.management.tests.story import PLACE, counters, events, filed, task, walk

if TYPE_CHECKING:
    from services.management.tests.conftest import MakeNode, Node

# ------------------------------------------------------------------------------------------------------------ requests


async def test_a_request_opens_an_event(city: Node) -> None:
    doubt = common_pb2.Flag(code="ZONE_CONFLICT", field="point", reason="elsewhere")
    await city.hear(filed(flags=[doubt]))
    (event,) = await events(city)
    assert (event.zone, event.status, list(event.requests)) == ("us-ca-sf-d10", "collected", [filed().request.name])
    assert event.occurred_at == time_pb(YESTERDAY)
    assert list(event.flags) == [doubt]
    ((fact, message),) = await city.stated()
    assert (fact.zone, fact.key) == ("us-ca-sf-d10", event.name)
    assert (message.event, message.request) == (event, filed().request.name)
    (row,) = await city.rows("SELECT actor, action, resource FROM audit_entries WHERE resource = $1", event.name)
    assert tuple(row) == ("services/management", "management.events.open", event.name)


async def test_a_request_counts_once_however_often_it_is_told(city: Node) -> None:
    for _ in range(3):
        await city.hear(filed())
    await city.hear(filed(2))
    await city.hear(filed(2))
    (event,) = await events(city)
    assert (event.reports, len(event.requests)) == (2, 2)
    total = (await counters(city)).total
    assert (total.events, total.requests, total.merged) == (1, 2, 1)
    assert await city.stated_types() == ["EventOpened", "ReportMerged"]


async def test_one_request_told_twice_at_the_same_time_counts_once(city: Node) -> None:
    facts = [city.fact(filed(event_type=NOISE.name)) for _ in range(4)]
    results = await asyncio.gather(*(city.take_in(fact) for fact in facts), return_exceptions=True)
    assert None in results
    for fact, result in zip(facts, results, strict=True):
        if result is not None:  # what failed is delivered again
            await city.take_in(fact)
    assert (await counters(city)).total.requests == 1


async def test_requests_of_other_nodes_are_theirs(make_node: MakeNode) -> None:
    city = await make_node("sf", "us-ca-sf-d10")
    await city.hear(filed(zone="us-ca-sf-d10"))
    await city.hear(filed(zone="us-ca-sf-d10-potrero-hill"))
    await city.hear(filed(zone="cn-110000"))
    assert await events(city) == []
    await city.hear(filed(zone="us-ca-sf-d6"))
    assert len(await events(city)) == 1


async def test_a_zone_is_the_childs_from_the_fact_of_its_delegation_on(city: Node) -> None:
    zone = "us-ca-sf-d10-potrero-hill"
    delegated = ZoneDelegated(zone="us-ca-sf-d10", node="sf-d10")
    await city.hear(filed(1, zone, NOISE.name))
    await city.hear(delegated, node="sf-parent", received_from="sf-parent")  # how others divide is their business
    await city.hear(filed(2, zone, NOISE.name))
    await city.hear(delegated)
    await city.hear(filed(3, zone, NOISE.name))
    await city.hear(ZoneWithdrawn(zone="us-ca-sf-d10", node="sf-d10-old"))
    await city.hear(filed(4, zone, NOISE.name))
    await city.hear(ZoneWithdrawn(zone="us-ca-sf-d10", node="sf-d10"))
    await city.hear(filed(5, zone, NOISE.name))
    assert [event.requests[0][-2:] for event in await events(city)] == ["r1", "r2", "r5"]


async def test_a_zone_that_is_not_known_yet_is_waited_for(city: Node) -> None:
    with pytest.raises(Away):
        await city.hear(filed(zone="us-ca-sf-d11"))
    with pytest.raises(NotFound):
        await city.hear(filed(zone="us-ca-sf-d11"), received_from="sf-parent")


async def test_nothing_is_refused_for_being_odd(city: Node) -> None:
    odd = filed(event_type="eventTypes/ufo", place=None, reported_at=time_pb(NOW + timedelta(days=1)))
    await city.hear(odd)
    (event,) = await events(city)
    assert [flag.code for flag in event.flags] == ["TYPE_UNKNOWN", "NO_ROUTE", "TIME_IN_FUTURE"]
    assert not event.HasField("due_at")
    # A time before the opening is no obstacle later on, nor is the missing route once somebody decides.
    await walk(city, event.name, "file")
    assert (await walk(city, event.name, "dispatch", organisation=WORKS)).status == "dispatched"


# ------------------------------------------------------------------------------------------------------------ warnings


def raised(zone: str = "us-ca-sf-d10", event_type: str = NOISE.name) -> WarningRaised:
    text = common_pb2.LocalText(zh="超过阈值", en="above the threshold")
    return WarningRaised(
        warning=perception_pb2.Warning(
            name=f"zones/{zone}/warnings/w1",
            event_type=event_type,
            since=time_pb(YESTERDAY),
            raised_at=time_pb(NOW),
            reason=common_pb2.Explanation(rule="rules/loud", text=text),
            point=PLACE.point,
        )
    )


async def test_a_warning_opens_an_event_once(city: Node) -> None:
    await city.hear(raised())
    await city.hear(raised())
    (event,) = await events(city)
    assert (event.warning, event.reports, list(event.requests)) == (raised().warning.name, 1, [])
    assert event.description == "超过阈值\nabove the threshold"
    assert event.occurred_at == time_pb(YESTERDAY)
    total = (await counters(city)).total
    assert (total.events, total.requests) == (1, 0)


async def test_a_warning_and_a_request_may_mean_the_same(city: Node) -> None:
    await city.hear(filed())
    await city.hear(raised(event_type=GRAFFITI.name))
    (event,) = await events(city)
    assert (event.warning, event.reports, len(event.requests)) == (raised().warning.name, 2, 1)


async def test_warnings_without_a_type_and_those_of_peers_open_nothing(city: Node) -> None:
    await city.hear(raised(event_type=""))
    await city.hear(raised(), node="sf-d6", received_from="sf-d6")
    assert await events(city) == []


async def test_a_warning_about_a_childs_zone_is_acted_on_by_who_raised_it(make_node: MakeNode) -> None:
    city = await make_node("sf", "us-ca-sf-d10")
    await city.hear(raised("us-ca-sf-d10-potrero-hill"))
    (event,) = await events(city)
    assert event.zone == "us-ca-sf"
    assert [flag.code for flag in event.flags] == ["ZONE_DELEGATED", "NO_ROUTE"]


# --------------------------------------------------------------------------------------------------------------- tasks


async def in_joint_disposal(node: Node) -> pb.Event:
    await node.hear(filed())
    (event,) = await events(node)
    await walk(node, event.name, "file", "dispatch")
    drafts = [
        pb.SubOrderDraft(organisation=WORKS, instruction="paint"),
        pb.SubOrderDraft(organisation=SEWERS, instruction="pump"),
    ]
    request = pb.StartJointDisposalRequest(name=event.name, lead=WORKS, sub_orders=drafts, reason="both")
    started: pb.Event = (await node.call("StartJointDisposal", request, "people/dispatcher")).event
    return started


async def test_done_tasks_complete_their_shares(city: Node) -> None:
    event = await in_joint_disposal(city)
    await city.hear(task(event.name, "1", WORKS, "IN_PROGRESS"))
    done = task(event.name, "1", WORKS, note="painted", done_at=time_pb(NOW - timedelta(minutes=5)))
    for _ in range(2):
        await city.hear(done)
    await city.hear(task(event.name, "2", WORKS))  # not theirs
    await city.hear(task(event.name, "3", WORKS))  # no such share
    await city.hear(task("zones/us-ca-sf/events/none", "1", WORKS))
    await city.hear(task(event.name, "2", SEWERS), received_from="sf-d6")  # a peer does not settle our shares
    (event,) = await events(city)
    assert [(share.done, share.note) for share in event.sub_orders] == [(True, "painted"), (False, "")]
    assert event.sub_orders[0].done_at == time_pb(NOW - timedelta(minutes=5))
    await city.hear(task(event.name, "2", SEWERS))
    (event,) = await events(city)
    assert event.revision == 6
    stated = [message for _, message in await city.stated() if isinstance(message, facts_pb2.SubOrderCompleted)]
    assert [(message.sub_order.id, message.remaining, message.revision) for message in stated] == [
        ("1", 1, 5),
        ("2", 0, 6),
    ]
    assert (await walk(city, event.name, "dispose")).status == "disposed"


async def test_a_cancelled_task_withdraws_its_share(city: Node) -> None:
    event = await in_joint_disposal(city)
    await city.hear(task(event.name, "1", WORKS))
    await city.hear(task(event.name, "2", SEWERS, "CANCELLED", note="no pump"))
    event = await walk(city, event.name, "dispose")
    assert [share.done for share in event.sub_orders] == [True, False]
    assert [flag.code for flag in event.flags] == ["SUB_ORDER_CANCELLED"]
    assert "no pump" in event.flags[0].reason


# ------------------------------------------------------------------------------------------------------------- the bus


async def test_requests_come_from_the_bus_and_events_go_to_it(city: Node, bus: ConnectBus) -> None:
    management, delivery = await bus("management"), await bus("delivery")
    consumer = FactConsumer(city.transactions, management, "management", city.wired.handlers)
    relay = OutboxRelay(city.transactions.pool, management, "management")
    heard: list[str] = []

    async def hear(message: Any) -> None:
        heard.append(message.subject)

    await delivery.client.subscribe(subject_of("quintet.management.v1.*"), cb=hear)
    async with running(consumer.run(), relay.run()):
        for number in range(1, 21):
            fact = city.fact(filed(number), key=f"zones/us-ca-sf-d10/requests/r{number}")
            await delivery.publish(fact)
            await delivery.publish(fact)

        async def counted() -> bool:
            return (await counters(city)).total.requests == 20

        await eventually(counted)

        async def empty() -> bool:
            return not await city.rows("SELECT FROM outbox")

        await eventually(empty)
    total = (await counters(city)).total
    assert (total.events, total.merged) == (1, 19)
