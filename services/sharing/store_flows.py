"""Flows in PostgreSQL: under which contracts this node provides rows, how far each has got, and what is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from quintet.federation.v1.federation_pb2 import DELIVERY_MODE_PUSH_ON_SCHEDULE, Terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection
    from services.sharing.store_select import Parameters


@dataclass(frozen=True, slots=True)
class Flow:
    """One contract under which rows are due. quota_rows were stated on quota_day."""

    contract: str
    product: str
    version: int
    terms: Terms
    after_change: int
    next_at: datetime
    quota_day: date | None
    quota_rows: int


@dataclass(frozen=True, slots=True)
class Block:
    """Rows about one zone as they travel."""

    zone: str
    rows: str
    count: int


async def put(
    conn: Connection,
    contract: str,
    terms: Terms,
    *,
    active: bool,
    next_at: datetime | None,
    fact_id: str,
    now: datetime,
) -> bool:
    """Store what federation last said of a contract. Returns False when something newer is stored already.

    Rows flow once its transfer runs. A flow that goes on stays where it is. Without `next_at` rows are given on demand
    only.
    """
    stored = await conn.fetchval(
        """INSERT INTO flows AS f (contract, product, version, terms, active, running, fact_id, on_schedule, next_at,
            stated_at)
        VALUES ($1, $2, $3, $4, $5, false, $6, $7, $8, $9)
        ON CONFLICT (contract) DO UPDATE SET terms = excluded.terms, active = excluded.active,
            fact_id = excluded.fact_id
        WHERE f.fact_id < excluded.fact_id RETURNING true""",
        contract, terms.product, terms.product_version, terms.SerializeToString(), active, UUID(fact_id),
        terms.mode == DELIVERY_MODE_PUSH_ON_SCHEDULE, next_at, now,
    )  # fmt: skip
    return bool(stored)


async def run(conn: Connection, contract: str, *, running: bool) -> None:
    """Let a flow stand still, or start again from its beginning.

    Rows may have been on their way to the peer when it was told to stand still, and what became of those is not known
    here: all are stated again, which changes nothing where they have arrived.
    """
    query = "UPDATE flows SET running = $2, after_change = 0 WHERE contract = $1"
    await conn.execute(query, contract, running)


async def next_due(conn: Connection, now: datetime) -> Flow | None:
    """Return and lock the flow that has waited longest of those that are due; None when none is.

    A flow on change is due when there is a change; one on schedule when its time has come.
    """
    row = await conn.fetchrow(
        """SELECT f.contract, f.product, f.version, f.terms, f.after_change, f.next_at, f.quota_day, f.quota_rows
        FROM flows f JOIN products p ON p.name = f.product AND p.version = f.version
        WHERE f.active AND f.running AND f.next_at <= $1 AND (f.on_schedule OR p.last_change > f.after_change)
        ORDER BY f.stated_at, f.contract LIMIT 1 FOR UPDATE OF f SKIP LOCKED""",
        now,
    )
    return Flow(**(dict(row) | {"terms": Terms.FromString(row["terms"])})) if row else None


async def hold_still(conn: Connection, product: str) -> int:
    """Keep others from writing rows of a product until the commit; return the number of its last change."""
    change: int = await conn.fetchval("SELECT last_change FROM products WHERE name = $1 FOR SHARE", product)
    return change


async def advance(
    conn: Connection, flow: Flow, *, after_change: int, next_at: datetime, rows: int, now: datetime
) -> None:
    """Note how far a flow has got, when it goes on, and that it has stated so many rows today."""
    await conn.execute(
        """UPDATE flows SET after_change = $2, next_at = $3, stated_at = clock_timestamp(),
            quota_rows = CASE WHEN quota_day = $5 THEN quota_rows ELSE 0 END + $4, quota_day = $5
        WHERE contract = $1""",
        flow.contract, after_change, next_at, rows, now.date(),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Portion:
    """The next changes of a product: how many there were, the last of them, and the blocks that the filter leaves."""

    changes: int
    last_change: int
    blocks: list[Block]


async def portion(
    conn: Connection,
    product: str,
    fields: Sequence[str],
    parameters: Parameters,
    where: str,
    *,
    after: int,
    limit: int,
    block_bytes: int,
    row_growth_bytes: int,
) -> Portion:
    """Return at most `limit` changes after `after` in blocks of about `block_bytes` of JSON, by zone.

    A row counts for its JSON and `row_growth_bytes` that masking may add to it.
    """
    names = [parameters.add(name, "text") for name in fields]
    values = " || ',' || ".join(f"coalesce((row->{name})::text, 'null')" for name in names)
    found = await conn.fetch(
        f"""WITH next AS MATERIALIZED (
            SELECT change, zone, row FROM rows
            WHERE product = {parameters.add(product, "text")} AND contract = ''
                AND change > {parameters.add(after, "bigint")}
            ORDER BY change LIMIT {parameters.add(limit, "bigint")}
        ), kept AS (
            SELECT change, zone, '[' || {values} || ']' AS text FROM next WHERE {where}
        ), sized AS (
            SELECT *, sum(octet_length(text) + {parameters.add(row_growth_bytes, "bigint")}) OVER (ORDER BY change)
                / {parameters.add(block_bytes, "bigint")} AS place FROM kept
        ), blocks AS (
            SELECT zone, '[' || string_agg(text, ',' ORDER BY change) || ']' AS rows, count(*) AS count,
                min(change) AS first
            FROM sized GROUP BY zone, floor(place)
        )
        SELECT seen.changes, seen.last_change, blocks.zone, blocks.rows, blocks.count
        FROM (SELECT count(*) AS changes, max(change) AS last_change FROM next) AS seen LEFT JOIN blocks ON true
        ORDER BY blocks.first""",
        *parameters.values,
    )
    blocks = [Block(row["zone"], row["rows"], row["count"]) for row in found if row["rows"] is not None]
    return Portion(found[0]["changes"], found[0]["last_change"] or after, blocks)


async def counted(conn: Connection, query: str, parameters: Parameters, zone: str, *, block_bytes: int) -> list[Block]:
    """Return the groups of a query by store_select.counts, with the count as the last value, in blocks."""
    found = await conn.fetch(
        f"""WITH counted AS ({query}), kept AS (
            SELECT (grouped || to_jsonb(count))::text AS text FROM counted
        ), sized AS (
            SELECT *, floor(sum(octet_length(text) + 1) OVER (ORDER BY text)
                / {parameters.add(block_bytes, "bigint")}) AS place FROM kept
        )
        SELECT '[' || string_agg(text, ',') || ']' AS rows, count(*) AS count FROM sized
        GROUP BY place ORDER BY place""",
        *parameters.values,
    )
    return [Block(zone, row["rows"], row["count"]) for row in found]


async def page_of_counts(
    conn: Connection, query: str, parameters: Parameters, *, after: str, limit: int
) -> list[tuple[str, str]]:
    """Return groups of a query by store_select.counts as (place, text), by place, after one of them or "" for all."""
    found = await conn.fetch(
        f"""WITH counted AS ({query})
        SELECT encode(sha256(convert_to(grouped::text, 'UTF8')), 'hex') AS place, (grouped || to_jsonb(count))::text
        FROM counted
        WHERE encode(sha256(convert_to(grouped::text, 'UTF8')), 'hex') COLLATE "C" > {parameters.add(after, "text")}
        ORDER BY 1 COLLATE "C" LIMIT {parameters.add(limit, "bigint")}""",
        *parameters.values,
    )
    return [(row[0], row[1]) for row in found]
