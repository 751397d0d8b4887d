"""Which events changed since a moment, exactly, whichever process changed them.

A moment is a place in the order in which transactions began: all before it were over. Every statement that changes an
event leaves the id of its transaction (see store_events and store_mirror), so what a snapshot did not hold is found by
asking which of them were not visible to it: a transaction that began early and ends late is not passed over, as it
would be by a counter or a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from libs.db import Connection

FORGET_BATCH_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Changes:
    """The events that changed, in no order, and the snapshot under which that was found out."""

    events: tuple[int, ...]
    snapshot: str
    position: int


async def position(conn: Connection) -> int:
    """Return the moment of the present transaction: whatever it does not see changed behind it."""
    return int(await conn.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"))


async def is_kept(conn: Connection, since: int) -> bool:
    """Tell whether all changes since a moment are still there, and the moment is one of this database."""
    return bool(
        await conn.fetchval(
            """SELECT $1::text::xid8 >= (SELECT min(xid) FROM event_change_marks)
            AND $1::text::xid8 <= pg_snapshot_xmax(pg_current_snapshot())""",
            str(since),
        )
    )


async def now(conn: Connection) -> Changes:
    """Return no changes, and the present snapshot to begin from."""
    row = await conn.fetchrow(
        "SELECT s::text AS snapshot, pg_snapshot_xmin(s)::text::bigint AS xmin FROM pg_current_snapshot() AS s"
    )
    if row is None:
        raise ValueError("a snapshot is one row")
    return Changes((), row["snapshot"], row["xmin"])


async def since_position(conn: Connection, since: int, *, limit: int) -> list[int]:
    """Return up to `limit` events that changed since a moment, some perhaps shortly before it."""
    rows = await conn.fetch(
        "SELECT DISTINCT event_id FROM event_changes WHERE xid >= $1::text::xid8 LIMIT $2", str(since), limit
    )
    return [row["event_id"] for row in rows]


async def since_snapshot(conn: Connection, before: Changes, *, limit: int) -> Changes:
    """Return up to `limit` events whose changes an earlier snapshot did not hold and the present one does."""
    row = await conn.fetchrow(
        """SELECT s::text AS snapshot, pg_snapshot_xmin(s)::text::bigint AS xmin, ARRAY(
            SELECT DISTINCT event_id FROM event_changes WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot)
            AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot) LIMIT $2
        ) AS events FROM pg_current_snapshot() AS s""",
        before.snapshot,
        limit,
    )
    if row is None:
        raise ValueError("a snapshot is one row")
    return Changes(tuple(row["events"]), row["snapshot"], row["xmin"])


async def mark(conn: Connection, at: datetime) -> None:
    """Note which transactions are over at a time."""
    await conn.execute(
        """INSERT INTO event_change_marks (xid, marked_at) SELECT pg_snapshot_xmin(pg_current_snapshot()), $1
        ON CONFLICT DO NOTHING""",
        at,
    )


async def forget(conn: Connection, before: datetime) -> int:
    """Forget up to FORGET_BATCH_ROWS changes of transactions that were over before a time; return how many."""
    await conn.execute(
        """DELETE FROM event_change_marks WHERE xid < (
            SELECT max(xid) FROM event_change_marks WHERE marked_at < $1
        )""",
        before,
    )
    status = await conn.execute(
        """DELETE FROM event_changes WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM event_changes WHERE xid < (SELECT min(xid) FROM event_change_marks)
            LIMIT $1 FOR UPDATE SKIP LOCKED
        ))""",
        FORGET_BATCH_ROWS,
    )
    return int(status.split()[-1])
