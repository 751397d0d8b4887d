"""What the clock task looks for: events whose moment has come. Rows that others hold are left for later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.management.store_rows import EVENT_SELECTED, clocks_json, event_of

if TYPE_CHECKING:
    from datetime import datetime

    from libs.db import Connection
    from services.management.model import Event


async def claim(conn: Connection, node: str, now: datetime, limit: int) -> list[Event]:
    """Return events of this node whose moment has come, the oldest first, locked."""
    rows = await conn.fetch(
        f"""SELECT {EVENT_SELECTED} FROM events e WHERE e.next_clock_at <= $2 AND e.node = $1
        ORDER BY e.next_clock_at LIMIT $3 FOR UPDATE SKIP LOCKED""",
        node,
        now,
        limit,
    )
    return [event_of(row) for row in rows]


async def lapsing(conn: Connection, node: str, now: datetime, limit: int) -> list[str]:
    """Return the names of entries of this node's ledger that nobody decided in time."""
    rows = await conn.fetch(
        """SELECT name FROM event_exceptions WHERE state = 'asked' AND decide_by <= $2 AND node = $1
        ORDER BY decide_by LIMIT $3""",
        node,
        now,
        limit,
    )
    return [row["name"] for row in rows]


async def open_after(conn: Connection, node: str, after: int, limit: int) -> list[Event]:
    """Return open events of this node by their row, those behind `after`, locked."""
    rows = await conn.fetch(
        f"""SELECT {EVENT_SELECTED} FROM events e WHERE e.id > $2 AND e.closed_at IS NULL AND e.node = $1
        ORDER BY e.id LIMIT $3 FOR UPDATE""",
        node,
        after,
        limit,
    )
    return [event_of(row) for row in rows]


async def put_clocks(conn: Connection, event: Event) -> None:
    """Store what the clock task itself notes about a locked event; no step, and no new revision."""
    await conn.execute(
        """WITH changed AS (INSERT INTO event_changes (event_id) VALUES ($1))
        UPDATE events SET clocks = $2, next_clock_at = $3, suspended_until = $4 WHERE id = $1""",
        event.id,
        clocks_json(event.clocks),
        event.clocks.next_at,
        event.deadlines.suspended_until,
    )
