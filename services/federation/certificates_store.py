"""The certificates that this node has issued to its peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection

# Those that ended long ago are of no use to anybody.
KEEP_DAYS = 30


async def add(conn: Connection, serial: str, peer: str, key_name: str, not_after: datetime, now: datetime) -> None:
    """Note a certificate, and forget those of the peer that ended long ago and were not revoked."""
    await conn.execute(
        "INSERT INTO issued_certificates (serial, peer, key_name, not_after) VALUES ($1, $2, $3, $4)",
        serial,
        peer,
        key_name,
        not_after,
    )
    await conn.execute(
        "DELETE FROM issued_certificates WHERE peer = $1 AND revoked_at IS NULL"
        " AND not_after < $2::timestamptz - make_interval(days => $3)",
        peer,
        now,
        KEEP_DAYS,
    )


async def revoke(conn: Connection, peer: str, reason: str, now: datetime) -> list[str]:
    """Revoke all certificates of a peer; return their serial numbers."""
    query = """
        UPDATE issued_certificates SET revoked_at = $2, reason = $3 WHERE peer = $1 AND revoked_at IS NULL
        RETURNING serial
    """
    return [row["serial"] for row in await conn.fetch(query, peer, now, reason)]


async def good(conn: Connection, serials: Sequence[str]) -> set[str]:
    """Return those of the certificates that were issued here and not revoked."""
    query = "SELECT serial FROM issued_certificates WHERE serial = ANY($1::text[]) AND revoked_at IS NULL"
    return {row["serial"] for row in await conn.fetch(query, list(serials))}


async def key_revoked(conn: Connection, key_name: str) -> bool:
    """Say whether a certificate for this key was revoked."""
    query = "SELECT true FROM issued_certificates WHERE key_name = $1 AND revoked_at IS NOT NULL LIMIT 1"
    return bool(await conn.fetchval(query, key_name))
