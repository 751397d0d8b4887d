"""Calendars and their versions."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from libs import db
from libs.errors import Invalid
from services.management.deadlines.model_calendar import Calendar, Hours, SpecialDays, SpecialKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection, Record

_PRESENT = "SELECT c.name, c.version, v.definition FROM calendars c JOIN calendar_versions v USING (name, version)"


async def revision(conn: Connection) -> int:
    """Return how many changes of calendars there have been."""
    return int(await conn.fetchval("SELECT revision FROM calendar_revision"))


async def get(conn: Connection, name: str, version: int = 0) -> Calendar | None:
    """Return the present version of a calendar, or the one asked for."""
    if version:
        query = "SELECT name, version, definition FROM calendar_versions WHERE name = $1 AND version = $2"
        row = await conn.fetchrow(query, name, version)
    else:
        row = await conn.fetchrow(f"{_PRESENT} WHERE c.name = $1", name)
    return _calendar(row) if row else None


async def list_all(conn: Connection, *, after: str = "", limit: int | None = None) -> list[Calendar]:
    """Return present versions by name, those behind `after`; all of them without a limit."""
    rows = await conn.fetch(f"{_PRESENT} WHERE c.name > $1 ORDER BY c.name LIMIT $2", after, limit)
    return [_calendar(row) for row in rows]


async def put(conn: Connection, calendar: Calendar, *, actor: str, now: datetime) -> tuple[Calendar, bool]:
    """Store a calendar as its next version unless it is so already; return it with its version, and if it changed.

    Raises Invalid when another calendar lists one of its organisations.
    """
    # Calendars change rarely, and one at a time: whoever sees a revision sees all changes up to it.
    await conn.execute("SELECT 1 FROM calendar_revision FOR UPDATE")
    await conn.execute("INSERT INTO calendars (name, version) VALUES ($1, 0) ON CONFLICT DO NOTHING", calendar.name)
    present = await get(conn, calendar.name)
    version = present.version if present else 0
    if present is not None and present == replace(calendar, version=version):
        return present, False
    stored = replace(calendar, version=version + 1)
    await conn.execute(
        """INSERT INTO calendar_versions (name, version, definition, changed_by, changed_at)
        VALUES ($1, $2, $3, $4, $5)""",
        stored.name, stored.version, _json(stored), actor, now,
    )  # fmt: skip
    await conn.execute("UPDATE calendars SET version = $2 WHERE name = $1", stored.name, stored.version)
    await _put_organisations(conn, stored.name, stored.organisations)
    await conn.execute("UPDATE calendar_revision SET revision = revision + 1, changed_at = $1", now)
    return stored, True


async def _put_organisations(conn: Connection, name: str, organisations: Sequence[str]) -> None:
    await conn.execute("DELETE FROM calendar_organisations WHERE calendar = $1", name)
    taken = Invalid("calendar.organisations", "names an organisation that another calendar lists")
    with db.violations({"calendar_organisations_pkey": taken}):
        await conn.execute(
            "INSERT INTO calendar_organisations (organisation, calendar) SELECT unnest($1::text[]), $2",
            list(organisations),
            name,
        )


def _json(calendar: Calendar) -> str:
    """Return a calendar without its name and version, which are columns."""
    found: dict[str, Any] = {
        "title_zh": calendar.title_zh,
        "title_en": calendar.title_en,
        "timezone": calendar.timezone,
        "week": [_hours_json(day) for day in calendar.week],
        "special_days": [
            {
                "first": special.first.isoformat(),
                "last": special.last.isoformat(),
                "kind": special.kind,
                "title_zh": special.title_zh,
                "title_en": special.title_en,
                "hours_of": special.hours_of,
                "hours": _hours_json(special.hours),
            }
            for special in calendar.special_days
        ],
        "organisations": list(calendar.organisations),
        "source": calendar.source,
    }
    return json.dumps(found, ensure_ascii=False)


def _calendar(row: Record) -> Calendar:
    found = json.loads(row["definition"])
    special_days = tuple(
        SpecialDays(
            first=date.fromisoformat(special.pop("first")),
            last=date.fromisoformat(special.pop("last")),
            kind=SpecialKind(special.pop("kind")),
            hours=_hours(special.pop("hours")),
            **special,
        )
        for special in found.pop("special_days")
    )
    return Calendar(
        name=row["name"],
        version=row["version"],
        week=tuple(_hours(day) for day in found.pop("week")),
        special_days=special_days,
        organisations=tuple(found.pop("organisations")),
        **found,
    )


def _hours_json(day: Sequence[Hours]) -> list[list[int]]:
    return [[hours.opens, hours.closes] for hours in day]


def _hours(day: list[list[int]]) -> tuple[Hours, ...]:
    return tuple(Hours(opens, closes) for opens, closes in day)


async def unsettled(conn: Connection) -> tuple[int, datetime] | None:
    """Return the revision, and when it came, while not all open events are known to be reckoned by it."""
    row = await conn.fetchrow("SELECT revision, changed_at FROM calendar_revision WHERE settled < revision")
    return (row["revision"], row["changed_at"]) if row else None


async def settle(conn: Connection, revision: int) -> None:
    """Note that all open events are reckoned by a revision."""
    await conn.execute("UPDATE calendar_revision SET settled = greatest(settled, $1)", revision)
