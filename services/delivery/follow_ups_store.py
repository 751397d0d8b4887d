"""Reporters who are asked whether their request is solved, and the requests that are closed with an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.delivery.model import NAME, Asked, Closed, Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection

# Of one event; management lists as many.
CLOSED_REQUESTS_MAX = 1000


async def closed(conn: Connection, event: str) -> Closed | None:
    """Return the requests that an event stands for and that are closed with an answer; None when there are none."""
    rows = await conn.fetch(
        """SELECT id, zone, type, organisation FROM requests WHERE event = $1 AND event <> '' AND status = $2
            AND answer <> '' ORDER BY id LIMIT $3""",
        event, Status.CLOSED, CLOSED_REQUESTS_MAX,
    )  # fmt: skip
    if not rows:
        return None
    names = tuple(NAME.format(zone=row["zone"], request=row["id"]) for row in rows)
    return Closed(names, rows[0]["type"], rows[0]["organisation"])


async def ask(conn: Connection, asks: Sequence[tuple[str, str]], asked_at: datetime) -> None:
    """Keep that reporters are asked: (follow-up, request). Requests of other nodes are passed over."""
    await conn.execute(
        """INSERT INTO follow_ups (follow_up, request, asked_at)
        SELECT a.follow_up, r.id, $3 FROM unnest($1::text[], $2::text[]) AS a (follow_up, request)
        JOIN requests r ON r.id = split_part(a.request, '/', 4) ON CONFLICT DO NOTHING""",
        [follow_up for follow_up, _ in asks], [request for _, request in asks], asked_at,
    )  # fmt: skip


async def end(conn: Connection, follow_up: str, at: datetime) -> None:
    """Keep that nobody waits for an answer any more."""
    await conn.execute(
        "UPDATE follow_ups SET over_at = $2 WHERE follow_up = $1 AND over_at IS NULL", follow_up, at
    )  # fmt: skip


async def forget(conn: Connection, before: datetime, limit: int) -> int:
    """Delete the forms that nobody waits for since before a time, at most `limit`; return how many that was."""
    status = await conn.execute(
        """DELETE FROM follow_ups WHERE follow_up IN (
            SELECT follow_up FROM follow_ups WHERE over_at < $1 ORDER BY over_at LIMIT $2 FOR UPDATE SKIP LOCKED
        )""",
        before, limit,
    )  # fmt: skip
    return int(status.split()[-1])


async def asked(conn: Connection, request_id: str) -> Asked | None:
    """Return the form of a request that waits for an answer."""
    row = await conn.fetchrow(
        """SELECT follow_up, asked_at FROM follow_ups WHERE request = $1 AND over_at IS NULL
        ORDER BY asked_at DESC LIMIT 1""",
        request_id,
    )
    return Asked(**dict(row)) if row else None
