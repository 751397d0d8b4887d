"""Checkpoints offered to peers with their answers, and the checkpoints of peers that this node has cosigned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from libs.db import Connection
    from quintet.audit.v1 import audit_pb2

# A later cosignature vouches for all earlier entries: older ones are kept for a while, not for ever.
COSIGNATURES_KEPT_MAX = 1_000


@dataclass(frozen=True)
class Offered:
    """One row of `cosignatures`: a checkpoint of this node, and what the peer said to it."""

    peer: str
    part: str
    size: int
    statement: str
    key_id: str
    signature: bytes
    offered_at: datetime
    answered_at: datetime | None
    refusal: str
    peer_size: int
    peer_key_id: str
    cosignature: bytes


@dataclass(frozen=True)
class Held:
    """One row of `cosigned`: the newest checkpoint of a peer's log that this node vouches for."""

    peer: str
    part: str
    size: int
    root: bytes
    statement: str
    key_id: str
    signature: bytes
    cosigned_at: datetime
    forked: str


_OFFERED = ", ".join(Offered.__dataclass_fields__)
_HELD = ", ".join(Held.__dataclass_fields__)


async def latest(conn: Connection, peer: str) -> dict[str, Offered]:
    """Return the latest offer to a peer for each part; the row of the peer must be locked by who goes on to offer."""
    query = f"SELECT DISTINCT ON (part) {_OFFERED} FROM cosignatures WHERE peer = $1 ORDER BY part, offered_at DESC"
    rows = await conn.fetch(query, peer)
    return {row["part"]: Offered(**dict(row)) for row in rows}


async def offer(conn: Connection, peer: str, checkpoint: audit_pb2.Checkpoint, now: datetime) -> None:
    """Note that a checkpoint was offered; one that was offered before waits for a new answer."""
    await conn.execute(
        """INSERT INTO cosignatures (peer, part, size, statement, key_id, signature, offered_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (peer, part, size) DO UPDATE SET statement = excluded.statement, key_id = excluded.key_id,
            signature = excluded.signature, offered_at = excluded.offered_at, answered_at = NULL, refusal = '',
            peer_key_id = '', cosignature = ''""",
        peer,
        checkpoint.part,
        checkpoint.size,
        checkpoint.statement,
        checkpoint.key_id,
        checkpoint.signature,
        now,
    )


async def offered(conn: Connection, peer: str, part: str, size: int) -> Offered | None:
    query = f"SELECT {_OFFERED} FROM cosignatures WHERE peer = $1 AND part = $2 AND size = $3 FOR UPDATE"
    row = await conn.fetchrow(query, peer, part, size)
    return Offered(**dict(row)) if row else None


async def answer(
    conn: Connection, of: Offered, now: datetime, *, refusal: str, peer_size: int, key_id: str, signature: bytes
) -> None:
    """Keep the peer's answer, and forget answers that COSIGNATURES_KEPT_MAX later ones of the log stand for."""
    await conn.execute(
        """UPDATE cosignatures SET answered_at = $4, refusal = $5, peer_size = $6, peer_key_id = $7, cosignature = $8
        WHERE peer = $1 AND part = $2 AND size = $3""",
        of.peer,
        of.part,
        of.size,
        now,
        refusal,
        peer_size,
        key_id,
        signature,
    )
    await conn.execute(
        """DELETE FROM cosignatures WHERE peer = $1 AND part = $2 AND size < (
            SELECT size FROM cosignatures WHERE peer = $1 AND part = $2 AND cosignature <> ''
            ORDER BY size DESC OFFSET $3 LIMIT 1)""",
        of.peer,
        of.part,
        COSIGNATURES_KEPT_MAX - 1,
    )


async def page(conn: Connection, peer: str, part: str, after: tuple[str, str, int] | None, limit: int) -> list[Offered]:
    """Return offers that were answered, by peer, part and size; of one peer or part where given."""
    query = f"""SELECT {_OFFERED} FROM cosignatures WHERE answered_at IS NOT NULL
        AND ($1 = '' OR peer = $1) AND ($2 = '' OR part = $2) AND (peer, part, size) > ($3, $4, $5)
        ORDER BY peer, part, size LIMIT $6"""
    return [Offered(**dict(row)) for row in await conn.fetch(query, peer, part, *(after or ("", "", 0)), limit)]


async def held(conn: Connection, peer: str, part: str) -> Held | None:
    """Return and lock the newest checkpoint of a peer's log that was cosigned here."""
    row = await conn.fetchrow(f"SELECT {_HELD} FROM cosigned WHERE peer = $1 AND part = $2 FOR UPDATE", peer, part)
    return Held(**dict(row)) if row else None


async def all_held(conn: Connection, after: tuple[str, str] | None, limit: int) -> list[Held]:
    """Return the newest checkpoints of the peers' logs, by peer and part."""
    query = f"SELECT {_HELD} FROM cosigned WHERE (peer, part) > ($1, $2) ORDER BY peer, part LIMIT $3"
    return [Held(**dict(row)) for row in await conn.fetch(query, *(after or ("", "")), limit)]


async def hold(conn: Connection, held: Held) -> None:
    """Keep a checkpoint that was cosigned in place of the one before."""
    await conn.execute(
        f"""INSERT INTO cosigned ({_HELD}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (peer, part) DO UPDATE SET size = excluded.size, root = excluded.root,
            statement = excluded.statement, key_id = excluded.key_id, signature = excluded.signature,
            cosigned_at = excluded.cosigned_at, forked = excluded.forked""",
        *(getattr(held, name) for name in Held.__dataclass_fields__),
    )


async def mark_forked(conn: Connection, peer: str, part: str, text: str) -> None:
    await conn.execute("UPDATE cosigned SET forked = $3 WHERE peer = $1 AND part = $2", peer, part, text)


async def forget(conn: Connection, peer: str, part: str) -> None:
    """Forget what was cosigned of a log: the next checkpoint offered is a first one."""
    await conn.execute("DELETE FROM cosigned WHERE peer = $1 AND part = $2", peer, part)


async def parts(conn: Connection, peer: str) -> int:
    """Return of how many logs of a peer something is held."""
    count: int = await conn.fetchval("SELECT count(*) FROM cosigned WHERE peer = $1", peer)
    return count


async def forks(conn: Connection, peer: str) -> list[str]:
    """Return the logs with this peer, its own and this node's, that do not continue what was cosigned."""
    rows = await conn.fetch(
        """SELECT part FROM cosigned WHERE peer = $1 AND forked <> ''
        UNION ALL SELECT part FROM (
            SELECT DISTINCT ON (part) part, refusal FROM cosignatures WHERE peer = $1 AND answered_at IS NOT NULL
            ORDER BY part, offered_at DESC) AS last WHERE refusal LIKE $2 || '%'""",
        peer,
        FORKED,
    )
    return [row["part"] for row in rows]


# What a refusal begins with, and the name of the alarm.
FORKED = "AUDIT_FORKED"
