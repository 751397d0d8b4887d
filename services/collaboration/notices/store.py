"""Notices in PostgreSQL, and the roles that decide whose they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.purge import Keep
from services.collaboration.notices.model import Holding, Notice, NoticeKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection, Record

# A month after the longest deadline of anything that is still talked about.
KEPT = Keep("notices", "created_at", 400 * 24 * 3600)

_NOTICE = """id, kind, title, text_zh, text_en, subject, due_at, role, organisation, zone, node, urgent, created_at,
    acknowledged_at, acknowledged_by"""
_MINE = """EXISTS (
    SELECT FROM unnest($1::text[], $2::text[], $3::text[]) AS h(role, organisation, zone)
    WHERE h.role = n.role AND (n.organisation = '' OR h.organisation = n.organisation) AND h.zone IN ('', n.zone))"""


async def places(conn: Connection, node: str, role: str) -> list[Holding]:
    """Return where a role is held at the node, each place once."""
    query = "SELECT DISTINCT role, organisation, zone FROM posts WHERE node = $1 AND role = $2"
    return [Holding(*row) for row in await conn.fetch(query, node, role)]


async def held_by(conn: Connection, node: str, person: str) -> list[Holding]:
    """Return the roles that a person of the node holds, and where."""
    query = "SELECT role, organisation, zone FROM posts WHERE node = $1 AND person = $2 AND role <> ''"
    return [Holding(*row) for row in await conn.fetch(query, node, person)]


async def of_node(conn: Connection, node: str, organisations: Sequence[str]) -> set[str]:
    """Return those of the organisations that are the node's."""
    query = "SELECT name FROM organisations WHERE node = $1 AND name = ANY($2::text[])"
    return {row["name"] for row in await conn.fetch(query, node, list(organisations))}


async def add(conn: Connection, notice: Notice) -> bool:
    """Keep a notice. Returns False for one that is kept already."""
    added = await conn.fetchval(
        f"""INSERT INTO notices ({_NOTICE})
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        ON CONFLICT DO NOTHING RETURNING true""",
        notice.id, notice.kind, notice.title, notice.text_zh, notice.text_en, notice.subject, notice.due_at,
        notice.role, notice.organisation, notice.zone, notice.node, notice.urgent, notice.created_at,
        notice.acknowledged_at, notice.acknowledged_by,
    )  # fmt: skip
    return added is not None


async def newest(
    conn: Connection,
    mine: Sequence[Holding],
    after: tuple[datetime, str] | None,
    limit: int,
    *,
    unacknowledged_only: bool,
) -> list[Notice]:
    """Return the newest notices for these holdings, from behind `after` = (created_at, id) on, at most `limit`."""
    waiting = "AND n.acknowledged_at IS NULL" if unacknowledged_only else ""
    rows = await conn.fetch(
        f"""SELECT {_NOTICE} FROM notices n
        WHERE n.role = ANY($1::text[]) AND {_MINE} {waiting}
            AND ($4::timestamptz IS NULL OR (n.created_at, n.id) < ($4, $5::text))
        ORDER BY n.created_at DESC, n.id DESC LIMIT $6""",
        *_columns(mine),
        after[0] if after else None,
        after[1] if after else "",
        limit,
    )
    return [_notice(row) for row in rows]


async def urgent(conn: Connection, mine: Sequence[Holding]) -> int:
    """Count the urgent notices for these holdings that nobody has acknowledged."""
    count: int = await conn.fetchval(
        f"""SELECT count(*) FROM notices n
        WHERE n.role = ANY($1::text[]) AND {_MINE} AND n.urgent AND n.acknowledged_at IS NULL""",
        *_columns(mine),
    )
    return count


async def acknowledge(
    conn: Connection, mine: Sequence[Holding], notice_id: str, person: str, now: datetime
) -> tuple[Notice, bool] | None:
    """Acknowledge a notice for these holdings; return it, and whether that was the first time. None for none there."""
    row = await conn.fetchrow(
        f"""UPDATE notices n SET acknowledged_at = $5, acknowledged_by = $6
        WHERE n.id = $4 AND n.acknowledged_at IS NULL AND {_MINE} RETURNING {_NOTICE}""",
        *_columns(mine),
        notice_id,
        now,
        person,
    )
    if row is not None:
        return _notice(row), True
    row = await conn.fetchrow(
        f"SELECT {_NOTICE} FROM notices n WHERE n.id = $4 AND {_MINE}", *_columns(mine), notice_id
    )
    return (_notice(row), False) if row is not None else None


def _columns(mine: Sequence[Holding]) -> tuple[list[str], list[str], list[str]]:
    return [each.role for each in mine], [each.organisation for each in mine], [each.zone for each in mine]


def _notice(row: Record) -> Notice:
    return Notice(**{**dict(row), "kind": NoticeKind(row["kind"])})
