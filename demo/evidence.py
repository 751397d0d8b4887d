"""What stands in the nodes' databases, read with the administrator's role: none of the nodes' own code takes part."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from demo.nodes import Node
from libs.config import PARTS
from libs.db import Pool, open_pool
from libs.state import read_runtime

ADMIN = "admin"
ADMIN_SECRET = "postgres-admin"  # noqa: S105 - the name of a file
AUDIT_PAGE_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A request as the city keeps it; flags are code and reason."""

    external_id: str
    name: str
    zone: str
    event: str
    event_status: str
    status: str
    flags: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event as one node keeps it; node is who handles it."""

    name: str
    zone: str
    node: str
    status: str
    flags: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A request or warning that an event stands for, as one node keeps it."""

    event: str
    node: str
    kind: str
    source: str
    merged: bool


@dataclass(frozen=True, slots=True)
class JointRow:
    """A joint disposal of the node's own: shares, how many are done, tasks done and messages that belong to it."""

    event: str
    shares: int
    shares_done: int
    tasks_done: int
    messages: int


@dataclass(frozen=True, slots=True)
class ContractRow:
    """A contract as one side keeps it."""

    name: str
    kind: int
    state: int
    rows_sent: int
    rows_received: int
    refused: int


@dataclass(frozen=True, slots=True)
class WarningRow:
    """A warning; reason is its words in both languages."""

    name: str
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One sealed entry of an audit log."""

    sequence: int
    time: datetime
    actor: str
    action: str
    resource: str
    detail: str
    trace_id: str
    previous_hash: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A signed statement about an audit log."""

    sequence: int
    head: bytes
    time: datetime
    statement: str
    key_id: str
    signature: bytes


