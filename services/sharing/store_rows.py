"""Rows of products in PostgreSQL."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from libs.canonical import JsonValue
    from libs.db import Connection

# Rows are read from the server in such portions, so that a page that is full by its bytes reads little too much.
FETCH_ROWS = 50


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it is stored; text is its JSON."""

    id: int
    text: str

    @property
    def values(self) -> dict[str, JsonValue]:
        found: dict[str, JsonValue] = json.loads(self.text)
        return found


@dataclass(frozen=True, slots=True)
class Unstated:
    """A row that changed and is still to be stated."""

    row: Row
    product: str
    zone: str
    version: int


async def write_rows(
    conn: Connection,
    rows: Mapping[str, str],
    *,
    product: str,
    contract: str,
    version: int,
    zone: str,
    fact_id: str,
    now: datetime,
    state: bool,
) -> int:
    """Add or replace rows, given as JSON by key; return how many really changed.

    What a newer fact said stays. With `state` changed rows are marked to be stated.
    """
    changed: int = await conn.fetchval(
        """WITH written AS (
            INSERT INTO rows AS r (product, contract, key, row, version, zone, fact_id, updated_at, unstated)
            SELECT $1, $2, n.key, n.row::jsonb, $5, $6, $7, $8, $9 FROM unnest($3::text[], $4::text[]) AS n(key, row)
            ORDER BY n.key COLLATE "C"
            ON CONFLICT (product, contract, key) DO UPDATE SET row = excluded.row, version = excluded.version,
                zone = excluded.zone, fact_id = excluded.fact_id,
                updated_at = CASE WHEN (r.row, r.version) = (excluded.row, excluded.version) THEN r.updated_at
                    ELSE excluded.updated_at END,
                unstated = r.unstated OR (excluded.unstated AND (r.row, r.version) <> (excluded.row, excluded.version))
            WHERE r.fact_id < excluded.fact_id
            RETURNING r.xmax = 0 AS inserted, r.updated_at = $8 AS changed
        ), total AS (
            SELECT count(*) FILTER (WHERE inserted) AS inserted, count(*) FILTER (WHERE changed) AS changed FROM written
        ), counted AS (
            UPDATE products p SET row_count = p.row_count + total.inserted, rows_at = $8
            FROM total WHERE p.name = $1 AND total.changed > 0
        )
        SELECT changed FROM total""",
        product, contract, list(rows), list(rows.values()), version, zone, UUID(fact_id), now, state,
    )  # fmt: skip
    return changed


async def delete_rows(conn: Connection, product: str) -> None:
    """Drop all rows of a product."""
    await conn.execute("DELETE FROM rows WHERE product = $1", product)
    await conn.execute("UPDATE products SET row_count = 0, rows_at = NULL WHERE name = $1", product)


async def lift_rows(conn: Connection, product: str, version: int) -> None:
    """Let the rows of an own product count as of a new version, under which they are stated again."""
    await conn.execute(
        "UPDATE rows SET version = $2, unstated = true WHERE product = $1 AND contract = '' AND version <> $2",
        product, version,
    )  # fmt: skip


async def has_row(conn: Connection, product: str, contract: str, row_id: int) -> bool:
    return bool(
        await conn.fetchval(
            "SELECT true FROM rows WHERE product = $1 AND contract = $2 AND id = $3", product, contract, row_id
        )
    )


async def page(
    conn: Connection,
    product: str,
    contract: str,
    where: Mapping[str, JsonValue],
    *,
    after: int | None,
    limit: int,
    bytes_max: int,
) -> tuple[list[Row], bool]:
    """Return rows behind the one with id `after`, by key, and whether there are more.

    At most `limit`, and no more than fit into `bytes_max` bytes of JSON; at least one when there is one.
    """
    found: list[Row] = []
    size = 0
    query = """SELECT id, row::text FROM rows WHERE product = $1 AND contract = $2 AND row @> $3::jsonb
        AND ($4::bigint IS NULL OR key > (SELECT key FROM rows WHERE product = $1 AND contract = $2 AND id = $4))
        ORDER BY key LIMIT $5"""
    cursor = conn.cursor(query, product, contract, json.dumps(where), after, limit + 1, prefetch=FETCH_ROWS)
    async for record in cursor:
        row = Row(record[0], record[1])
        size += len(row.text.encode())
        if found and (len(found) == limit or size > bytes_max):
            return found, True
        found.append(row)
    return found, False


@dataclass(frozen=True, slots=True)
class Restatement:
    """The rows of a product after `after_id` are still to be stated for a contract."""

    contract: str
    product: str
    version: int
    after_id: int


async def want_restatement(conn: Connection, contract: str, product: str, version: int) -> None:
    """Let the present rows of a product be stated for a contract that came into force."""
    await conn.execute(
        "INSERT INTO restatements (contract, product, version) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        contract, product, version,
    )  # fmt: skip


async def drop_restatement(conn: Connection, contract: str) -> None:
    """Nothing more is to be stated for a contract: all was, or it has ended."""
    await conn.execute("DELETE FROM restatements WHERE contract = $1", contract)


async def next_restatement(conn: Connection) -> Restatement | None:
    """Return and lock a contract that waits for rows."""
    query = "SELECT contract, product, version, after_id FROM restatements LIMIT 1 FOR UPDATE SKIP LOCKED"
    row = await conn.fetchrow(query)
    return Restatement(**dict(row)) if row else None


async def restate(conn: Connection, wanted: Restatement, limit: int) -> list[Unstated]:
    """Return the next rows for a contract, by id, and note that they are stated."""
    found = await conn.fetch(
        """SELECT id, row::text AS row, product, zone, version FROM rows
        WHERE product = $1 AND contract = '' AND version = $2 AND NOT unstated AND id > $3
        ORDER BY id LIMIT $4""",
        wanted.product, wanted.version, wanted.after_id, limit,
    )  # fmt: skip
    if found:
        query = "UPDATE restatements SET after_id = $2 WHERE contract = $1"
        await conn.execute(query, wanted.contract, found[-1]["id"])
    return [Unstated(Row(row["id"], row["row"]), row["product"], row["zone"], row["version"]) for row in found]


async def take_unstated(conn: Connection, limit: int) -> list[Unstated]:
    """Return changed rows, locked and marked as stated, together those of one product and zone."""
    rows = await conn.fetch(
        """WITH taken AS (
            SELECT id FROM rows WHERE unstated ORDER BY product, zone, id LIMIT $1 FOR UPDATE SKIP LOCKED
        )
        UPDATE rows r SET unstated = false FROM taken WHERE r.id = taken.id
        RETURNING r.id, r.row::text AS row, r.product, r.zone, r.version""",
        limit,
    )
    rows.sort(key=lambda row: (row["product"], row["zone"], row["version"], row["id"]))
    return [Unstated(Row(row["id"], row["row"]), row["product"], row["zone"], row["version"]) for row in rows]
