"""Rows of partners' products in PostgreSQL: written block by block, as they come."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from services.sharing.model import KEY_BYTES_MAX, ROW_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection


@dataclass(frozen=True, slots=True)
class Held:
    """Where rows belong and which fact they are from."""

    product: str
    contract: str
    version: int
    zone: str
    fact_id: str


async def write_block(
    conn: Connection, held: Held, rows: str, fields: Sequence[str], key_fields: Sequence[str], *, now: datetime
) -> int:
    """Add or replace rows, given as a JSON array of arrays whose columns are `fields`; return how many really changed.

    What a newer fact said stays. Rows without a key, and those too large to be kept, are left out.
    """
    return await _write(conn, held, rows, fields, key_fields, now=now, key_required=True)


async def replace_counts(
    conn: Connection,
    held: Held,
    snapshot: str,
    part: int,
    rows: str,
    fields: Sequence[str],
    *,
    last: bool,
    now: datetime,
) -> int:
    """Keep a part of counts; with the last one, all replace the rows of the contract. Returns how many rows there are.

    A whole of which a part is missing changes nothing.
    """
    await conn.execute("DELETE FROM staged_counts WHERE contract = $1 AND snapshot <> $2", held.contract, snapshot)
    await conn.execute(
        "INSERT INTO staged_counts (contract, snapshot, part, fields, rows) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT DO NOTHING",
        held.contract, snapshot, part, list(fields), rows,
    )  # fmt: skip
    if not last:
        return 0
    query = "DELETE FROM staged_counts WHERE contract = $1 RETURNING part, fields, rows"
    parts = sorted(await conn.fetch(query, held.contract), key=lambda row: row["part"])
    if [row["part"] for row in parts] != list(range(part + 1)):
        return 0
    await delete_contract(conn, held.product, held.contract)
    written = 0
    for row in parts:
        written += await _write(conn, held, row["rows"], row["fields"], row["fields"], now=now, key_required=False)
    return written


async def delete_contract(conn: Connection, product: str, contract: str) -> None:
    """Drop all rows that are held under a contract."""
    await conn.execute(
        """WITH gone AS (DELETE FROM rows WHERE product = $1 AND contract = $2 RETURNING 1)
        UPDATE products SET row_count = row_count - (SELECT count(*) FROM gone) WHERE name = $1""",
        product, contract,
    )  # fmt: skip


async def _write(
    conn: Connection,
    held: Held,
    rows: str,
    fields: Sequence[str],
    key_fields: Sequence[str],
    *,
    now: datetime,
    key_required: bool,
) -> int:
    values = (held.product, held.contract, rows, list(fields), held.version, held.zone, UUID(held.fact_id), now)
    keyed = partial(_statement, fields, key_fields, key_required=key_required)
    try:
        async with conn.transaction():
            changed: int = await conn.fetchval(keyed(once=True), *values)
    except asyncpg.CardinalityViolationError:  # two rows of the block have one key: the last one counts
        changed = await conn.fetchval(keyed(once=False), *values)
    return changed


def _statement(fields: Sequence[str], key_fields: Sequence[str], *, once: bool, key_required: bool) -> str:
    """Return the one statement that writes a block. `once` says that no key comes twice, which need not be looked for.

    Names of fields go as parameters, never into the text.
    """
    keys = [f"e->{fields.index(name)}" for name in key_fields]
    pairs = ", ".join(f"($4::text[])[{place + 1}], e->{place}" for place in range(len(fields)))
    required = f"jsonb_build_array({', '.join(keys)}) @> '[null]' IS FALSE" if key_required else "true"
    return f"""WITH given AS (
            SELECT {"" if once else "DISTINCT ON (key)"} key, row FROM (
                SELECT jsonb_build_array({", ".join(keys)})::text COLLATE "C" AS key,
                    jsonb_build_object({pairs}) AS row, place
                FROM jsonb_array_elements($3::text::jsonb) WITH ORDINALITY AS elements(e, place)
                WHERE {required} AND pg_column_size(e) <= {ROW_BYTES_MAX}
            ) n WHERE octet_length(key) <= {KEY_BYTES_MAX} {"" if once else "ORDER BY key, place DESC"}
        ), written AS (
            INSERT INTO rows AS r (product, contract, key, row, version, zone, fact_id, updated_at, received_at)
            SELECT $1, $2, key, row, $5, $6, $7, $8, $8 FROM given
            ON CONFLICT (product, contract, key) DO UPDATE SET row = excluded.row, version = excluded.version,
                zone = excluded.zone, fact_id = excluded.fact_id, received_at = excluded.received_at,
                updated_at = CASE WHEN (r.row, r.version) = (excluded.row, excluded.version) THEN r.updated_at
                    ELSE excluded.updated_at END
            WHERE r.fact_id < excluded.fact_id
            RETURNING r.xmax = 0 AS inserted, r.updated_at = $8 AS changed
        ), total AS (
            SELECT count(*) FILTER (WHERE inserted) AS inserted, count(*) FILTER (WHERE changed) AS changed FROM written
        ), counted AS (
            UPDATE products p SET row_count = p.row_count + total.inserted, rows_at = $8
            FROM total WHERE p.name = $1 AND total.changed > 0
        )
        SELECT changed FROM total"""
