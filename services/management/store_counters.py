"""How many events, requests and merged requests there are, by zone, node and status.

Counting a million rows on each look would take a good part of a second, and one row per counter would make every
change in a zone wait for the commit of the one before. So a change adds rows of differences (the statements of
store_events and store_mirror do), and a background task folds them into sums. A reader adds up both in one statement,
and is always right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection

FOLD_BATCH_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Count:
    """The sums of one zone, node and status. Requests only mean something summed over all statuses."""

    zone: str
    node: str
    status: str
    events: int
    requests: int
    merged: int


async def counts(conn: Connection, zones: Sequence[str]) -> list[Count]:
    """Return the counters of some zones, ordered by zone, node and status."""
    rows = await conn.fetch(
        """SELECT zone, node, status, sum(events)::bigint AS events, sum(requests)::bigint AS requests,
            sum(merged)::bigint AS merged
        FROM (
            SELECT zone, node, status, events, requests, merged FROM counters WHERE zone = ANY($1::text[])
            UNION ALL
            SELECT zone, node, status, events, requests, merged FROM counter_deltas WHERE zone = ANY($1::text[])
        ) AS both_tables GROUP BY zone, node, status ORDER BY zone, node, status""",
        list(zones),
    )
    return [Count(**dict(row)) for row in rows]


async def fold(conn: Connection) -> int:
    """Fold up to FOLD_BATCH_ROWS differences into the sums and return how many there were. Replicas do not collide."""
    taken = await conn.fetchval(
        """WITH taken AS (
            DELETE FROM counter_deltas WHERE id IN (
                SELECT id FROM counter_deltas ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
            ) RETURNING zone, node, status, events, requests, merged
        ), folded AS (
            INSERT INTO counters (zone, node, status, events, requests, merged)
            SELECT zone, node, status, sum(events), sum(requests), sum(merged) FROM taken
            GROUP BY zone, node, status
            ORDER BY zone, node, status
            ON CONFLICT (zone, node, status) DO UPDATE SET events = counters.events + excluded.events,
                requests = counters.requests + excluded.requests, merged = counters.merged + excluded.merged
        )
        SELECT count(*) FROM taken""",
        FOLD_BATCH_ROWS,
    )
    return int(taken or 0)
