"""What happens between a district and the city above it in the tests of tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from quintet.management.v1 import management_pb2
from quintet.management.v1 import tiers_pb2 as pb
from services.management.tests.samples import WORKS
from services.management.tests.story import OFFICER, counters, events, filed, walk

if TYPE_CHECKING:
    from services.management.tests.conftest import MakeNode, Node

DISTRICT = "us-ca-sf-d10"
STREET = "us-ca-sf-d10-potrero-hill"
SUPERVISOR = "people/supervisor"
CITY_CREW = "organisations/sewer-ops"


class Family(NamedTuple):
    """A district that handles its own zone, and the city above it."""

    district: Node
    city: Node

    async def talk(self) -> None:
        """Let each hear what the other stated, until nobody has anything new to say."""
        before = -1
        while before != (now := len(await self.district.stated()) + len(await self.city.stated())):
            before = now
            await self.district.report_to(self.city)
            await self.city.report_to(self.district)


async def family(make_node: MakeNode) -> Family:
    return Family(await make_node("sf-d10", root=DISTRICT), await make_node("sf", DISTRICT))


async def dispatched(node: Node, number: int = 1, **more: Any) -> str:
    """Let a resident report something at the node and have it dispatched; return the event."""
    await node.hear(filed(number, zone=DISTRICT, **more))
    (row,) = await node.rows("SELECT name FROM events ORDER BY id DESC LIMIT 1")
    await walk(node, row["name"], "file")
    await walk(node, row["name"], "dispatch", organisation=WORKS)
    return str(row["name"])


async def ask(city: Node, event: str, **more: Any) -> pb.TakeOver:
    values = {"organisation": CITY_CREW, "reason": "区里力量不足 too big for the district"} | more
    request = pb.TakeOverEventRequest(event=event, **values)
    found: pb.TakeOver = (await city.call("TakeOverEvent", request, SUPERVISOR)).take_over
    return found


async def state(node: Node, name: str) -> pb.TakeOver:
    found: pb.TakeOver = (await node.call("GetTakeOver", pb.GetTakeOverRequest(name=name), SUPERVISOR)).take_over
    return found


async def got(node: Node, name: str) -> management_pb2.Event:
    event: management_pb2.Event = (
        await node.call("GetEvent", management_pb2.GetEventRequest(name=name), OFFICER)
    ).event
    return event


async def steps(node: Node, name: str) -> list[tuple[int, str, str]]:
    request = management_pb2.ListEventStepsRequest(name=name)
    found = (await node.call("ListEventSteps", request, OFFICER)).steps
    return [(step.revision, step.action, step.to) for step in found]


def shared(event: management_pb2.Event) -> management_pb2.Event:
    """Return what all nodes say of an event alike: the versions of its type and loop are numbered by each node."""
    found = management_pb2.Event()
    found.CopyFrom(event)
    for field in ("loop", "loop_version", "type_version"):
        found.ClearField(field)
    return found


async def taken_over(both: Family, event: str) -> pb.TakeOver:
    asked = await ask(both.city, event)
    await both.talk()
    return await state(both.city, asked.name)


async def finish(node: Node, event: str) -> None:
    for action, actor in (("dispose", "people/handler.ops"), ("feed_back", "people/handler.ops")):
        request = management_pb2.AdvanceEventRequest(name=event, action=action)
        if action == "feed_back":
            request.answer = "已清除 Cleaned"
        await node.call("AdvanceEvent", request, actor)
    await walk(node, event, "verify")


async def agree(both: Family) -> None:
    district, city = both
    assert [shared(each) for each in await events(city, DISTRICT)] == [
        shared(each) for each in await events(district, DISTRICT)
    ]
    there, here = await counters(district), await counters(city)
    assert list(here.zones) == list(there.zones)
    assert here.total.by_status == there.total.by_status
