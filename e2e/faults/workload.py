"""What flows while faults happen: numbered facts under keys, rows of a product, and what people do (people.py).

Facts of a key are numbered from 1.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

from e2e.faults.federation import DISTRICT, DISTRICT_ZONE, INDICATOR, PARTNER_ZONE, Federation
from e2e.faults.ledger import EVENTS, ROW_REVISIONS, ROWS, Ledger
from e2e.faults.nodes import FaultNode
from e2e.faults.people import People
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


class Workload:
    """Works on the nodes as clients and services do: patiently, and never the same thing twice."""

    def __init__(
        self,
        federation: Federation,
        district: Transactions,
        partner: Transactions,
        people: People,
        clerk: asyncio.Task[None],
    ) -> None:
        """Use `run_workload`."""
        self._clerk = clerk
        self._federation = federation
        self._people = people
        self._district = district
        self._partner = partner
        self._run = uuid4().hex[:8]
        self._stretch = 0

    async def stretch(
        self,
        *,
        events: int,
        numbers: int,
        rows: int,
        requests: int,
        directives: int,
        transfers: int,
        seconds: float = 0.0,
    ) -> Ledger:
        """Do a stretch of work, spread over `seconds`; return what was committed.

        States `events` keys with `numbers` facts each at the district, writes `rows` rows at the partner, each twice,
        files `requests` at the city for the district's zone and gives `directives` to it, and holds the transfer of the
        contract's rows `transfers` times.
        """
        if self._clerk.done():  # nobody else would say why directives are not acknowledged any more
            self._clerk.result()
        self._stretch += 1
        ledger = Ledger()
        pause_s = seconds / numbers if numbers else 0.0
        async with asyncio.TaskGroup() as group:
            group.create_task(self._state_events(ledger, events, numbers, pause_s))
            group.create_task(self._write_rows(ledger, rows, seconds / ROW_REVISIONS))
            group.create_task(self._people.file(ledger, requests))
            group.create_task(self._people.direct(ledger, directives))
            for _ in range(transfers):
                group.create_task(self._people.hold_transfer(ledger, seconds / 2))
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
            ledger.sent[EVENTS] += len(names)
            await asyncio.sleep(pause_s)

    # ------------------------------------------------------------------------------------- rows: the partner's product

    async def _write_rows(self, ledger: Ledger, rows: int, pause_s: float) -> None:
        for revision in range(1, ROW_REVISIONS + 1):
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
                ledger.sent[ROWS] += rows
            await asyncio.sleep(pause_s)

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
async def run_workload(federation: Federation, chance: random.Random) -> AsyncIterator[Workload]:
    """A workload with its connections, and the clerk at work."""
    people = People(federation, chance)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(people.close)
        district_data = await stack.enter_async_context(federation.district.database())
        clerk = asyncio.create_task(people.acknowledge(district_data), name="clerk")
        stack.push_async_callback(_ended, clerk)
        district = await stack.enter_async_context(federation.district.transactions("management"))
        partner = await stack.enter_async_context(federation.partner.transactions("perception"))
        yield Workload(federation, district, partner, people, clerk)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


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
