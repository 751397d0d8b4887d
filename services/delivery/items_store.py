"""Service items in PostgreSQL, and the search for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.delivery import search
from services.delivery.applications_model import ServiceItem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection, Record
    from services.delivery.search import Query

_COLUMNS = "code, title, department, main_item, task_type"

# The matches, each with its score: how many of the grams asked for it has, and the bonus for the very words.
_MATCHES = f"""
WITH matches AS MATERIALIZED (
    SELECT {_COLUMNS}, char_length(title) AS chars, score
    FROM (
        SELECT *, (SELECT count(*) FROM unnest($2::text[]) AS g(gram) WHERE g.gram = ANY(i.grams))
            + CASE WHEN strpos(i.plain, $1) > 0 THEN {search.EXACT_BONUS} ELSE 0 END AS score
        FROM service_items i WHERE i.grams && $2::text[] AND ($3 = '' OR i.department = $3)
    ) AS scored
    WHERE score >= $4
)"""


async def put(conn: Connection, items: Sequence[ServiceItem], now: datetime) -> int:
    """Create or replace items of different codes; returns how many were added or altered."""
    changed = await conn.fetch(
        """INSERT INTO service_items AS i (code, title, department, main_item, task_type, plain, grams, changed_at)
        SELECT code, title, department, main_item, task_type, plain, string_to_array(grams, ' '), $8
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
            AS n(code, title, department, main_item, task_type, plain, grams)
        ORDER BY code
        ON CONFLICT (code) DO UPDATE SET title = excluded.title, department = excluded.department,
            main_item = excluded.main_item, task_type = excluded.task_type, plain = excluded.plain,
            grams = excluded.grams, changed_at = excluded.changed_at
        WHERE (i.title, i.department, i.main_item, i.task_type)
            IS DISTINCT FROM (excluded.title, excluded.department, excluded.main_item, excluded.task_type)
        RETURNING i.code""",
        [item.code for item in items],
        [item.title for item in items],
        [item.department for item in items],
        [item.main_item for item in items],
        [item.task_type for item in items],
        [search.plain(item.title) for item in items],
        [" ".join(search.grams(item.title, item.department, item.main_item)) for item in items],
        now,
    )
    return len(changed)


async def get(conn: Connection, code: str) -> ServiceItem | None:
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM service_items WHERE code = $1", code)
    return ServiceItem(**dict(row)) if row else None


async def list_by_code(conn: Connection, department: str, after_code: str, limit: int) -> tuple[list[ServiceItem], int]:
    """Return items by code from behind `after_code` on, at most `limit`, and how many there are in all."""
    rows = await conn.fetch(
        f"""SELECT t.total, p.* FROM (SELECT count(*) AS total FROM service_items WHERE $1 = '' OR department = $1) AS t
        LEFT JOIN (
            SELECT {_COLUMNS} FROM service_items WHERE ($1 = '' OR department = $1) AND code > $2 ORDER BY code LIMIT $3
        ) AS p ON true ORDER BY p.code""",
        department,
        after_code,
        limit,
    )
    return [_item(row) for row in rows if row["code"] is not None], rows[0]["total"]


async def find(
    conn: Connection, query: Query, department: str, after: tuple[int, int, str] | None, limit: int
) -> tuple[list[tuple[int, ServiceItem]], int]:
    """Return (score, item) of the best matches, and how many match in all; ties go to the shorter title, then by code.

    `after` = (score, length of the title in characters, code) of the last item before.
    """
    score, chars, code = after or (2 * search.EXACT_BONUS, 0, "")
    rows = await conn.fetch(
        f"""{_MATCHES}
        SELECT t.total, p.* FROM (SELECT count(*) AS total FROM matches) AS t
        LEFT JOIN (
            SELECT * FROM matches WHERE (-score, chars, code) > (-$5::bigint, $6::int, $7::text)
            ORDER BY score DESC, chars, code LIMIT $8
        ) AS p ON true ORDER BY p.score DESC, p.chars, p.code""",
        query.plain, list(query.grams), department, query.least, score, chars, code, limit,
    )  # fmt: skip
    return [(row["score"], _item(row)) for row in rows if row["code"] is not None], rows[0]["total"]


def _item(row: Record) -> ServiceItem:
    return ServiceItem(row["code"], row["title"], row["department"], row["main_item"], row["task_type"])
