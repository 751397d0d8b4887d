"""Events of this node: opened, merged into, advanced. The service opens the transactions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from libs import db
from libs.errors import Reason, Stale
from services.management.model import REQUESTS_LISTED_MAX
from services.management.store_rows import (
    EVENT_COLUMNS,
    EVENT_SELECTED,
    STEP_COLUMNS,
    clocks_json,
    event_of,
    event_values,
    flags_json,
    parameters,
    said_json,
    step_values,
)

if TYPE_CHECKING:
    from libs.db import Connection
    from libs.tx import Tx
    from services.management.model import Event, Step
    from services.management.model_report import Report

_REQUESTS = f"""ARRAY(SELECT r.source FROM event_reports r WHERE r.event_id = e.id AND r.kind = 'request'
    AND r.source IS NOT NULL ORDER BY r.revision LIMIT {REQUESTS_LISTED_MAX})"""

_KIND, _SOURCE = f"${len(EVENT_COLUMNS) + len(STEP_COLUMNS) + 1}", f"${len(EVENT_COLUMNS) + len(STEP_COLUMNS) + 2}"
STEP_OF = f"INSERT INTO event_steps (event_id, {', '.join(STEP_COLUMNS)})"

# A new event and its first step: EVENT_COLUMNS and STEP_COLUMNS are the first parameters.
OPEN_EVENT = f"""
WITH event AS (
    INSERT INTO events ({", ".join(EVENT_COLUMNS)}) VALUES ({parameters(1, len(EVENT_COLUMNS))})
    RETURNING id, zone, node, status
), step AS (
    {STEP_OF} SELECT id, {parameters(len(EVENT_COLUMNS) + 1, len(STEP_COLUMNS))} FROM event
), changed AS (
    INSERT INTO event_changes (event_id) SELECT id FROM event
)"""
_INSERT = f"""
{OPEN_EVENT}, report AS (
    INSERT INTO event_reports (event_id, revision, kind, source, merged)
    SELECT id, ${len(EVENT_COLUMNS) + 1}, {_KIND}, nullif({_SOURCE}, ''), false FROM event
), counted AS (
    INSERT INTO counter_deltas (zone, node, status, events, requests, merged)
    SELECT zone, node, status, 1, ({_KIND} = 'request')::int, 0 FROM event
)
SELECT id FROM event"""

# One statement writes the change, its step and the counters.
_STEPPED = f"""step AS (
    INSERT INTO event_steps (event_id, {", ".join(STEP_COLUMNS)}, evidence)
    VALUES ($1, {parameters(2, len(STEP_COLUMNS))}, $31)
), counted AS (
    INSERT INTO counter_deltas (zone, node, status, events, requests, merged)
    SELECT $12, $13, status, change, 0, 0 FROM (VALUES ($4, -1), ($5, 1)) AS moved (status, change) WHERE $4 <> $5
), changed AS (
    INSERT INTO event_changes (event_id) VALUES ($1)
)"""
_SET = """UPDATE events e SET status = $5, organisation = $7, revision = $2, supporters = $14, step_at = $15,
    closed_at = $16, shares = $17, shares_open = $18, flags = $19, returns = $20, answer = $21, due_at = $22,
    step_due_at = $23, clocks = $24, suspended_until = $25, reopens = $26, reopen_until = $27, next_clock_at = $28,
    assignee = $29, assigned_as = $30
WHERE e.id = $1"""
_UPDATE = f"WITH {_STEPPED} {_SET} RETURNING {_REQUESTS} AS requests"
_WRITE = f"{_STEPPED}, event AS ({_SET} AND e.revision = $32 RETURNING e.id)"

_MERGE = f"""
WITH step AS (
    {STEP_OF} VALUES ($1, {parameters(2, len(STEP_COLUMNS))})
), report AS (
    INSERT INTO event_reports (event_id, revision, kind, source, merged, said)
    VALUES ($1, $2, $14, nullif($15, ''), true, $18)
), counted AS (
    INSERT INTO counter_deltas (zone, node, status, events, requests, merged)
    SELECT $12, $13, $5, 0, 1, 1 WHERE $14 = 'request'
), changed AS (
    INSERT INTO event_changes (event_id) VALUES ($1)
)
UPDATE events SET revision = $2, reports = $16, warning = $17 WHERE id = $1"""


async def insert(conn: Connection, event: Event, step: Step, report: Report) -> Event:
    """Store a new event of this node with its first step and report; return it with its id.

    Raises Stale when its name is taken, as two processes may make one short id in the same millisecond.
    """
    with db.violations({"events_name_key": Stale(Reason.CONFLICT, "two events got one name; try again")}):
        event_id = await conn.fetchval(
            _INSERT, *event_values(event), *step_values(step), report.kind, report.source
        )  # fmt: skip
    return replace(event, id=event_id)


async def update(conn: Connection, event: Event, step: Step) -> list[str]:
    """Store a locked event after a step; return the requests that it stands for, at most REQUESTS_LISTED_MAX."""
    return list(await conn.fetchval(_UPDATE, *_stepped(event, step)) or [])


def write(tx: Tx, before: Event, event: Event, step: Step) -> None:
    """Store an event after a step, if it is still as it was before that; else the work begins anew."""
    tx.write(_WRITE, *_stepped(event, step), before.revision, checked="event")


def _stepped(event: Event, step: Step) -> tuple[object, ...]:
    return (
        event.id, *step_values(step), event.zone, event.node, list(event.supporters), event.step_at,
        event.closed_at, event.shares, event.shares_open, flags_json(event.flags), event.returns, event.answer,
        event.deadlines.due_at, event.deadlines.step_due_at, clocks_json(event.clocks),
        event.deadlines.suspended_until, event.deadlines.reopens, event.deadlines.reopen_until,
        event.clocks.next_at,
        event.assignee, event.assigned_as, list(step.evidence),
    )  # fmt: skip


async def merge(conn: Connection, event: Event, step: Step, report: Report) -> None:
    """Store one more report of a locked event."""
    await conn.execute(
        _MERGE, event.id, *step_values(step), event.zone, event.node, report.kind, report.source, event.reports,
        event.warning, said_json(report),
    )  # fmt: skip


async def lock(conn: Connection, name: str) -> Event | None:
    """Return an event and keep others from changing it until the transaction ends."""
    row = await conn.fetchrow(f"SELECT {EVENT_SELECTED} FROM events e WHERE e.name = $1 FOR UPDATE", name)
    return event_of(row) if row else None


async def get(conn: Connection, name: str) -> tuple[Event, list[str]] | None:
    """Return an event with the requests that it stands for, at most REQUESTS_LISTED_MAX."""
    row = await conn.fetchrow(f"SELECT {EVENT_SELECTED}, {_REQUESTS} AS requests FROM events e WHERE name = $1", name)
    return (event_of(row), list(row["requests"])) if row else None


async def requests_of(conn: Connection, event_id: int) -> list[str]:
    """Return the requests that an event stands for, the first report first, at most REQUESTS_LISTED_MAX."""
    return list(await conn.fetchval(f"SELECT {_REQUESTS} FROM events e WHERE e.id = $1", event_id) or [])


async def event_for(conn: Connection, source: str) -> str | None:
    """Return the name of the event that stands for a request or warning."""
    name: str | None = await conn.fetchval(
        "SELECT e.name FROM event_reports r JOIN events e ON e.id = r.event_id WHERE r.source = $1", source
    )
    return name
