"""What was received under contracts on each day, until no row of it is held any more: a proof of deletion says so."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from libs.fact_sums import DIGEST_MODULUS, digest_bytes, id_digest, time_of
from quintet.sharing.v1.facts_pb2 import ReceivedDay

if TYPE_CHECKING:
    from datetime import datetime

    from libs.db import Connection
    from quintet.fact.v1.fact_pb2 import Fact
    from services.sharing.store_deletions import Deletion

# So many days stand in one proof; of more there are several.
DAYS_PER_PROOF_MAX = 1_000


async def note(conn: Connection, fact: Fact, rows: int, now: datetime) -> None:
    """Count a fact that brought rows on the UTC day of its own time, as both ends of the contract do."""
    await conn.execute(
        "INSERT INTO received_days AS d (contract, day, held_under, facts, rows, digest, received_at)"
        " VALUES ($1, $2, $1, 1, $3, $4, $5) ON CONFLICT (contract, day) DO UPDATE SET facts = d.facts + 1,"
        " rows = d.rows + excluded.rows, digest = mod(d.digest + excluded.digest, $6),"
        " received_at = excluded.received_at",
        fact.contract, time_of(fact.time).date(), rows, Decimal(id_digest(UUID(fact.id))), now, Decimal(DIGEST_MODULUS),
    )  # fmt: skip


async def hand_over(conn: Connection, deletion: Deletion) -> None:
    """Let a successor answer for what it goes on holding."""
    query = "UPDATE received_days SET held_under = $2 WHERE held_under = $1"
    await conn.execute(query, deletion.contract, deletion.successor)


async def take_gone(conn: Connection, deletion: Deletion) -> list[ReceivedDay]:
    """Take from the list, and return, the days of which a deletion has left no row, at most DAYS_PER_PROOF_MAX.

    A row is held since it last came, so a day is gone when the last that came of it is.
    """
    rows = await conn.fetch(
        "DELETE FROM received_days WHERE (contract, day) IN (SELECT contract, day FROM received_days"
        " WHERE held_under = $1 AND ($2::timestamptz IS NULL OR received_at < $2) ORDER BY contract, day LIMIT $3)"
        " AND ($2::timestamptz IS NULL OR received_at < $2) RETURNING contract, day, facts, rows, digest",
        deletion.contract, deletion.held_before, DAYS_PER_PROOF_MAX,
    )  # fmt: skip
    return [
        ReceivedDay(
            contract=row["contract"],
            day=row["day"].isoformat(),
            facts=row["facts"],
            rows=row["rows"],
            digest=digest_bytes(int(row["digest"])),
        )
        for row in sorted(rows, key=lambda row: (row["contract"], row["day"]))
    ]
