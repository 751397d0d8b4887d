"""Deletions of partners' rows in PostgreSQL."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from libs import canonical
from libs.fact_sums import DIGEST_BYTES, DIGEST_MODULUS
from quintet.federation.v1.federation_pb2 import Terms
from quintet.sharing.v1.sharing_pb2 import MASKING_HASH

if TYPE_CHECKING:
    from libs.db import Connection


@dataclass(frozen=True, slots=True)
class Deletion:
    """Rows of a contract that have to go, or to go over to its successor; rows and digest are of those gone so far."""

    id: UUID
    contract: str
    product: str
    reason: str
    successor: str
    held_before: datetime | None
    rows: int
    digest: bytes


async def begin(
    conn: Connection,
    deletion_id: str,
    contract: str,
    reason: str,
    *,
    successor: str = "",
    held_before: datetime | None = None,
) -> None:
    """Let rows of a contract be deleted; a deletion for the same reason that is under way goes on."""
    await conn.execute(
        """INSERT INTO deletions (id, contract, product, reason, successor, held_before, digest)
        SELECT $1, name, product, $3, $4, $5, $6 FROM contracts WHERE name = $2 ON CONFLICT DO NOTHING""",
        UUID(deletion_id), contract, reason, successor, held_before, bytes(DIGEST_BYTES),
    )  # fmt: skip


async def next_one(conn: Connection) -> Deletion | None:
    """Return and lock a deletion that is under way."""
    row = await conn.fetchrow("SELECT * FROM deletions ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED")
    return Deletion(**dict(row)) if row else None


async def next_due(conn: Connection, now: datetime, check_every: timedelta) -> tuple[str, str, int] | None:
    """Return (contract, reason, days) of a contract that has run out, or whose rows are to be looked at once more."""
    row = await conn.fetchrow(
        """UPDATE contracts SET retention_checked_at = $1 WHERE name = (
            SELECT name FROM contracts
            WHERE active AND (valid_until <= $1 OR retention_days > 0)
                AND (retention_checked_at IS NULL OR retention_checked_at <= $2)
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) RETURNING name, retention_days, coalesce(valid_until <= $1, false) AS ended""",
        now, now - check_every,
    )  # fmt: skip
    return (row["name"], "EXPIRED" if row["ended"] else "RETENTION", row["retention_days"]) if row else None


async def is_takeover(conn: Connection, contract: str, successor: str) -> bool:
    """Say whether a successor may go on holding the rows: it gives the same of them, and hashes mean the same."""
    query = "SELECT terms FROM contracts WHERE name = ANY($1::text[])"
    found = [Terms.FromString(row["terms"]) for row in await conn.fetch(query, [contract, successor])]
    if len(found) != 2 or any(one.masking == MASKING_HASH for one in found[0].fields):  # noqa: PLR2004 - both
        return False
    return _scope(found[0]) == _scope(found[1])


def _scope(terms: Terms) -> tuple[object, ...]:
    fields = sorted(one.SerializeToString(deterministic=True) for one in terms.fields)
    rows = terms.filter.SerializeToString(deterministic=True), terms.aggregation.SerializeToString(deterministic=True)
    return terms.product, terms.product_version, terms.zone, fields, rows


async def portion(conn: Connection, deletion: Deletion, limit: int) -> int:
    """Delete, or hand over, at most `limit` rows and sum them up; return how many there were."""
    found = await conn.fetch(
        """WITH gone AS (
            DELETE FROM rows WHERE id IN (
                SELECT id FROM rows
                WHERE product = $1 AND contract = $2 AND ($3::timestamptz IS NULL OR received_at < $3)
                ORDER BY key LIMIT $4
            ) RETURNING *
        ), kept AS (
            INSERT INTO rows (product, contract, key, row, version, zone, fact_id, updated_at, received_at)
            SELECT product, $5, key, row, version, zone, fact_id, updated_at, received_at FROM gone WHERE $5 <> ''
            ON CONFLICT DO NOTHING RETURNING key
        ), counted AS (
            UPDATE products SET row_count = row_count - (SELECT count(*) FROM gone) + (SELECT count(*) FROM kept)
            WHERE name = $1
        )
        SELECT row::text AS row FROM gone""",
        deletion.product, deletion.contract, deletion.held_before, limit, deletion.successor,
    )  # fmt: skip
    if deletion.successor:
        return len(found)
    total = int.from_bytes(deletion.digest)
    for row in found:
        total += int.from_bytes(hashlib.sha256(canonical.dumps(json.loads(row["row"]))).digest())
    await conn.execute(
        "UPDATE deletions SET rows = rows + $2, digest = $3 WHERE id = $1",
        deletion.id, len(found), (total % DIGEST_MODULUS).to_bytes(DIGEST_BYTES),
    )  # fmt: skip
    return len(found)


async def finish(conn: Connection, deletion: Deletion) -> Deletion:
    """Take a deletion from the list; return it with its sum. With all rows of a contract go counts that lack a part."""
    if deletion.held_before is None:
        await conn.execute("DELETE FROM staged_counts WHERE contract = $1", deletion.contract)
    row = await conn.fetchrow("DELETE FROM deletions WHERE id = $1 RETURNING *", deletion.id)
    return Deletion(**dict(row)) if row else deletion