@dataclass(slots=True)
class NodeEvidence:
    """What one node holds. left are queues that are not empty, by name; unsealed audit entries by part."""

    node: str
    requests: list[RequestRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    reports: list[ReportRow] = field(default_factory=list)
    counters: dict[tuple[str, str], int] = field(default_factory=dict)
    joint: list[JointRow] = field(default_factory=list)
    contracts: list[ContractRow] = field(default_factory=list)
    product_rows: list[Mapping[str, Any]] = field(default_factory=list)
    warnings: list[WarningRow] = field(default_factory=list)
    readings: int = 0
    left: dict[str, int] = field(default_factory=dict)

    @property
    def own_events(self) -> list[EventRow]:
        return [event for event in self.events if event.node == self.node]

    @property
    def own_reports(self) -> list[ReportRow]:
        return [report for report in self.reports if report.node == self.node]


_JOINT = """
    SELECT e.name, count(*), count(s.done_at),
        (SELECT count(*) FROM collaboration.tasks t WHERE t.event = e.name AND t.done_at IS NOT NULL),
        (SELECT coalesce(sum(c.messages), 0)::bigint FROM collaboration.channels c WHERE c.event = e.name AND c.joint)
    FROM management.events e JOIN management.sub_orders s ON s.event_id = e.id
    WHERE e.node = $1 GROUP BY e.name"""


class Database:
    """The database of one node."""

    def __init__(self, pool: Pool, node: str) -> None:
        self._pool = pool
        self._node = node

    async def evidence(self) -> NodeEvidence:
        """Read all that the reconciliation compares, but for the audit logs."""
        found = NodeEvidence(self._node)
        found.requests = [
            RequestRow(row[0], row[1], row[2], row[3], row[4], row[5], _flags(row[6]))
            for row in await self._rows(
                """SELECT external_id, 'zones/' || zone || '/requests/' || id, zone, event, event_status, status, flags
                FROM delivery.requests"""
            )
        ]
        found.events = [
            EventRow(row[0], row[1], row[2], row[3], _flags(row[4]))
            for row in await self._rows("SELECT name, zone, node, status, flags FROM management.events")
        ]
        found.reports = [
            ReportRow(*row)
            for row in await self._rows(
                """SELECT e.name, e.node, r.kind, coalesce(r.source, ''), r.merged
                FROM management.event_reports r JOIN management.events e ON e.id = r.event_id"""
            )
        ]
        await self._read_counters(found)
        found.joint = [JointRow(*row) for row in await self._rows(_JOINT, self._node)]
        found.contracts = [
            ContractRow(*row)
            for row in await self._rows(
                """SELECT 'contracts/' || id, kind, state, rows_sent, rows_received, refused
                FROM federation.contracts"""
            )
        ]
        await self._read_data(found)
        found.left = await self._queues()
        return found

    async def _read_counters(self, found: NodeEvidence) -> None:
        rows = await self._rows(
            """SELECT zone, status, sum(events)::bigint FROM (
                SELECT zone, status, events FROM management.counters
                UNION ALL SELECT zone, status, events FROM management.counter_deltas) c
            GROUP BY zone, status HAVING sum(events) <> 0"""
        )
        found.counters = {(zone, status): events for zone, status, events in rows}

    async def _read_data(self, found: NodeEvidence) -> None:
        rows = await self._rows("SELECT product, contract, row FROM sharing.rows")
        found.product_rows = [
            {"product": product, "contract": contract, **json.loads(row)} for product, contract, row in rows
        ]
        rows = await self._rows("SELECT name, rule, reason_zh || reason_en FROM perception.warnings")
        found.warnings = [WarningRow(*row) for row in rows]
        found.readings = (await self._rows("SELECT count(*) FROM perception.readings"))[0][0]

    async def _queues(self) -> dict[str, int]:
        tables = [f"{part}.{table}" for part in PARTS for table in ("outbox", "inbox_waiting", "inbox_dead")]
        tables += ["federation.peer_waiting"]
        counted = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM {table}" for table in tables)
        unsealed = " UNION ALL ".join(
            f"SELECT '{part}.audit_entries', count(*) FROM {part}.audit_entries WHERE sequence IS NULL"
            for part in PARTS
        )
        return {name: count for name, count in await self._rows(f"{counted} UNION ALL {unsealed}") if count}

    async def audit_entries(self, part: str) -> AsyncIterator[AuditRow]:
        """The sealed entries of one log, in their order."""
        after = 0
        while True:
            rows = await self._rows(
                f"""SELECT sequence, time, actor, action, resource, detail, trace_id, previous_hash, hash
                FROM {part}.audit_entries WHERE sequence > $1 ORDER BY sequence LIMIT {AUDIT_PAGE_ROWS}""",
                after,
            )
            for row in rows:
                yield AuditRow(*row)
            if len(rows) < AUDIT_PAGE_ROWS:
                return
            after = rows[-1][0]

    async def checkpoints(self, part: str) -> list[CheckpointRow]:
        rows = await self._rows(
            f"""SELECT sequence, head, time, statement, key_id, signature FROM {part}.audit_checkpoints
            ORDER BY sequence"""
        )
        return [CheckpointRow(*row) for row in rows]

    async def _rows(self, sql: str, *parameters: object) -> Sequence[tuple[Any, ...]]:
        async with self._pool.acquire() as connection:
            return [tuple(row) for row in await connection.fetch(sql, *parameters)]


def _flags(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((str(flag["code"]), str(flag.get("reason", ""))) for flag in json.loads(text))


@asynccontextmanager
async def open_databases(nodes: Mapping[str, Node]) -> AsyncIterator[dict[str, Database]]:
    """The databases of the nodes for the length of the block."""
    pools: dict[str, Pool] = {}
    try:
        for name, node in nodes.items():
            pools[name] = await open_pool(
                read_runtime(node.state).postgres,
                name="reconciliation",
                schema="public",
                user=ADMIN,
                password=node.secrets.read(ADMIN_SECRET),
                max_size=2,
            )
        yield {name: Database(pool, name) for name, pool in pools.items()}
    finally:
        for pool in pools.values():
            await pool.close()
