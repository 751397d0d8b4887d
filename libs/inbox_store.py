"""The tables of facts taken in: which are known, which wait for their turn, which were given up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from libs.db import Connection

ERROR_CHARS_MAX = 2_000


class Taken(NamedTuple):
    """A fact as the consumer handles it: parsed far enough to be stored, whatever is in it."""

    fact_id: UUID
    type: str
    key: str  # of facts without one: their id, so that they wait for nobody
    fact: bytes


class Waiting(NamedTuple):
    """The first of the facts of a key that wait, and how often it was tried."""

    id: int
    taken: Taken
    attempts: int


@dataclass(frozen=True)
class DeadFact:
    """A fact that was given up: `fact` is a serialised quintet.fact.v1.Fact, unless that was the fault."""

    fact_id: str
    type: str
    key: str
    fact: bytes
    attempts: int
    error: str
    time: datetime


async def claim(conn: Connection, facts: Sequence[Taken]) -> tuple[set[UUID], set[str]]:
    """Mark facts as taken in. Returns the ids that were not before, and those of their keys for which facts wait."""
    rows = await conn.fetch(
        """WITH taken AS (
            INSERT INTO inbox (fact_id) SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING RETURNING fact_id
        )
        SELECT fact_id, NULL AS key FROM taken
        UNION ALL SELECT NULL, key FROM inbox_waiting WHERE key = ANY($2::text[])""",
        [fact.fact_id for fact in facts],
        [fact.key for fact in facts],
    )
    return {row["fact_id"] for row in rows if row["fact_id"]}, {row["key"] for row in rows if row["key"] is not None}


async def known(conn: Connection, fact_ids: Sequence[UUID]) -> set[str]:
    """Return which of the facts were taken in before, as far as that is remembered."""
    if not fact_ids:
        return set()
    rows = await conn.fetch("SELECT fact_id FROM inbox WHERE fact_id = ANY($1::uuid[])", fact_ids)
    return {str(row["fact_id"]) for row in rows}


async def wait_behind(conn: Connection, facts: Sequence[Taken]) -> None:
    """Queue facts behind those of their keys that already wait."""
    await _insert_waiting(conn, facts, attempts=0, error="", delay_s=0)


async def wait_after(conn: Connection, fact: Taken, *, error: str, delay_s: float) -> None:
    """Queue a fact that has failed for the first time; it holds back the later facts of its key."""
    await _insert_waiting(conn, [fact], attempts=1, error=error, delay_s=delay_s)


async def _insert_waiting(
    conn: Connection, facts: Sequence[Taken], *, attempts: int, error: str, delay_s: float
) -> None:
    await conn.execute(
        """INSERT INTO inbox_waiting (fact_id, type, key, fact, attempts, error, next_attempt_at)
        SELECT fact_id, type, key, fact, $5, $6, clock_timestamp() + make_interval(secs => $7)
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]) WITH ORDINALITY
            AS f(fact_id, type, key, fact, place)
        ORDER BY place
        ON CONFLICT (fact_id) DO NOTHING""",
        *([fact[column] for fact in facts] for column in range(len(Taken._fields))),
        attempts,
        error[:ERROR_CHARS_MAX],
        delay_s,
    )


async def due(conn: Connection, limit: int) -> list[Waiting]:
    """Return the first waiting fact of each key whose time has come, the longest waiting first."""
    rows = await conn.fetch(
        """SELECT id, fact_id, type, key, fact, attempts FROM (
            SELECT DISTINCT ON (key) * FROM inbox_waiting ORDER BY key, id
        ) AS heads WHERE next_attempt_at <= clock_timestamp() ORDER BY id LIMIT $1""",
        limit,
    )
    return [
        Waiting(row["id"], Taken(row["fact_id"], row["type"], row["key"], row["fact"]), row["attempts"]) for row in rows
    ]


async def waiting(conn: Connection) -> tuple[int, float, float | None]:
    """Return how many facts wait, for how many seconds the oldest, and in how many seconds the next is due, if any."""
    row = await conn.fetchrow(
        """SELECT count(*) AS facts,
            coalesce(extract(epoch FROM clock_timestamp() - min(received_at)), 0)::float8 AS age_s,
            (SELECT extract(epoch FROM min(next_attempt_at) - clock_timestamp())::float8 FROM (
                SELECT DISTINCT ON (key) next_attempt_at FROM inbox_waiting ORDER BY key, id
            ) AS heads) AS next_s
        FROM inbox_waiting"""
    )
    if row is None:
        return 0, 0.0, None
    return row["facts"], row["age_s"], row["next_s"]


async def finish(conn: Connection, waiting_id: int) -> bool:
    """Take a waiting fact out of the queue. Returns False when it is not there any more."""
    return bool(await conn.fetchval("DELETE FROM inbox_waiting WHERE id = $1 RETURNING true", waiting_id))


async def postpone(conn: Connection, waiting_id: int, *, error: str, delay_s: float) -> None:
    """Note one more failed attempt at a waiting fact."""
    await conn.execute(
        """UPDATE inbox_waiting SET attempts = attempts + 1, error = $2,
            next_attempt_at = clock_timestamp() + make_interval(secs => $3) WHERE id = $1""",
        waiting_id,
        error[:ERROR_CHARS_MAX],
        delay_s,
    )


async def bury(conn: Connection, fact: Taken, *, attempts: int, error: str) -> None:
    """Give a fact up: out of the queue, into the dead letters."""
    await conn.execute("DELETE FROM inbox_waiting WHERE fact_id = $1", fact.fact_id)
    await conn.execute(
        """INSERT INTO inbox_dead (fact_id, type, key, fact, attempts, error) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (fact_id) DO UPDATE SET attempts = excluded.attempts, error = excluded.error,
            died_at = excluded.died_at""",
        *fact, attempts, error[:ERROR_CHARS_MAX],
    )  # fmt: skip
