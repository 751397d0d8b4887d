"""What happens at a node in the tests of facts: requests are filed, events walk, tasks are done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quintet.collaboration.v1 import collaboration_pb2
from quintet.collaboration.v1.facts_pb2 import TaskChanged
from quintet.common.v1 import common_pb2
from quintet.delivery.v1 import delivery_pb2
from quintet.delivery.v1.facts_pb2 import RequestFiled
from quintet.management.v1 import management_pb2 as pb
from services.management.convert import time_pb
from services.management.tests.samples import GRAFFITI, NOW, TWIN_PEAKS, YESTERDAY

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

PLACE = common_pb2.Place(
    address=TWIN_PEAKS.address,
    point=common_pb2.Point(latitude=TWIN_PEAKS.latitude or 0, longitude=TWIN_PEAKS.longitude or 0),
)
OFFICER = "people/duty-officer"
STEPS = {
    "file": OFFICER,
    "dispatch": "people/dispatcher",
    "dispose": "people/handler.works",
    "feed_back": "people/handler.works",
    "verify": "people/verifier",
    "evaluate": "people/supervisor",
}


def filed(number: int = 1, zone: str = "us-ca-sf-d10", event_type: str = GRAFFITI.name, **more: Any) -> RequestFiled:
    values: dict[str, Any] = {"place": PLACE, "reported_at": time_pb(YESTERDAY), "filed_at": time_pb(NOW)} | more
    return RequestFiled(
        request=delivery_pb2.Request(
            name=f"zones/{zone}/requests/r{number}", zone=zone, type=event_type, description="Tags", **values
        )
    )


async def events(node: Node, parent: str = "") -> list[pb.Event]:
    """Return the node's events, oldest first, as its officers see them in full."""
    zone = parent or node.zones.root
    response = await node.call("ListEvents", pb.ListEventsRequest(parent=f"zones/{zone}"), OFFICER)
    return [
        (await node.call("GetEvent", pb.GetEventRequest(name=event.name), OFFICER)).event
        for event in reversed(response.events)
    ]


async def counters(node: Node, zone: str = "us-ca-sf-d10") -> pb.GetCountersResponse:
    response: pb.GetCountersResponse = await node.call(
        "GetCounters", pb.GetCountersRequest(zone=f"zones/{zone}"), OFFICER
    )  # fmt: skip
    return response


async def walk(node: Node, name: str, *actions: str, **more: Any) -> pb.Event:
    event = pb.Event()
    for action in actions:
        request = pb.AdvanceEventRequest(name=name, action=action, **more)
        event = (await node.call("AdvanceEvent", request, STEPS[action])).event
    return event


def task(event: str, number: str, organisation: str, state: str = "DONE", **more: Any) -> TaskChanged:
    found = collaboration_pb2.Task(
        name=f"tasks/{number}",
        event=event,
        sub_order=number,
        organisation=organisation,
        state=collaboration_pb2.TaskState.Value(f"TASK_STATE_{state}"),
        **more,
    )
    return TaskChanged(task=found, actor="people/handler.x")
