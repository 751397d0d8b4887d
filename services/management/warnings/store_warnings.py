"""Warnings to the public, and the centre's list."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from services.management.model import Explanation
from services.management.store_rows import explanation_json, parameters
from services.management.warnings.model_indicator import Said
from services.management.warnings.model_warning import Content, PublicWarning, Review, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection, Record

PRUNE_BATCH_ROWS = 1_000
_COLUMNS = (
    "name", "zone", "state", "content", "draft", "level", "zones", "expires_at", "revision", "drafted_by",
    "approved_by", "source", "explanation", "created_at", "published_at", "updated_at", "cleared_at", "ended_at",
    "ending", "review", "etag",
)  # fmt: skip
_SELECTED = f"SELECT {', '.join(_COLUMNS)} FROM public_warnings"


class Counted(NamedTuple):
    """How the acknowledgements and visits of a warning stand."""

    receipts: int = 0
    acknowledged: int = 0
    escalated: int = 0
    visits: int = 0
    visits_done: int = 0


class Entry(NamedTuple):
    """One line of the centre's list; `sensor` for a warning of perception."""

    name: str
    sensor: bool
    zone: str
    level: int
    active: bool
    zh: str
    en: str
    time: datetime


async def get(conn: Connection, name: str) -> PublicWarning | None:
    row = await conn.fetchrow(f"{_SELECTED} WHERE name = $1", name)
    return _warning(row) if row else None


async def lock(conn: Connection, name: str) -> PublicWarning | None:
    """Return a warning that nobody else changes until the end of the transaction."""
    row = await conn.fetchrow(f"{_SELECTED} WHERE name = $1 FOR UPDATE", name)
    return _warning(row) if row else None


async def lock_live(conn: Connection, source: str, zone: str) -> PublicWarning | None:
    """Return the live warning that an indicator has in a zone, locked."""
    row = await conn.fetchrow(
        f"{_SELECTED} WHERE source = $1 AND zone = $2 AND state IN ('draft', 'approved', 'published') FOR UPDATE",
        source,
        zone,
    )
    return _warning(row) if row else None


async def put(conn: Connection, warning: PublicWarning) -> None:
    """Store a warning as it is now."""
    updated = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS[1:])
    await conn.execute(
        f"""INSERT INTO public_warnings ({", ".join(_COLUMNS)}) VALUES ({parameters(1, len(_COLUMNS))})
        ON CONFLICT (name) DO UPDATE SET {updated}""",
        *_values(warning),
    )


