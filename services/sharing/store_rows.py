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
    from services.sharing.store_select import Parameters

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


async def write_rows(
    conn: Connection, rows: Mapping[str, str], *, product: str, version: int, zone: str, fact_id: str, now: datetime
) -> int:
    """Add or replace rows of an own product, given as JSON by key; return how many really changed.

    What a newer fact said stays. The caller holds the lock of the product, and with it the order of changes.
    """
    changed: int = await conn.fetchval(
        """WITH written AS (
            INSERT INTO rows AS r (product, contract, key, row, version, zone, fact_id, updated_at, change)
            SELECT $1, '', n.key, n.row::jsonb, $4, $5, $6, $7, nextval('row_changes')
            FROM unnest($2::text[], $3::text[]) AS n(key, row) ORDER BY n.key COLLATE "C"
            ON CONFLICT (product, contract, key) DO UPDATE SET row = excluded.row, version = excluded.version,
                zone = excluded.zone, fact_id = excluded.fact_id,
                updated_at = CASE WHEN (r.row, r.version, r.zone) = (excluded.row, excluded.version, excluded.zone)
                    THEN r.updated_at ELSE excluded.updated_at END,
                change = CASE WHEN (r.row, r.version, r.zone) = (excluded.row, excluded.version, excluded.zone)
                    THEN r.change ELSE excluded.change END
            WHERE r.fact_id < excluded.fact_id
            RETURNING r.xmax = 0 AS inserted, r.updated_at = $7 AS changed, r.change
        ), total AS (
            SELECT count(*) FILTER (WHERE inserted) AS inserted, count(*) FILTER (WHERE changed) AS changed,
                max(change) AS last FROM written
        ), counted AS (
            UPDATE products p SET row_count = p.row_count + total.inserted, rows_at = $7,
                last_change = greatest(p.last_change, total.last)
            FROM total WHERE p.name = $1 AND total.changed > 0
        )
        SELECT changed FROM total""",
        product, list(rows), list(rows.values()), version, zone, UUID(fact_id), now,
    )  # fmt: skip
    return changed


async def delete_rows(conn: Connection, product: str) -> None:
    """Drop all rows of a product."""
    await conn.execute("DELETE FROM rows WHERE product = $1", product)
    await conn.execute("UPDATE products SET row_count = 0, rows_at = NULL WHERE name = $1", product)


async def lift_rows(conn: Connection, product: str, version: int) -> None:
    """Let the rows of an own product count as of a new version, as changes of theirs."""
    await conn.execute(
        """WITH lifted AS (
            UPDATE rows SET version = $2, change = nextval('row_changes')
            WHERE product = $1 AND contract = '' AND version <> $2 RETURNING change
        )
        UPDATE products p SET last_change = greatest(p.last_change, l.last)
        FROM (SELECT max(change) AS last FROM lifted) l WHERE p.name = $1 AND l.last IS NOT NULL""",
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
    parameters: Parameters,
    where: str,
    *,
    after: int | None,
    limit: int,
    bytes_max: int,
) -> tuple[list[Row], bool]:
    """Return rows behind the one with id `after`, by key, and whether there are more.

    `where` is a condition with its parameters. At most `limit` rows, and no more than fit into `bytes_max` bytes of
    JSON; at least one when there is one.
    """
    found: list[Row] = []
    size = 0
    of = f"product = {parameters.add(product, 'text')} AND contract = {parameters.add(contract, 'text')}"
    last = parameters.add(after, "bigint")
    query = f"""SELECT id, row::text FROM rows WHERE {of} AND {where}
        AND ({last} IS NULL OR key > (SELECT key FROM rows WHERE {of} AND id = {last}))
        ORDER BY key LIMIT {parameters.add(limit + 1, "bigint")}"""
    async for record in conn.cursor(query, *parameters.values, prefetch=FETCH_ROWS):
        row = Row(record[0], record[1])
        size += len(row.text.encode())
        if found and (len(found) == limit or size > bytes_max):
            return found, True
        found.append(row)
    return found, False
