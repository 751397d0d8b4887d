"""The reconciliation, the same after every fault: what was stated is applied once, in order, and nothing else is there.

It reads the databases of all nodes as their operator would, and shares no code with what did the work. The order in
which a receiver wrote is PostgreSQL's own word: the number of the writing transaction (xmin), and its command (cmin).
After a crash PostgreSQL knows no commands any more: the order within one transaction is then unknown.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from e2e.faults.federation import CITY_ZONE, DISTRICT, DISTRICT_ZONE, HELD_PRODUCT, NODES, Federation
from e2e.faults.nodes import FaultNode
from e2e.faults.workload import Ledger
from libs.config import PARTS
from libs.db import Pool
from libs.errors import Away

SETTLE_S = 90.0
SETTLE_POLL_S = 0.1
SHOWN_MAX = 5
# Tables whose rows are on their way: in the end there are none.
WAITING = [f"{part}.{table}" for part in PARTS for table in ("outbox", "inbox_waiting")]
DEAD = [f"{part}.inbox_dead" for part in PARTS]


@dataclass
class Verdict:
    """The figures of one reconciliation. faults says in words what is wrong; empty when everything holds."""

    sent: int = 0
    applied: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.faults and self.lost == self.doubled == self.disordered == 0

    def note(self, what: str, names: Sequence[object]) -> int:
        """Note a fault about these, if there are any; return how many."""
        if names:
            more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
            self.faults.append(f"{what}: {', '.join(str(name) for name in names[:SHOWN_MAX])}{more}")
        return len(names)


class Reconciler:
    """Looks into the nodes of a federation."""

    def __init__(self, federation: Federation, databases: Mapping[str, Pool]) -> None:
        """Use `open_reconciler`."""
        self._federation = federation
        self._databases = databases
        # By contract, what its sender has counted more than its receiver, and had every reason to.
        self._uneven: dict[str, int] = {}
        self._city, self._district = databases[federation.city.id], databases[federation.district.id]

    async def settle(self, ledger: Ledger, within_s: float = SETTLE_S) -> Verdict:
        """Wait until everything of the ledger is applied and nothing waits, then compare; the wait is bounded."""
        started = monotonic()
        verdict = Verdict()
        while monotonic() - started < within_s:
            try:
                verdict = await self.compare(ledger)
            except (Away, OSError) as error:  # a database is still on its way back
                verdict = Verdict(sent=ledger.facts, lost=ledger.facts, faults=[repr(error)])
            # A fact that was doubled or out of order stays so: only what is missing or waits may still change.
            if verdict.ok or verdict.doubled or verdict.disordered:
                break
            await asyncio.sleep(SETTLE_POLL_S)
        return verdict

    async def compare(self, ledger: Ledger) -> Verdict:
        """Hold the ledger against what the nodes have now."""
        verdict = Verdict(sent=ledger.facts)
        await _compare_events(verdict, ledger, self._city)
        await _compare_requests(verdict, ledger, self._city, self._district)
        await _compare_rows(verdict, ledger, self._city, self._federation.contract)
        for node, database in self._databases.items():
            await _compare_queues(verdict, node, database)
        return verdict

    async def compare_all(self, everything: Ledger) -> Verdict:
        """The same, and what can only be said of everything that was ever done: totals, strangers and audit chains."""
        verdict = await self.settle(everything)
        await _compare_strangers(verdict, everything, self._city, self._district)
        await _compare_counters(verdict, self._city)
        uneven = await _uneven_counts(self._databases)
        wrong = {name: more - self._uneven.get(name, 0) for name, more in uneven.items()}
        verdict.note(
            "contracts whose sender and receiver count differently",
            [f"{name}: {more} more at the sender" for name, more in wrong.items() if more],
        )
        verdict.doubled += sum(max(0, -more) for more in wrong.values())
        for node in self._federation.nodes:
            await _verify_audit(verdict, node)
        return verdict

    async def accept_counts(self) -> None:
        """Take the present difference between senders' and receivers' counts as it is: one of them was restored."""
        self._uneven = await _uneven_counts(self._databases)


@asynccontextmanager
async def open_reconciler(federation: Federation) -> AsyncIterator[Reconciler]:
    """A reconciler with its connections, which outlive what happens to the databases."""
    async with AsyncExitStack() as stack:
        databases = {node.id: await stack.enter_async_context(node.database()) for node in federation.nodes}
        yield Reconciler(federation, databases)


async def _rows(database: Pool, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    async with database.acquire() as connection:
        return [tuple(row) for row in await connection.fetch(sql, *parameters)]


# ---------------------------------------------------------------------------------------------------- facts, upwards


async def _compare_events(verdict: Verdict, ledger: Ledger, city: Pool) -> None:
    """Each number of each key once at the city, in the order of the numbers, with the last one's state."""
    written: dict[str, list[int]] = defaultdict(list)
    states: dict[str, tuple[int, str]] = {}
    for name, revision, shown, status in await _rows(
        city,
        """SELECT e.name, s.revision, e.revision, e.status
        FROM management.event_steps s JOIN management.events e ON e.id = s.event_id
        WHERE e.name = ANY($1::text[])
        ORDER BY s.xmin::text::bigint, s.cmin::text::bigint, s.revision""",
        list(ledger.events),
    ):
        written[name].append(revision)
        states[name] = shown, status
    for name, last in ledger.events.items():
        found = written.get(name, [])
        verdict.applied += len(set(found))
        verdict.lost += verdict.note(f"{name} lacks", sorted(set(range(1, last + 1)) - set(found)))
        verdict.doubled += verdict.note(f"{name} has twice", sorted({one for one in found if found.count(one) > 1}))
        verdict.note(f"{name} has what nobody stated", sorted(set(found) - set(range(1, last + 1))))
        if found != sorted(found):
            verdict.disordered += verdict.note(f"{name} was written out of order", [found])
        elif len(found) == last:
            status = "collected" if last == 1 else "filed" if last % 2 == 0 else "dispatched"
            if states[name] != (last, status):
                verdict.note(f"{name} ended as", [states[name]])


