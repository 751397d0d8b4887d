"""Disclosures as they are kept: one row per person, contract and what was given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from services.federation.disclosures import DISCLOSURES_KEEP_DAYS, Disclosed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from libs.db import Connection

PURGE_ROWS_PER_BATCH = 5_000


@dataclass(frozen=True)
class Kept:
    """One row of `disclosures`."""

    disclosed: Disclosed
    first_at: datetime
    last_at: datetime
    count: int


async def record(conn: Connection, disclosed: Mapping[Disclosed, int], now: datetime) -> None:
    """Add disclosures, each with its number, in one statement."""
    if not disclosed:
        return
    # One order for all, so that two batches never wait for each other in a circle.
    found = sorted(disclosed.items(), key=lambda item: (item[0].person, item[0].contract, item[0].what))
    columns = ("person", "contract", "what", "on_request", "peer", "purpose")
    await conn.execute(
        "INSERT INTO disclosures AS d (person, contract, what, on_request, peer, purpose, fields, count, first_at,"
        " last_at) SELECT p, c, w, r, n, u, string_to_array(f, ','), k, $9, $9"
        " FROM unnest($1::bytea[], $2::text[], $3::text[], $4::boolean[], $5::text[], $6::text[], $7::text[],"
        " $8::bigint[]) AS t(p, c, w, r, n, u, f, k)"
        " ON CONFLICT (person, contract, what, on_request, fields) DO UPDATE SET count = d.count + excluded.count,"
        " last_at = excluded.last_at",
        *([getattr(one, name) for one, _ in found] for name in columns),
        [",".join(one.fields) for one, _ in found],
        [count for _, count in found],
        now,
    )


async def page(conn: Connection, person: bytes, after: int | None, limit: int) -> list[tuple[int, Kept]]:
    """Return what was disclosed of a person, newest first seen first, each with its place in the list."""
    query = """
        SELECT id, person, contract, what, on_request, peer, purpose, fields, count, first_at, last_at
        FROM disclosures WHERE person = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
    """
    return [
        (
            row["id"],
            Kept(
                Disclosed(
                    row["person"],
                    row["contract"],
                    row["peer"],
                    row["purpose"],
                    row["what"],
                    row["on_request"],
                    tuple(row["fields"]),
                ),
                row["first_at"],
                row["last_at"],
                row["count"],
            ),
        )
        for row in await conn.fetch(query, person, after, limit)
    ]


async def forget(conn: Connection, now: datetime) -> int:
    """Delete what was kept long enough since it was last disclosed, in a batch; return how many rows went."""
    status = await conn.execute(
        "DELETE FROM disclosures WHERE id IN (SELECT id FROM disclosures WHERE last_at < $1 ORDER BY last_at LIMIT $2)",
        now - timedelta(days=DISCLOSURES_KEEP_DAYS),
        PURGE_ROWS_PER_BATCH,
    )
    return int(status.split()[-1])
