"""The tables of the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.audit_chain import START, Checkpoint, Entry, Head

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection, Record

_SEALED = """SELECT sequence, time, actor, action, resource, detail, trace_id, previous_hash, hash FROM audit_entries
    WHERE sequence > $1"""

_CHECKPOINTS = "SELECT sequence, head, time, statement, key_id, signature, root FROM audit_checkpoints"


async def head(conn: Connection) -> Head:
    """Return the last place in the chain, START when it is empty."""
    row = await conn.fetchrow(
        "SELECT sequence, hash FROM audit_entries WHERE sequence IS NOT NULL ORDER BY sequence DESC LIMIT 1"
    )
    return Head(row["sequence"], row["hash"]) if row else START


async def unsealed(conn: Connection, limit: int) -> list[tuple[int, Entry]]:
    """Return entries without a place, in order of id, with their ids."""
    rows = await conn.fetch(
        """SELECT id, time, actor, action, resource, detail, trace_id FROM audit_entries
        WHERE sequence IS NULL ORDER BY id LIMIT $1""",
        limit,
    )
    return [(row["id"], Entry(*tuple(row)[1:])) for row in rows]


async def count_unsealed(conn: Connection) -> int:
    count: int = await conn.fetchval("SELECT count(*) FROM audit_entries WHERE sequence IS NULL")
    return count


async def seal(conn: Connection, places: Sequence[tuple[int, int, bytes, bytes]]) -> None:
    """Give entries their place: id, sequence, previous hash, hash."""
    if places:
        await conn.execute(
            """UPDATE audit_entries AS entry
            SET sequence = place.sequence, previous_hash = place.previous, hash = place.hash
            FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[]) AS place(id, sequence, previous, hash)
            WHERE entry.id = place.id""",
            *(list(column) for column in zip(*places, strict=True)),
        )


async def sealed(conn: Connection, after: int, limit: int, *, resource: str = "", actor: str = "") -> list[Entry]:
    """Return entries behind the sequence `after` in order, of one resource or actor where given."""
    query, arguments = _SEALED, [after, limit]
    filters: list[object] = []
    for column, value in (("resource", resource), ("actor", actor)):
        if value:
            filters.append(value)
            query += f" AND {column} = ${2 + len(filters)}"
    rows = await conn.fetch(f"{query} ORDER BY sequence LIMIT $2", *arguments, *filters)
    return [_entry(row) for row in rows]


async def last_checkpoint(conn: Connection) -> tuple[int, datetime | None]:
    """Return the sequence and time of the last checkpoint, 0 and None without one."""
    row = await conn.fetchrow("SELECT sequence, time FROM audit_checkpoints ORDER BY sequence DESC LIMIT 1")
    return (row["sequence"], row["time"]) if row else (0, None)


async def add_checkpoint(conn: Connection, checkpoint: Checkpoint) -> None:
    """Keep a checkpoint; where one was signed for the same entry before, that one counts."""
    await conn.execute(
        """INSERT INTO audit_checkpoints (sequence, head, time, statement, key_id, signature, root)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING""",
        checkpoint.sequence, checkpoint.head, checkpoint.time,
        checkpoint.statement, checkpoint.key_id, checkpoint.signature, checkpoint.root,
    )  # fmt: skip


async def checkpoints(conn: Connection, first: int, last: int, limit: int | None = None) -> list[Checkpoint]:
    """Return the checkpoints from sequence `first` to `last` in order, at most `limit`."""
    rows = await conn.fetch(
        f"{_CHECKPOINTS} WHERE sequence BETWEEN $1 AND $2 ORDER BY sequence LIMIT $3", first, last, limit
    )
    return [Checkpoint(*row) for row in rows]


async def newest_checkpoint(conn: Connection) -> Checkpoint | None:
    row = await conn.fetchrow(f"{_CHECKPOINTS} ORDER BY sequence DESC LIMIT 1")
    return Checkpoint(*row) if row else None


async def strays(conn: Connection, sequence: int) -> str:
    """Return what stands in the tables that no log of `sequence` entries has, "" for nothing."""
    found = await conn.fetchval(
        """SELECT CASE
            WHEN EXISTS (SELECT FROM audit_entries WHERE sequence < 1) THEN 'an entry before the first was inserted'
            WHEN EXISTS (SELECT FROM audit_checkpoints WHERE sequence < 1) THEN 'a checkpoint of nothing was inserted'
            WHEN EXISTS (SELECT FROM audit_tiles WHERE level NOT IN (8, 16, 24, 32) OR index < 0
                OR (index + 1) << level > $1) THEN 'a node of the tree was inserted'
        END""",
        sequence,
    )
    return found or ""


def _entry(row: Record) -> Entry:
    return Entry(
        time=row["time"],
        actor=row["actor"],
        action=row["action"],
        resource=row["resource"],
        detail=row["detail"],
        trace_id=row["trace_id"],
        sequence=row["sequence"],
        previous_hash=row["previous_hash"],
        hash=row["hash"],
    )