# ------------------------------------------------------------------------------------- requests, downwards and back up


async def _compare_requests(verdict: Verdict, ledger: Ledger, city: Pool, district: Pool) -> None:
    """Each request filed at the city stands in one event of the district, and the city knows in which."""
    filed = await _rows(
        city,
        """SELECT 'zones/' || zone || '/requests/' || id, event FROM delivery.requests
        WHERE 'zones/' || zone || '/requests/' || id = ANY($1::text[])""",
        ledger.requests,
    )
    known = {name: event for name, event in filed}  # noqa: C416 - its types
    handled: dict[str, list[str]] = defaultdict(list)
    for source, event in await _rows(
        district,
        """SELECT r.source, e.name FROM management.event_reports r JOIN management.events e ON e.id = r.event_id
        WHERE r.source = ANY($1::text[]) AND e.node = $2""",
        ledger.requests,
        DISTRICT,
    ):
        handled[source].append(event)
    lost = [name for name in ledger.requests if not handled.get(name)]
    doubled = [name for name in ledger.requests if len(handled.get(name, [])) > 1]
    verdict.lost += verdict.note("requests without an event at the district", lost)
    verdict.doubled += verdict.note("requests with two events", doubled)
    verdict.doubled += verdict.note("requests filed twice", [name for name in known if ledger.requests.count(name) > 1])
    unanswered = [name for name in ledger.requests if handled.get(name) and known.get(name) != handled[name][0]]
    verdict.note("requests of whose event the city was not told", unanswered)
    verdict.applied += len(ledger.requests) - len(lost)


# ----------------------------------------------------------------------------------------------- rows, under a contract


