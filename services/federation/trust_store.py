"""Signed trust lists, this node's own and those of its peers, and the signing keys that they make known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.federation.v1 import trust_pb2
from services.federation.key_ring import KeyRing, SigningKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from libs.db import Connection, Record

# Older lists of a node are not needed for anything but looking back.
LISTS_KEPT_MAX = 100

_KEY = ", ".join(SigningKey.__dataclass_fields__)


async def lock(conn: Connection) -> None:
    """Let no other transaction make or take a list until the end of this one."""
    await conn.execute("LOCK TABLE trust_lists IN SHARE ROW EXCLUSIVE MODE")


async def newest(conn: Connection, node: str) -> trust_pb2.SignedTrustList | None:
    """Return the newest list of a node."""
    query = "SELECT list, root_signature FROM trust_lists WHERE node = $1 ORDER BY number DESC LIMIT 1"
    row = await conn.fetchrow(query, node)
    return _list(row) if row else None


async def page(conn: Connection, after: str, limit: int) -> list[tuple[str, trust_pb2.SignedTrustList]]:
    """Return the newest list of each node, in the order of the nodes."""
    query = """
        SELECT DISTINCT ON (node) node, list, root_signature FROM trust_lists
        WHERE node > $1 ORDER BY node, number DESC LIMIT $2
    """
    return [(row["node"], _list(row)) for row in await conn.fetch(query, after, limit)]


async def keep(conn: Connection, node: str, number: int, signed: trust_pb2.SignedTrustList, now: datetime) -> None:
    """Keep a list as the newest of its node."""
    await conn.execute(
        "INSERT INTO trust_lists (node, number, list, root_signature, kept_at) VALUES ($1, $2, $3, $4, $5)",
        node,
        number,
        signed.list,
        signed.root_signature,
        now,
    )
    await conn.execute("DELETE FROM trust_lists WHERE node = $1 AND number <= $2", node, number - LISTS_KEPT_MAX)


async def forget_lists(conn: Connection, node: str) -> None:
    """Forget the lists of a node that begins anew with another root; its keys stay, for what they have signed."""
    await conn.execute("DELETE FROM trust_lists WHERE node = $1", node)


async def keep_keys(conn: Connection, keys: Iterable[SigningKey]) -> None:
    """Keep keys. What was retired or revoked stays so."""
    query = f"""
        INSERT INTO signing_keys AS k ({_KEY}) VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (node, key_id) DO UPDATE SET retired_at = least(k.retired_at, excluded.retired_at),
            revoked_at = least(k.revoked_at, excluded.revoked_at),
            revoked_reason = CASE WHEN k.revoked_reason = '' THEN excluded.revoked_reason ELSE k.revoked_reason END
    """
    await conn.executemany(
        query, [tuple(getattr(key, name) for name in SigningKey.__dataclass_fields__) for key in keys]
    )


async def retire_others(conn: Connection, node: str, present: Sequence[str], now: datetime) -> None:
    """Retire the keys of a node but for those that are `present`."""
    await conn.execute(
        "UPDATE signing_keys SET retired_at = $3 WHERE node = $1 AND key_id <> ALL($2::text[]) AND retired_at IS NULL",
        node,
        list(present),
        now,
    )


async def revoke(conn: Connection, node: str, key_id: str, reason: str, now: datetime) -> None:
    """Revoke a key: nothing that comes with it from now on is good."""
    await conn.execute(
        "UPDATE signing_keys SET revoked_at = $3, revoked_reason = $4"
        " WHERE node = $1 AND key_id = $2 AND revoked_at IS NULL",
        node,
        key_id,
        now,
        reason,
    )


async def keys(conn: Connection, node: str) -> list[SigningKey]:
    """Return all keys of a node, by their ids."""
    rows = await conn.fetch(f"SELECT {_KEY} FROM signing_keys WHERE node = $1 ORDER BY key_id", node)
    return [SigningKey(**dict(row)) for row in rows]


async def keys_page(conn: Connection, after: tuple[str, str], limit: int) -> list[SigningKey]:
    """Return keys of all nodes, ordered by node and key id."""
    query = f"SELECT {_KEY} FROM signing_keys WHERE (node, key_id) > ($1, $2) ORDER BY node, key_id LIMIT $3"
    return [SigningKey(**dict(row)) for row in await conn.fetch(query, *after, limit)]


async def ring(conn: Connection, node: str) -> KeyRing:
    """Return what is known of a peer's keys."""
    return KeyRing(node, await keys(conn, node))


def _list(row: Record) -> trust_pb2.SignedTrustList:
    return trust_pb2.SignedTrustList(list=row["list"], root_signature=row["root_signature"])
