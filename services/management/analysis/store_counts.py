"""Counts of events for the analysis. Every question names its zones and times, and follows one index."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from services.management.analysis.model_gathering import Counted
from services.management.store_rows import EVENT_SELECTED, event_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.access import Visibility
    from libs.db import Connection
    from services.management.analysis.model_hotspots import Bounds
    from services.management.analysis.model_rise import Cell, Window
    from services.management.model import Event


class Known(NamedTuple):
    """A type by the catalogue: its titles, and since when there is one."""

    zh: str
    en: str
    since: datetime


class Selection(NamedTuple):
    """Events that occurred in `window` in one of `zones`; of one type and organisation where those are not empty.

    With `bounds` those alone whose place is known and lies there.
    """

    zones: tuple[str, ...]
    window: Window
    type: str = ""
    organisation: str = ""
    bounds: Bounds | None = None


async def count(conn: Connection, zones: Sequence[str], windows: Sequence[Window]) -> list[Counted]:
    """Return how many events there were, for all zones and types that had any; the zones exactly, none below them."""
    rows = await conn.fetch(
        """SELECT w.place, z.zone, e.type, count(*) AS events
        FROM unnest($1::text[]) AS z (zone)
        CROSS JOIN unnest($2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY AS w (starts, ends, place)
        JOIN events e ON e.zone = z.zone AND e.occurred_at >= w.starts AND e.occurred_at < w.ends
        WHERE e.type <> '' AND NOT e.partial AND e.merged_into = ''
        GROUP BY w.place, z.zone, e.type""",
        list(zones),
        [window.start for window in windows],
        [window.end for window in windows],
    )
    return [Counted(row["place"] - 1, row["zone"], row["type"], row["events"]) for row in rows]


async def types(conn: Connection) -> dict[str, Known]:
    """Return the catalogue of types."""
    rows = await conn.fetch(
        """SELECT t.name, v.definition ->> 'title_zh' AS zh, v.definition ->> 'title_en' AS en, f.changed_at
        FROM event_types t
        JOIN event_type_versions v USING (name, version)
        JOIN event_type_versions f ON f.name = t.name AND f.version = 1"""
    )
    return {row["name"]: Known(row["zh"] or "", row["en"] or "", row["changed_at"]) for row in rows}


async def select(
    conn: Connection, selection: Selection, visible: Visibility, *, after: tuple[datetime, int] | None, limit: int
) -> list[Event]:
    """Return selected events that the caller may see, the latest occurrence first, those behind `after`."""
    seen, values = visible.clause(12, zone="e.zone", organisation="e.handlers[]")
    at, number = after or (selection.window.end, 0)
    rows = await conn.fetch(
        f"""SELECT {EVENT_SELECTED} FROM events e
        WHERE e.zone = ANY($1::text[]) AND e.occurred_at >= $2 AND e.occurred_at <= $3
        AND (e.occurred_at, e.id) < ($3, $4) AND e.type <> '' AND NOT e.partial AND e.merged_into = ''
        AND ($5 = '' OR e.type = $5) AND ($6 = '' OR e.organisation = $6)
        AND ($8::float8 IS NULL OR e.latitude >= $8 AND e.latitude < $10 AND e.longitude >= $9 AND e.longitude < $11)
        AND {seen}
        ORDER BY e.occurred_at DESC, e.id DESC LIMIT $7""",
        list(selection.zones), selection.window.start, at, number, selection.type, selection.organisation, limit,
        *(selection.bounds or (None,) * 4), *values,
    )  # fmt: skip
    return [event_of(row) for row in rows]


async def names(conn: Connection, selection: Selection, limit: int) -> list[str]:
    """Return the names of the first `limit` selected events, in the order in which they occurred."""
    rows = await conn.fetch(
        """SELECT name FROM events WHERE zone = ANY($1::text[]) AND type = $2 AND NOT partial AND merged_into = ''
        AND occurred_at >= $3 AND occurred_at < $4 ORDER BY occurred_at, id LIMIT $5""",
        list(selection.zones), selection.type, selection.window.start, selection.window.end, limit,
    )  # fmt: skip
    return [row["name"] for row in rows]


async def note_stated(conn: Connection, cell: Cell, window: Window) -> bool:
    """Note that an issue is stated now; False when it was within the length of its window."""
    found = await conn.fetchval(
        """INSERT INTO emerging_stated AS s (zone, type, window_end) VALUES ($1, $2, $3)
        ON CONFLICT (zone, type) DO UPDATE SET window_end = excluded.window_end WHERE s.window_end <= $4
        RETURNING true""",
        cell.zone, cell.type, window.end, window.start,
    )  # fmt: skip
    return bool(found)