async def _compare_rows(verdict: Verdict, ledger: Ledger, city: Pool, contract: str) -> None:
    """The consumer has exactly the projected rows of the ledger."""
    expected = ledger.expected_rows
    found: dict[tuple[str, str], Mapping[str, object]] = {}
    for product, row in await _rows(
        city,
        "SELECT product, row::text FROM sharing.rows WHERE contract = $1 AND row ->> 'device' = ANY($2::text[])",
        contract,
        sorted({device for device, _ in expected}),
    ):
        values = json.loads(row)
        verdict.note("a row of another product", [product] if product != HELD_PRODUCT else [])
        found[values["device"], values["day"]] = values
    # Each row was stated twice, with another value the second time: the last counts, an older one is lost work.
    right = [key for key, row in expected.items() if found.get(key) == row]
    verdict.applied += len(right) * 2
    verdict.lost += 2 * verdict.note("rows missing", [key for key in expected if key not in found])
    wrong = [f"{found[key]}" for key in expected if key in found and found[key] != expected[key]]
    verdict.lost += 2 * verdict.note("rows other than the contract's projection", wrong)
    verdict.note("rows that nobody wrote", [key for key in found if key not in expected])


# --------------------------------------------------------------------------------------------------------- everywhere


async def _compare_queues(verdict: Verdict, node: str, database: Pool) -> None:
    """Nothing waits, here or for one of the nodes, and nothing was given up."""
    counted = " UNION ALL ".join(
        [f"SELECT '{table}', count(*) FROM {table}" for table in WAITING + DEAD]
        + ["SELECT 'federation.peer_waiting', count(*) FROM federation.peer_waiting WHERE peer = ANY($1::text[])"]
    )
    left = [f"{count} in {table}" for table, count in await _rows(database, counted, list(NODES)) if count]
    verdict.note(f"not empty at {node}", left)


async def _compare_strangers(verdict: Verdict, ledger: Ledger, city: Pool, district: Pool) -> None:
    """Nothing is there that nobody stated; what the district opened itself, it opened for requests."""
    opened = {name for (name,) in await _rows(district, "SELECT name FROM management.events WHERE node = $1", DISTRICT)}
    mirrored = {name for (name,) in await _rows(city, "SELECT name FROM management.events WHERE node = $1", DISTRICT)}
    verdict.lost += verdict.note("events of the district that the city lacks", sorted(opened - mirrored))
    verdict.note("events at the city that nobody stated", sorted(mirrored - opened - ledger.events.keys()))


async def _compare_counters(verdict: Verdict, city: Pool) -> None:
    """What people are shown as sums is what the rows come to: a fact applied twice would show."""
    shown = await _rows(
        city,
        """SELECT zone, status, sum(events)::bigint FROM (
            SELECT zone, status, events FROM management.counters
            UNION ALL SELECT zone, status, events FROM management.counter_deltas) c
        WHERE zone = ANY($1::text[]) GROUP BY zone, status HAVING sum(events) <> 0""",
        [CITY_ZONE, DISTRICT_ZONE],
    )
    counted = await _rows(
        city,
        "SELECT zone, status, count(*) FROM management.events WHERE zone = ANY($1::text[]) GROUP BY zone, status",
        [CITY_ZONE, DISTRICT_ZONE],
    )
    verdict.note("counters at the city that differ from its events", sorted(set(shown) ^ set(counted)))


async def _uneven_counts(databases: Mapping[str, Pool]) -> dict[str, int]:
    """By contract, how many more facts and rows were sent under it than received, by the two nodes' own counts."""
    more: dict[str, int] = defaultdict(int)
    for database in databases.values():
        for name, sent, received in await _rows(
            database,
            """SELECT id, facts_sent + rows_sent, facts_received + rows_received FROM federation.contracts
            WHERE peer = ANY($1::text[])""",
            list(NODES),
        ):
            more[name] += sent - received
    return dict(more)


async def _verify_audit(verdict: Verdict, node: FaultNode) -> None:
    async with node.process.signed_in() as client:
        found = (await client.post("/v1/audit:verify", json={}, timeout=60)).json()
    verdict.note(f"audit logs of {node.id} that do not verify", [] if found.get("verified") is True else [found])
