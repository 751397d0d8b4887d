"""Facts that were given up, and what an operator may do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from libs.inbox_store import DeadFact

if TYPE_CHECKING:
    from libs.db import Connection

DEAD_FACTS_PAGE_MAX = 1_000


async def list_dead(conn: Connection, *, after: str = "", limit: int = 100) -> list[DeadFact]:
    """Return dead facts in the order in which they were given up, those behind the one with id `after`.

    At most DEAD_FACTS_PAGE_MAX. When `after` itself was retried or discarded in between, the list starts anew.
    """
    rows = await conn.fetch(
        """SELECT fact_id, type, key, fact, attempts, error, died_at FROM inbox_dead
        WHERE id > coalesce((SELECT id FROM inbox_dead WHERE fact_id = $1), 0) ORDER BY id LIMIT $2""",
        UUID(after) if after else None,
        min(limit, DEAD_FACTS_PAGE_MAX),
    )
    return [
        DeadFact(
            str(row["fact_id"]), row["type"], row["key"], row["fact"], row["attempts"], row["error"], row["died_at"]
        )
        for row in rows
    ]


async def retry_dead(conn: Connection, fact_id: str) -> bool:
    """Hand a dead fact to its handler again, behind the waiting facts of its key. Returns False when there is none.

    Facts of the same key that came after it have been applied meanwhile: the handler sees it out of order.
    """
    return bool(
        await conn.fetchval(
            """WITH raised AS (DELETE FROM inbox_dead WHERE fact_id = $1 RETURNING fact_id, type, key, fact)
            INSERT INTO inbox_waiting (fact_id, type, key, fact, attempts, error, next_attempt_at)
            SELECT fact_id, type, key, fact, 0, '', clock_timestamp() FROM raised RETURNING true""",
            UUID(fact_id),
        )
    )


async def discard_dead(conn: Connection, fact_id: str) -> bool:
    """Drop a dead fact for good. Returns False when there is none. The caller writes the audit entry."""
    return bool(await conn.fetchval("DELETE FROM inbox_dead WHERE fact_id = $1 RETURNING true", UUID(fact_id)))
