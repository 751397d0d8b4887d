"""The reconciliation, the same after every fault: what was stated is applied once, in order, and nothing else is there.

It reads the databases of all nodes as their operator would, and shares no code with what did the work. The order in
which a receiver wrote is PostgreSQL's own word: the number of the writing transaction (xmin), and its command (cmin).
A row that PostgreSQL replayed from its log after a crash has lost the command (it says 0), while others of the same
transaction may have kept it: the order within such a transaction is unknown.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from time import monotonic
from typing import Any

from e2e.faults.federation import (
    CITY,
    CITY_ZONE,
    DISTRICT,
    DISTRICT_ZONE,
    HELD_PRODUCT,
    NODES,
    PARTNER,
    Federation,
)
from e2e.faults.ledger import (
    DIRECTIVE_FACTS,
    DIRECTIVES,
    EVENTS,
    REQUESTS,
    ROW_REVISIONS,
    ROWS,
    TRANSFERS,
    Ledger,
    TransferStep,
)
from e2e.faults.nodes import FaultNode, read
from e2e.faults.verdict import Verdict
from libs.config import PARTS
from libs.db import Pool
from libs.errors import Away
from quintet.federation.v1 import directive_pb2

SETTLE_S = 240.0
SETTLE_POLL_S = 0.1
COUNTS_AGREE_S = 30.0
COUNTS_REST_S = 3.0
# Tables whose rows are on their way: in the end there are none.
WAITING = [f"{part}.{table}" for part in PARTS for table in ("outbox", "inbox_waiting")]
DEAD = [f"{part}.inbox_dead" for part in PARTS]


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
                verdict = Verdict.of(ledger)
                verdict.note("a database is away", [repr(error)])
            # A fact that was doubled or out of order stays so: only what is missing or waits may still change.
            if verdict.ok or verdict.total.doubled or verdict.total.disordered:
                break
            await asyncio.sleep(SETTLE_POLL_S)
        return verdict

    async def compare(self, ledger: Ledger) -> Verdict:
        """Hold the ledger against what the nodes have now."""
        verdict = Verdict.of(ledger)
        await _compare_events(verdict, ledger, self._city)
        await _compare_requests(verdict, ledger, self._city, self._district)
        await _compare_rows(verdict, ledger, self._city, self._federation.contract)
        await _compare_directives(verdict, ledger, self._city, self._district)
        await _compare_transfers(verdict, ledger.steps, self._databases)
        for node, database in self._databases.items():
            await _compare_queues(verdict, node, database)
        return verdict

    async def compare_all(self, everything: Ledger) -> Verdict:
        """The same, and what can only be said of everything that was ever done: totals, strangers and audit chains."""
        verdict = await self.settle(everything)
        await _compare_strangers(verdict, everything, self._city, self._district)
        await _compare_strange_steps(verdict, everything.steps, self._city)
        await _compare_counters(verdict, self._city)
        verdict.note("contracts whose sender and receiver count differently", await self._uneven_at_last())
        for node in self._federation.nodes:
            await _verify_audit(verdict, node)
        return verdict

    async def _uneven_at_last(self) -> list[str]:
        """Contracts that are counted differently, and stay so.

        A transfer that was started again states all its rows anew: they may be on their way when all else has come.
        """
        started = monotonic()
        wrong: dict[str, int] = {}
        while monotonic() - started < COUNTS_AGREE_S:
            uneven = await _uneven_counts(self._databases)
            wrong = {name: more - self._uneven.get(name, 0) for name, more in uneven.items()}
            if not any(wrong.values()):
                return []
            await asyncio.sleep(SETTLE_POLL_S)
        return [f"{name}: {more} more at the sender" for name, more in wrong.items() if more]

    async def accept_counts(self) -> None:
        """Take the difference between senders' and receivers' counts as it is, once at rest: one was restored."""
        since, self._uneven = monotonic(), await _uneven_counts(self._databases)
        while monotonic() - since < COUNTS_REST_S:
            await asyncio.sleep(SETTLE_POLL_S)
            uneven = await _uneven_counts(self._databases)
            if uneven != self._uneven:
                since, self._uneven = monotonic(), uneven


@asynccontextmanager
async def open_reconciler(federation: Federation) -> AsyncIterator[Reconciler]:
    """A reconciler with its connections, which outlive what happens to the databases."""
    async with AsyncExitStack() as stack:
        databases = {node.id: await stack.enter_async_context(node.database()) for node in federation.nodes}
        yield Reconciler(federation, databases)


async def _rows(database: Pool, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await read(database, sql, *parameters)]


# ---------------------------------------------------------------------------------------------------- facts, upwards


async def _compare_events(verdict: Verdict, ledger: Ledger, city: Pool) -> None:
    """Each number of each key once at the city, in the order of the numbers, with the last one's state."""
    tally = verdict.kinds[EVENTS]
    written: dict[str, list[int]] = defaultdict(list)
    states: dict[str, tuple[int, str]] = {}
    for name, revision, shown, status in await _rows(
        city,
        """SELECT e.name, s.revision, e.revision, e.status
        FROM management.event_steps s JOIN management.events e ON e.id = s.event_id
        WHERE e.name = ANY($1::text[])
        ORDER BY s.xmin::text::bigint, CASE WHEN bool_or(s.cmin::text = '0') OVER (PARTITION BY e.name, s.xmin::text)
            THEN 0 ELSE s.cmin::text::bigint END, s.revision""",
        list(ledger.events),
    ):
        written[name].append(revision)
        states[name] = shown, status
    for name, last in ledger.events.items():
        found = written.get(name, [])
        tally.applied += len(set(found))
        tally.lost += verdict.note(f"{name} lacks", sorted(set(range(1, last + 1)) - set(found)))
        tally.doubled += verdict.note(f"{name} has twice", sorted({one for one in found if found.count(one) > 1}))
        verdict.note(f"{name} has what nobody stated", sorted(set(found) - set(range(1, last + 1))))
        if found != sorted(found):
            tally.disordered += verdict.note(f"{name} was written out of order", [found])
        elif len(found) == last:
            status = "collected" if last == 1 else "filed" if last % 2 == 0 else "dispatched"
            if states[name] != (last, status):
                verdict.note(f"{name} ended as", [states[name]])