async def page(
    conn: Connection,
    zones: Sequence[str],
    *,
    state: State | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[PublicWarning]:
    """Return warnings of the zones, newest first, those behind `after`."""
    time, name = after or (None, None)
    rows = await conn.fetch(
        f"""{_SELECTED} WHERE zone = ANY($1::text[]) AND ($2::text IS NULL OR state = $2)
        AND ($3::timestamptz IS NULL OR (created_at, name) < ($3, $4))
        ORDER BY created_at DESC, name DESC LIMIT $5""",
        list(zones), state, time, name, limit,
    )  # fmt: skip
    return [_warning(row) for row in rows]


async def in_force(
    conn: Connection, zones: Sequence[str], now: datetime, *, after: tuple[datetime, str] | None, limit: int
) -> list[PublicWarning]:
    """Return what is published, not expired, and for any of the zones, newest first, behind `after`."""
    time, name = after or (None, None)
    rows = await conn.fetch(
        f"""{_SELECTED} WHERE state = 'published' AND zones && $1::text[] AND expires_at > $2
        AND ($3::timestamptz IS NULL OR (updated_at, name) < ($3, $4))
        ORDER BY updated_at DESC, name DESC LIMIT $5""",
        list(zones), now, time, name, limit,
    )  # fmt: skip
    return [_warning(row) for row in rows]


async def lock_expired(conn: Connection, now: datetime, limit: int) -> list[PublicWarning]:
    """Return what is published past its time, locked."""
    rows = await conn.fetch(
        f"""{_SELECTED} WHERE state = 'published' AND expires_at <= $1 ORDER BY expires_at LIMIT $2
        FOR UPDATE SKIP LOCKED""",
        now,
        limit,
    )
    return [_warning(row) for row in rows]


async def counted(conn: Connection, names: Sequence[str]) -> dict[str, Counted]:
    """Return how the acknowledgements and visits of warnings stand; warnings with neither are left out."""
    rows = await conn.fetch(
        """SELECT warning, sum(receipts)::integer, sum(acknowledged)::integer, sum(escalated)::integer,
            sum(visits)::integer, sum(done)::integer
        FROM (
            SELECT warning, count(*) AS receipts, count(acknowledged_at) AS acknowledged,
                count(escalated_at) AS escalated, 0 AS visits, 0 AS done
            FROM warning_receipts WHERE warning = ANY($1::text[]) GROUP BY warning
            UNION ALL SELECT warning, 0, 0, 0, count(*), count(visited_at)
            FROM warning_visits WHERE warning = ANY($1::text[]) GROUP BY warning
        ) AS both_kinds GROUP BY warning""",
        list(names),
    )
    return {row[0]: Counted(*tuple(row)[1:]) for row in rows}


# ------------------------------------------------------------------------------------------------------ centre's list


async def raise_sensor(
    conn: Connection, name: str, zone: str, level: int, text: Said, raised_at: datetime, ended_at: datetime | None
) -> None:
    """Note what perception says of a warning of its own; an end that was heard of stays."""
    await conn.execute(
        """INSERT INTO sensor_warnings AS s (name, zone, level, zh, en, raised_at, ended_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO UPDATE SET
            ended_at = coalesce(excluded.ended_at, s.ended_at)""",
        name, zone, level, text.zh, text.en, raised_at, ended_at,
    )  # fmt: skip


async def prune_sensors(conn: Connection, oldest: datetime) -> None:
    """Forget the oldest sensors' warnings from before a time, at most PRUNE_BATCH_ROWS."""
    await conn.execute(
        """DELETE FROM sensor_warnings WHERE name IN
            (SELECT name FROM sensor_warnings WHERE raised_at < $1 ORDER BY raised_at LIMIT $2)""",
        oldest,
        PRUNE_BATCH_ROWS,
    )


async def entries(
    conn: Connection,
    zones: Sequence[str],
    now: datetime,
    *,
    active_only: bool,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Entry]:
    """Return the centre's list for the zones, newest first, behind `after`."""
    time, name = after or (None, None)
    rows = await conn.fetch(
        """SELECT name, sensor, zone, level, active, zh, en, time FROM (
            SELECT name, true AS sensor, zone, level, ended_at IS NULL AS active, zh, en, raised_at AS time
            FROM sensor_warnings
            UNION ALL
            SELECT name, false, zone, level,
                state IN ('draft', 'approved') OR (state = 'published' AND expires_at > $5),
                coalesce(content, draft)::json->'headline'->>'zh', coalesce(content, draft)::json->'headline'->>'en',
                created_at
            FROM public_warnings
        ) AS entries
        WHERE zone = ANY($1::text[]) AND (active OR NOT $2)
            AND ($3::timestamptz IS NULL OR (time, name) < ($3, $4))
        ORDER BY time DESC, name DESC LIMIT $6""",
        list(zones), active_only, time, name, now, limit,
    )  # fmt: skip
    return [Entry(*row) for row in rows]


# ---------------------------------------------------------------------------------------------------------------- rows


def _values(warning: PublicWarning) -> tuple[object, ...]:
    shown = warning.content or warning.latest
    return (
        warning.name, warning.zone, warning.state, _json(warning.content), _json(warning.draft), shown.level,
        list(shown.zones), shown.expires_at, warning.revision, warning.drafted_by, warning.approved_by, warning.source,
        explanation_json(warning.explanation), warning.created_at, warning.published_at, warning.updated_at,
        warning.cleared_at, warning.ended_at, json.dumps(asdict(warning.ending), ensure_ascii=False),
        json.dumps(asdict(warning.review), ensure_ascii=False), warning.etag,
    )  # fmt: skip


def _json(content: Content | None) -> str | None:
    if content is None:
        return None
    return json.dumps(asdict(content) | {"expires_at": content.expires_at.isoformat()}, ensure_ascii=False)


def _content(text: str | None) -> Content | None:
    if text is None:
        return None
    found: dict[str, Any] = json.loads(text)
    for name in ("event", "headline", "description", "instruction"):
        found[name] = Said(**found[name])
    for name in ("zones", "organisations", "roles"):
        found[name] = tuple(found[name])
    found["expires_at"] = datetime.fromisoformat(found["expires_at"])
    return Content(**found)


def _warning(row: Record) -> PublicWarning:
    return PublicWarning(
        name=row["name"],
        zone=row["zone"],
        state=State(row["state"]),
        created_at=row["created_at"],
        draft=_content(row["draft"]),
        content=_content(row["content"]),
        revision=row["revision"],
        drafted_by=row["drafted_by"],
        approved_by=row["approved_by"],
        source=row["source"],
        explanation=Explanation(**json.loads(row["explanation"])) if row["explanation"] else None,
        published_at=row["published_at"],
        updated_at=row["updated_at"],
        cleared_at=row["cleared_at"],
        ended_at=row["ended_at"],
        ending=Said(**json.loads(row["ending"])),
        review=Review(**json.loads(row["review"])),
        etag=row["etag"],
    )
