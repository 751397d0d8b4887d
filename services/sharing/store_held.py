"""Rows of partners' products in PostgreSQL: written block by block, as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from services.sharing.model import KEY_BYTES_MAX, ROW_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection


async def write_block(
    conn: Connection,
    rows: str,
    fields: Sequence[str],
    key_fields: Sequence[str],
    *,
    product: str,
    contract: str,
    version: int,
    zone: str,
    fact_id: str,
    now: datetime,
) -> int:
    """Add or replace rows, given as a JSON array of arrays whose columns are `fields`; return how many really changed.

    What a newer fact said stays. Rows without a key, and those too large to be kept, are left out.
    """
    values = (product, contract, rows, list(fields), version, zone, UUID(fact_id), now)
    try:
        async with conn.transaction():
            changed: int = await conn.fetchval(_statement(fields, key_fields, once=True), *values)
    except asyncpg.CardinalityViolationError:  # two rows of the block have one key: the last one counts
        changed = await conn.fetchval(_statement(fields, key_fields, once=False), *values)
    return changed


def _statement(fields: Sequence[str], key_fields: Sequence[str], *, once: bool) -> str:
    """Return the one statement that writes a block. `once` says that no key comes twice, which need not be looked for.

    Names of fields go as parameters, never into the text.
    """
    keys = [f"e->{fields.index(name)}" for name in key_fields]
    pairs = ", ".join(f"($4::text[])[{place + 1}], e->{place}" for place in range(len(fields)))
    return f"""WITH given AS (
            SELECT {"" if once else "DISTINCT ON (key)"} key, row FROM (
                SELECT jsonb_build_array({", ".join(keys)})::text COLLATE "C" AS key,
                    jsonb_build_object({pairs}) AS row, place
                FROM jsonb_array_elements($3::text::jsonb) WITH ORDINALITY AS elements(e, place)
                WHERE jsonb_build_array({", ".join(keys)}) @> '[null]' IS FALSE AND pg_column_size(e) <= {ROW_BYTES_MAX}
            ) n WHERE octet_length(key) <= {KEY_BYTES_MAX} {"" if once else "ORDER BY key, place DESC"}
        ), written AS (
            INSERT INTO rows AS r (product, contract, key, row, version, zone, fact_id, updated_at)
            SELECT $1, $2, key, row, $5, $6, $7, $8 FROM given
            ON CONFLICT (product, contract, key) DO UPDATE SET row = excluded.row, version = excluded.version,
                zone = excluded.zone, fact_id = excluded.fact_id,
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
