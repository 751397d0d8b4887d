"""Joint disposals: two events of the demo are dealt with by two departments together, talk and tasks included."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from demo.calls import ask, until
from demo.people import Clients
from quintet.collaboration.v1 import collaboration_pb2 as collaboration
from quintet.management.v1 import management_pb2 as management
from quintet_sdk import new_request_id

# The node, and the two departments that share the work: the first one leads.
PAIRS: Mapping[str, tuple[str, str]] = {
    "sf": ("organisations/puc-sewer", "organisations/public-works"),
    "sf-d10": ("organisations/d10.sewer", "organisations/d10.public-works"),
}
TYPE = "eventTypes/sewer-flooding"
TIMEOUT_S = 120.0


@dataclass(slots=True)
class JointDisposal:
    """Picks the first dispatched sewer flooding of each node in PAIRS."""

    clients: Clients
    # The events taken, by node.
    events: dict[str, str] = field(default_factory=dict)
    messages: int = 0
    tasks: int = 0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    async def offer(self, node: str, event: management.Event) -> management.Event:
        """Deal with the event jointly if it is the one for that; returns it as it is then, with all shares done."""
        pair = PAIRS.get(node)
        if pair is None or event.type != TYPE or event.organisation != pair[0]:
            return event
        async with self._lock:
            if node in self.events:
                return event
            self.events[node] = event.name
        return await self._do(node, event, pair)

    async def _do(self, node: str, event: management.Event, pair: tuple[str, str]) -> management.Event:
        dispatcher = await self.clients.staff(node, "dispatcher")
        request = management.StartJointDisposalRequest(
            name=event.name,
            lead=pair[0],
            reason="The street must be closed while the sewer is opened.",
            request_id=new_request_id(),
        )
        request.sub_orders.add(organisation=pair[0], instruction="Open and clear the sewer.")
        request.sub_orders.add(organisation=pair[1], instruction="Close the lane, clean the street afterwards.")
        await ask(dispatcher.management.StartJointDisposal, request)
        for organisation in pair:
            await self._share(node, event.name, organisation)
        verifier = await self.clients.staff(node, "verifier")
        get = management.GetEventRequest(name=event.name)
        latest = event

        async def settled() -> bool:
            nonlocal latest
            latest = (await ask(verifier.management.GetEvent, get)).event
            return bool(latest.sub_orders) and all(share.done for share in latest.sub_orders)

        await until(f"the shares of {event.name}", settled, TIMEOUT_S)
        return latest

    async def _share(self, node: str, event: str, organisation: str) -> None:
        """One department's work: a word in the channel, and the task done."""
        handler = await self.clients.handler(node, organisation)
        found: list[collaboration.Task] = []

        async def assigned() -> bool:
            request = collaboration.ListTasksRequest(event=event)
            answer = await ask(handler.collaboration.ListTasks, request)
            found[:] = [task for task in answer.tasks if task.organisation == organisation]
            return bool(found)

        await until(f"the task of {organisation} for {event}", assigned, TIMEOUT_S)
        for task in found:
            message = collaboration.PostMessageRequest(
                channel=task.channel, text=f"Done: {task.title}", request_id=new_request_id()
            )
            await ask(handler.collaboration.PostMessage, message)
            self.messages += 1
            update = collaboration.UpdateTaskRequest(
                name=task.name,
                state=collaboration.TASK_STATE_DONE,
                note="Done as ordered.",
                request_id=new_request_id(),
            )
            await ask(handler.collaboration.UpdateTask, update)
            self.tasks += 1
