"""Who has an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.management.store_events import requests_of
from services.management.store_rows import EVENT_SELECTED, STEP_COLUMNS, event_of, parameters, step_values

if TYPE_CHECKING:
    from libs.db import Connection
    from services.management.model import Event, Step

_ASSIGN = f"""
WITH step AS (
    INSERT INTO event_steps (event_id, {", ".join(STEP_COLUMNS)}, assignee)
    VALUES ($1, {parameters(2, len(STEP_COLUMNS))}, $12)
), changed AS (
    INSERT INTO event_changes (event_id) VALUES ($1)
)
UPDATE events SET revision = $2, assignee = $12, assigned_as = $13 WHERE id = $1"""


async def assign(conn: Connection, event: Event, step: Step) -> list[str]:
    """Store a locked event in other hands; return the requests that it stands for."""
    await conn.execute(_ASSIGN, event.id, *step_values(step), event.assignee, event.assigned_as)
    return await requests_of(conn, event.id)


async def lock_held(conn: Connection, node: str, person: str, *, limit: int) -> list[Event]:
    """Return up to `limit` open events of the node that a person has, locked until the transaction ends."""
    rows = await conn.fetch(
        f"""SELECT {EVENT_SELECTED} FROM events e WHERE e.closed_at IS NULL AND e.node = $1 AND e.assignee = $2
        ORDER BY e.id LIMIT $3 FOR UPDATE""",
        node, person, limit,
    )  # fmt: skip
    return [event_of(row) for row in rows]