# ------------------------------------------------------------------------------------- requests, downwards and back up


async def _compare_requests(verdict: Verdict, ledger: Ledger, city: Pool, district: Pool) -> None:
    """Each request filed at the city stands in one event of the district, and the city knows in which."""
    tally = verdict.kinds[REQUESTS]
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
    tally.lost += verdict.note("requests without an event at the district", lost)
    tally.doubled += verdict.note("requests with two events", doubled)
    tally.doubled += verdict.note("requests filed twice", [name for name in known if ledger.requests.count(name) > 1])
    unanswered = [name for name in ledger.requests if handled.get(name) and known.get(name) != handled[name][0]]
    verdict.note("requests of whose event the city was not told", unanswered)
    tally.applied += len(ledger.requests) - len(lost)


# ----------------------------------------------------------------------------------------------- rows, under a contract


async def _compare_rows(verdict: Verdict, ledger: Ledger, city: Pool, contract: str) -> None:
    """The consumer has exactly the projected rows of the ledger."""
    tally = verdict.kinds[ROWS]
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
    # Each row was stated several times, with another value each time: the last counts, an older one is lost work.
    right = [key for key, row in expected.items() if found.get(key) == row]
    tally.applied += len(right) * ROW_REVISIONS
    tally.lost += ROW_REVISIONS * verdict.note("rows missing", [key for key in expected if key not in found])
    wrong = [f"{found[key]}" for key in expected if key in found and found[key] != expected[key]]
    tally.lost += ROW_REVISIONS * verdict.note("rows other than the contract's projection", wrong)
    verdict.note("rows that nobody wrote", [key for key in found if key not in expected])


# ----------------------------------------------------------------------------- directives, and steps of transfers


