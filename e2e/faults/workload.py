"""What flows while faults happen: numbered facts under keys, real requests, rows of a product; and what to expect.

Facts of a key are numbered from 1; the ledger keeps what was really committed, whatever the answer to the commit was.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import httpx

from deploy.tests.filing import MAY_PASS
from e2e.faults.federation import (
    DISTRICT,
    DISTRICT_HINT,
    DISTRICT_ZONE,
    INDICATOR,
    PARTNER_ZONE,
    STATION_KEPT_CHARS,
    Federation,
)
from e2e.faults.nodes import FaultNode
from libs.context import caller_subject
from libs.errors import Away, Stale
from libs.tx import Transactions, Tx
from quintet.common.v1.common_pb2 import LocalText
from quintet.management.v1 import facts_pb2 as management
from quintet.management.v1 import management_pb2
from quintet.perception.v1 import facts_pb2 as perception

RETRY_S = 0.1
FIRST_DAY = date(2026, 1, 1)
STATED = "faults.batches.state"


@dataclass
class Ledger:
    """What one stretch of work has committed.

    events: the last number stated of each event; requests: those filed; rows: device and day with mean and station, as
    last stated. facts counts the single facts, rows included.
    """

    events: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    rows: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)
    facts: int = 0

    def add(self, other: "Ledger") -> None:
        """Take in another stretch."""
        self.events |= other.events
        self.requests += other.requests
        self.rows |= other.rows
        self.facts += other.facts

    @property
    def expected_rows(self) -> dict[tuple[str, str], dict[str, object]]:
        """What the contract makes of the rows, said here once more and not by the code that does it."""
        return {
            (device, day): {"device": device, "day": day, "mean": mean, "station": station[:STATION_KEPT_CHARS]}
            for (device, day), (mean, station) in self.rows.items()
        }


class Workload:
    """Works on the nodes as clients and services do: patiently, and never the same thing twice."""

    def __init__(self, federation: Federation, district: Transactions, partner: Transactions) -> None:
        """Use `run_workload`."""
        self._federation = federation
        self._district = district
        self._partner = partner
        self._run = uuid4().hex[:8]
        self._stretch = 0
        self.token = ""

    async def stretch(self, *, events: int, numbers: int, rows: int, requests: int, seconds: float = 0.0) -> Ledger:
        """Do a stretch of work, spread over `seconds`; return what was committed.

        States `events` keys with `numbers` facts each at the district, writes `rows` rows at the partner, each twice,
        and files `requests` at the city for the district's zone.
        """
        self._stretch += 1
        ledger = Ledger()
        pause_s = seconds / numbers if numbers else 0.0
        async with asyncio.TaskGroup() as group:
            group.create_task(self._state_events(ledger, events, numbers, pause_s))
            group.create_task(self._write_rows(ledger, rows, seconds / 2))
            group.create_task(self._file(ledger, requests))
        return ledger

    # ------------------------------------------------------------------------------------- facts upwards: the district

    async def _state_events(self, ledger: Ledger, events: int, numbers: int, pause_s: float) -> None:
        """Number by number for all keys: facts of one key lie far apart in the stream, where order is hardest."""
        names = [f"zones/{DISTRICT_ZONE}/events/{self._run}-{self._stretch}-{index}" for index in range(events)]
        for number in range(1, numbers + 1):

            def state(tx: Tx, number: int = number) -> None:
                for name in names:
                    fact = _opened(name, tx.now) if number == 1 else _advanced(name, number, tx.now)
                    tx.publish(fact, zone=DISTRICT_ZONE, key=name)

            await self._once(self._federation.district, self._district, state)
            ledger.events.update(dict.fromkeys(names, number))
            ledger.facts += len(names)
            await asyncio.sleep(pause_s)

    # ------------------------------------------------------------------------------------- rows: the partner's product

    async def _write_rows(self, ledger: Ledger, rows: int, pause_s: float) -> None:
        for revision in (1, 2):
            said = {
                (f"zones/{PARTNER_ZONE}/devices/{self._run}-{self._stretch}", _day(index)): (
                    self._stretch * 1000 + index + revision / 10,
                    f"Station {self._stretch}",
                )
                for index in range(rows)
            }

            def state(tx: Tx, said: dict[tuple[str, str], tuple[float, str]] = said, revision: int = revision) -> None:
                for (device, day), (mean, station) in said.items():
                    fact = perception.DailyAggregateComputed(
                        device=device,
                        title=LocalText(en=station, zh=station),
                        indicator=INDICATOR,
                        day=day,
                        count=24,
                        mean=mean,
                        maximum=mean * 2,
                        revision=revision,
                    )
                    tx.publish(fact, zone=PARTNER_ZONE, key=device)

            if rows:
                await self._once(self._federation.partner, self._partner, state)
                ledger.rows |= said
                ledger.facts += rows
            await asyncio.sleep(pause_s)

    # ------------------------------------------------------------------------------------ requests downwards: the city

    async def _file(self, ledger: Ledger, requests: int) -> None:
        """Each keeps its request id until it is answered, as a careful client does."""
        for _ in range(requests):
            ledger.requests.append(await self._filed())
            ledger.facts += 1

    async def _filed(self) -> str:
        body = {
            "type": self._federation.event_type,
            "description": "A lamp is out",
            "place": {"zoneHint": DISTRICT_HINT, "address": f"{uuid4().hex[:12]} Street"},
            "requestId": str(uuid4()),
        }
        while True:
            with suppress(httpx.TransportError):
                async with self._federation.city.process.client() as client:
                    if not self.token:
                        self.token = await _sign_in(self._federation.city)
                    headers = {"authorization": f"Bearer {self.token}"}
                    answer = await client.post("/v1/requests", json=body, headers=headers)
                if answer.status_code == httpx.codes.OK:
                    return str(answer.json()["request"]["name"])
                if answer.status_code == httpx.codes.UNAUTHORIZED:
                    self.token = ""
                else:
                    assert answer.status_code in MAY_PASS, answer.text
            await asyncio.sleep(RETRY_S)

    # ---------------------------------------------------------------------------------------------------- exactly once

    async def _once(self, node: FaultNode, transactions: Transactions, state: Callable[[Tx], None]) -> None:
        """Commit what `state` states, once, however often the database goes away: the audit log knows if it did."""
        batch = f"batches/{uuid4().hex}"

        async def work(tx: Tx) -> None:
            query = "SELECT EXISTS (SELECT FROM audit_entries WHERE resource = $1)"
            if not await tx.conn.fetchval(query, batch):
                state(tx)
                tx.audit(STATED, batch, node=node.id)

        subject = caller_subject.set("services/faults")
        try:
            while True:
                with suppress(Away, Stale):
                    await transactions.run(work)
                    return
                await asyncio.sleep(RETRY_S)
        finally:
            caller_subject.reset(subject)


@asynccontextmanager
async def run_workload(federation: Federation) -> AsyncIterator[Workload]:
    """A workload with its connections."""
    async with AsyncExitStack() as stack:
        district = await stack.enter_async_context(federation.district.transactions("management"))
        partner = await stack.enter_async_context(federation.partner.transactions("perception"))
        yield Workload(federation, district, partner)


async def _sign_in(node: FaultNode) -> str:
    while True:
        with suppress(httpx.HTTPStatusError, httpx.TransportError):
            async with node.process.signed_in() as client:
                return client.headers["authorization"].removeprefix("Bearer ")
        await asyncio.sleep(RETRY_S)


def _day(index: int) -> str:
    return (FIRST_DAY + timedelta(days=index)).isoformat()


def _opened(name: str, now: datetime) -> management.EventOpened:
    event = management_pb2.Event(
        name=name,
        zone=DISTRICT_ZONE,
        node=DISTRICT,
        type="eventTypes/street-light",
        type_version=1,
        status="collected",
        revision=1,
        reports=1,
    )
    event.occurred_at.FromDatetime(now.astimezone(UTC))
    event.opened_at.FromDatetime(now.astimezone(UTC))
    return management.EventOpened(event=event)


def _advanced(name: str, number: int, now: datetime) -> management.EventAdvanced:
    """A step between two states and back: what the city shows in the end depends on the last one."""
    status = "filed" if number % 2 == 0 else "dispatched"
    step = management_pb2.EventStep(revision=number, action="note", to=status, actor="people/node-admin")
    step.occurred_at.FromDatetime(now.astimezone(UTC))
    return management.EventAdvanced(
        event=name, step=step, status=status, revision=number, zone=DISTRICT_ZONE, node=DISTRICT
    )
