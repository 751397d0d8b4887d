"""The office of a node: its people find new events and take the steps that the record says were taken."""

import asyncio
import heapq
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from demo.calls import ETAG_STALE, ask
from demo.joint import JointDisposal
from demo.people import Clients
from demo.records import Record
from demo.timeline import AFTER_ALL, CHECKED_STATUSES, STEPS, WAITING_STATUS, FilingPosition, due, recorded_closing
from quintet.management.v1 import management_pb2 as pb
from quintet_sdk import Client, QuintetError

HANDS_MAX = 6
LOOK_INTERVAL_S = 1.0
PAGE_SIZE = 500
ANSWER_CHARS_MAX = 1000
# Found again after an interruption with KEEP=1; new events are "collected".
LOOK_AGAIN = frozenset({ETAG_STALE, "WRONG_STATE", "REQUEST_ID_REUSED"})
UNFINISHED = ("filed", "dispatched", "disposed", "fed_back", "closed")


@dataclass(order=True, slots=True)
class _Waiting:
    at: datetime
    name: str
    event: pb.Event = field(compare=False)


@dataclass(slots=True)
class Tally:
    """What an office has done so far."""

    events: int = 0
    steps: int = 0
    finished: int = 0
    reworked: int = 0


class Office:
    """The people of one node. `records` are the filed requests by name, filled while residents file."""

    def __init__(
        self,
        node: str,
        zone: str,
        clients: Clients,
        records: Mapping[str, Record],
        position: FilingPosition,
        *,
        joint: JointDisposal | None = None,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self.node = node
        self.tally = Tally()
        self._zone = zone
        self._clients = clients
        self._records = records
        self._position = position
        self._joint = joint
        self._told = told
        self._known: set[str] = set()
        self._ready: asyncio.Queue[pb.Event] = asyncio.Queue()
        self._waiting: list[_Waiting] = []
        self._unfiled: list[pb.Event] = []
        self._busy = 0

    @property
    def backlog(self) -> int:
        """Events that could be worked on now."""
        now = self._position.time
        overdue = sum(1 for item in self._waiting if item.at <= now) if self._waiting else 0
        return self._ready.qsize() + self._busy + overdue

    @property
    def idle(self) -> bool:
        """Whether nothing is left that will ever be due."""
        return not self._ready.qsize() and not self._busy and not self._waiting and not self._unfiled

    async def run(self) -> None:
        """Work until cancelled."""
        await self._look(UNFINISHED)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            for _ in range(HANDS_MAX):
                group.create_task(self._hand())

    async def _watch(self) -> None:
        while True:
            await self._look(("collected",))
            self._requeue()
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def look(self) -> None:
        """Look for new events now."""
        await self._look(("collected",))

    async def _look(self, statuses: tuple[str, ...]) -> None:
        client = await self._clients.staff(self.node, "duty-officer")
        for status in statuses:
            token = ""
            while True:
                request = pb.ListEventsRequest(
                    parent=f"zones/{self._zone}", status=status, own_only=True, page_size=PAGE_SIZE, page_token=token
                )
                page = await ask(client.management.ListEvents, request)
                for event in reversed(page.events):
                    if event.name not in self._known:
                        self._known.add(event.name)
                        self.tally.events += 1
                        self._ready.put_nowait(event)
                token = page.next_page_token
                if not token:
                    break

    async def _hand(self) -> None:
        while True:
            event = await self._ready.get()
            self._busy += 1
            try:
                await self._work(event)
            finally:
                self._busy -= 1

    async def _work(self, event: pb.Event) -> None:
        """Take steps until the event is finished, or must wait for its recorded closing."""
        while event.status in STEPS:
            if event.status in CHECKED_STATUSES:
                if not event.requests and not event.warning:
                    event = await self._get(event.name)
                if not self._filed(event):  # the event was quicker than the answer to the resident
                    self._unfiled.append(event)
                    return
                records = [self._records[name] for name in event.requests]
                at = due(records)
                if at is None or at > self._position.time:
                    if event.status == WAITING_STATUS:
                        if at is not None:
                            heapq.heappush(self._waiting, _Waiting(at, event.name, event))
                        return
                    event = await self._rework(event)
                    continue
                if event.status == WAITING_STATUS and self._joint is not None:
                    after = await self._joint.offer(self.node, event)
                    if after.revision != event.revision:
                        event = after
                        continue
            else:
                records = []
            event = await self._step(event, records)
        self.tally.finished += 1
        self._told()

    async def _step(self, event: pb.Event, records: list[Record]) -> pb.Event:
        action, post = STEPS[event.status]
        request = pb.AdvanceEventRequest(
            name=event.name,
            action=action,
            reason=_REASONS[action],
            request_id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{event.name}/{event.revision}/{action}")),
        )
        if event.status in CHECKED_STATUSES:
            request.etag = event.revision
            closed = recorded_closing(records)
            if closed is not None:
                request.occurred_at.FromDatetime(closed)
        elif action in {"file", "dispatch"}:
            request.occurred_at.CopyFrom(event.occurred_at)
        elif action == "feed_back":
            known = [self._records[name] for name in event.requests if name in self._records]
            request.answer = next((record.notes[:ANSWER_CHARS_MAX] for record in known if record.notes), "")
        client = await self._client(event, post)
        try:
            answer = await ask(client.management.AdvanceEvent, request)
        except QuintetError as error:
            # Somebody reported the same thing meanwhile, or an earlier attempt went through: look again.
            if error.reason not in LOOK_AGAIN:
                raise
            return await self._get(event.name)
        self.tally.steps += 1
        return answer.event

    async def _rework(self, event: pb.Event) -> pb.Event:
        """A request joined the event after the department was done, and it is not over yet."""
        client = await self._client(event, "verifier")
        request = pb.AdvanceEventRequest(
            name=event.name, action="rework", reason="A further report says that it is not over.", etag=event.revision
        )
        try:
            answer = await ask(client.management.AdvanceEvent, request)
        except QuintetError as error:
            if error.reason not in LOOK_AGAIN:
                raise
            return await self._get(event.name)
        self.tally.reworked += 1
        return answer.event

    async def _client(self, event: pb.Event, post: str) -> Client:
        if post == "handler":
            return await self._clients.handler(self.node, event.organisation)
        return await self._clients.staff(self.node, post)

    async def _get(self, name: str) -> pb.Event:
        client = await self._clients.staff(self.node, "verifier")
        answer = await ask(client.management.GetEvent, pb.GetEventRequest(name=name))
        return answer.event

    def _filed(self, event: pb.Event) -> bool:
        return all(name in self._records for name in event.requests)

    def _requeue(self) -> None:
        """Take up again what became due, and events whose requests are known by now."""
        now = self._position.time
        while self._waiting and self._waiting[0].at <= now:
            self._ready.put_nowait(heapq.heappop(self._waiting).event)
        unfiled, self._unfiled = self._unfiled, []
        for event in unfiled:
            if self._filed(event):
                self._ready.put_nowait(event)
            elif now != AFTER_ALL:
                self._unfiled.append(event)
            # Else somebody filed a request of their own at the running demo: it is theirs to deal with.


_REASONS = {
    "file": "Checked and filed.",
    "dispatch": "To the department that routing names.",
    "dispose": "Dealt with on the day that the record says.",
    "feed_back": "Reported back to the reporters.",
    "verify": "Checked on the spot.",
    "evaluate": "Loop completed as recorded.",
}