async def _compare_directives(verdict: Verdict, ledger: Ledger, city: Pool, district: Pool) -> None:
    """Each directive came to the district, was acknowledged there, and the city knows by whom and when."""
    tally = verdict.kinds[DIRECTIVES]
    ids = [name.removeprefix("directives/") for name in ledger.directives]
    query = "SELECT id, directive FROM federation.directives WHERE id = ANY($1::text[])"
    given, received = [
        {id_: directive_pb2.Directive.FromString(data) for id_, data in await _rows(database, query, ids)}
        for database in (city, district)
    ]
    for id_, title in zip(ids, ledger.directives.values(), strict=True):
        above, below = given.get(id_), received.get(id_)
        if below is None or below.title != title:
            tally.lost += verdict.note("directives that the district lacks", [id_]) * DIRECTIVE_FACTS
            continue
        tally.applied += 1
        acknowledged = (below.state, below.acknowledged_by, below.acknowledged_at)
        if above is None or below.state != directive_pb2.DIRECTIVE_STATE_ACKNOWLEDGED:
            tally.lost += verdict.note("directives that nobody acknowledged", [id_])
        elif (above.state, above.acknowledged_by, above.acknowledged_at) != acknowledged:
            tally.lost += verdict.note("directives of whose acknowledgement the city was not told", [id_])
        else:
            tally.applied += 1


async def _compare_transfers(verdict: Verdict, steps: Sequence[TransferStep], databases: Mapping[str, Pool]) -> None:
    """Each step of a transfer is known once, as the same message, to the node that took it and to the other."""
    tally = verdict.kinds[TRANSFERS]
    names = sorted({step.transfer for step in steps})
    known = {node: await _known_steps(databases[node], names) for node in (CITY, PARTNER)}
    for step in steps:
        here, there = (found.get(step) for found in known.values())
        if here is not None and here == there:
            tally.applied += 1
        else:
            tally.lost += verdict.note("steps of transfers that one side lacks", [step])
    for node, found in known.items():
        doubled = [message for message, count in Counter(found.values()).items() if count > 1]
        tally.doubled += verdict.note(f"steps of transfers twice at {node}", doubled)
    query = "SELECT id, state, step FROM federation.transfers WHERE 'transfers/' || id = ANY($1::text[])"
    ends = [set(await _rows(databases[node], query, names)) for node in known]
    verdict.note("transfers that stand differently at both ends", sorted(ends[0] ^ ends[1]))


async def _known_steps(database: Pool, transfers: Sequence[str]) -> dict[TransferStep, str]:
    """The steps of these transfers that a node knows, with the ids of their messages."""
    rows = await _rows(
        database,
        """SELECT transfer, type, node, row_number() OVER (PARTITION BY transfer, type, node ORDER BY id), message_id
        FROM federation.contract_steps WHERE transfer = ANY($1::text[])""",
        transfers,
    )
    return {TransferStep(*row[:4]): row[4] for row in rows}


async def _compare_strange_steps(verdict: Verdict, steps: Sequence[TransferStep], city: Pool) -> None:
    """No step follows that nobody took: the next of any that was taken is unknown."""
    known = await _known_steps(city, sorted({step.transfer for step in steps}))
    next_ones = {replace(step, nth=step.nth + 1) for step in steps} - set(steps)
    verdict.note("steps of transfers that nobody took", sorted(map(str, next_ones & known.keys())))


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
    verdict.note("events of the district that the city lacks", sorted(opened - mirrored))
    verdict.note("events at the city that nobody stated", sorted(mirrored - opened - ledger.events.keys()))
    for node, database in ((CITY, city), (DISTRICT, district)):
        rows = await _rows(database, "SELECT directive FROM federation.directives WHERE from_node = $1", CITY)
        titles = Counter(directive_pb2.Directive.FromString(data).title for (data,) in rows)
        verdict.note(f"directives twice at {node}", [title for title, count in titles.items() if count > 1])
        verdict.note(f"directives at {node} that nobody gave", sorted(titles.keys() - set(ledger.directives.values())))


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
