"""Events of the past: which were there at a time, and many stored at once."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from services.management.model_merge import CANDIDATES_MAX, Candidate, address_key, box
from services.management.store_rows import EVENT_COLUMNS, STEP_COLUMNS, event_values, parameters, said_json, step_values

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection
    from services.management.importing.model import Life
    from services.management.model import MergePolicy, Place


async def known(conn: Connection, sources: Sequence[str]) -> dict[str, str]:
    """Return the events that stand for records, by record, for those that were taken in before."""
    rows = await conn.fetch(
        """SELECT r.source, e.name FROM event_reports r JOIN events e ON e.id = r.event_id
        WHERE r.source = ANY($1::text[])""",
        sources,
    )
    return {row["source"]: row["name"] for row in rows}


async def candidates(
    conn: Connection, origin: str, type_name: str, policy: MergePolicy, place: Place, at: datetime
) -> list[Candidate]:
    """Return events of an origin and type that were open at a time, around a place or at its address, nearest first."""
    columns = "id, name, occurred_at, address, latitude, longitude, type, description"
    known_point = place.latitude is not None and place.longitude is not None and policy.radius_m > 0
    around = box(place.latitude or 0.0, place.longitude or 0.0, policy.radius_m)
    then = "origin = $1 AND type = $2 AND occurred_at BETWEEN $8 AND $9 AND (closed_at IS NULL OR closed_at > $9)"
    rows = await conn.fetch(
        f"""SELECT * FROM (
            (SELECT {columns} FROM events WHERE origin <> '' AND latitude IS NOT NULL AND {then}
                AND $3::bool AND latitude BETWEEN $4 AND $5 AND longitude BETWEEN $6 AND $7)
            UNION
            (SELECT {columns} FROM events WHERE origin <> '' AND address_key <> '' AND {then} AND address_key = $10)
        ) AS found
        ORDER BY coalesce(power(latitude - $11, 2) + power(longitude - $12, 2), 0), occurred_at, id LIMIT $13""",
        origin, type_name, known_point, around.south, around.north, around.west, around.east,
        at - timedelta(hours=policy.window_h), at, address_key(place.address), place.latitude, place.longitude,
        CANDIDATES_MAX,
    )  # fmt: skip
    return [Candidate(**dict(row)) for row in rows]


async def insert(conn: Connection, origin: str, lives: Sequence[Life]) -> None:
    """Store new events with their histories."""
    width = len(EVENT_COLUMNS)
    rows = await conn.fetchmany(
        f"""INSERT INTO events ({", ".join(EVENT_COLUMNS)}, origin)
        VALUES ({parameters(1, width)}, ${width + 1}) RETURNING id""",
        [(*event_values(life.event), origin) for life in lives],
    )
    ids = [row["id"] for row in rows]
    await conn.executemany(
        f"""INSERT INTO event_steps (event_id, {", ".join(STEP_COLUMNS)})
        VALUES ({parameters(1, len(STEP_COLUMNS) + 1)})""",
        [
            (event_id, *step_values(step))
            for event_id, life in zip(ids, lives, strict=True)
            for _, step, _ in life.moments
        ],
    )
    await conn.executemany(
        "INSERT INTO event_reports (event_id, revision, kind, source, merged, said) VALUES ($1, $2, $3, $4, $5, $6)",
        [
            (event_id, after.revision, report.kind, report.source, place > 0, said_json(report) if place else None)
            for event_id, life in zip(ids, lives, strict=True)
            for place, (after, _, report) in enumerate(life.moments)
            if report is not None
        ],
    )
    await conn.execute("INSERT INTO event_changes (event_id) SELECT unnest($1::bigint[])", ids)
    counted = Counter((life.event.zone, life.event.node, life.event.status) for life in lives)
    await conn.executemany(
        "INSERT INTO counter_deltas (zone, node, status, events, requests, merged) VALUES ($1, $2, $3, $4, 0, 0)",
        [(*key, events) for key, events in counted.items()],
    )
