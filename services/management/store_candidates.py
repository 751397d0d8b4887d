"""Which open events a new report may be of."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from services.management.model_component import component_key
from services.management.model_merge import CANDIDATES_MAX, REACH, Candidate, address_key, box, reach_m

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection
    from services.management.model import EventType
    from services.management.model_report import Report

# $1 node, $2 types, $3 whether there is a point, $4 to $7 the box and $8, $9 the time in reach, $10 the address, $20
# the component
_WITHIN_REACH = "closed_at IS NULL AND node = $1 AND type = ANY($2::text[]) AND occurred_at BETWEEN $8 AND $9"
_COLUMNS = "id, type, occurred_at, address_key, latitude, longitude, component_key"
# What is merged without asking comes first: nothing that is only suggested may take its place among the nearest.
_CANDIDATES = f"""
SELECT e.id, e.name, e.occurred_at, e.address, e.latitude, e.longitude, e.type, e.description,
    e.component_key
FROM (
    SELECT *, NOT (type = $11 AND occurred_at BETWEEN $12 AND $13 AND (
        (address_key <> '' AND address_key = $10) OR (component_key <> '' AND component_key = $20)
        OR coalesce(latitude BETWEEN $14 AND $15 AND longitude BETWEEN $16 AND $17, false)
    )) AS beyond, $20 = '' OR component_key <> $20 AS other,
        coalesce(power(latitude - $18, 2) + power(longitude - $19, 2), 0) AS apart
    FROM (
        (SELECT {_COLUMNS} FROM events WHERE latitude IS NOT NULL AND {_WITHIN_REACH}
            AND $3::bool AND latitude BETWEEN $4 AND $5 AND longitude BETWEEN $6 AND $7)
        UNION
        (SELECT {_COLUMNS} FROM events WHERE address_key <> '' AND {_WITHIN_REACH} AND address_key = $10)
        UNION
        (SELECT {_COLUMNS} FROM events WHERE component_key <> '' AND {_WITHIN_REACH} AND component_key = $20)
    ) AS found
    ORDER BY beyond, other, apart, occurred_at, id LIMIT {CANDIDATES_MAX}
) AS nearest JOIN events e USING (id)
ORDER BY nearest.beyond, nearest.other, nearest.apart, e.occurred_at, e.id"""


async def take_turns(conn: Connection, what: str) -> None:
    """Let one transaction at a time decide about merging reports of a type or a family of types, until it ends.

    The lock is on the type rather than on the place: two reports at the two sides of a border between cells must see
    each other, and who holds one lock only cannot be part of a circle of waiting.
    """
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"management.merge {what}")


async def candidates(
    conn: Connection, node: str, event_type: EventType, types: Sequence[str], report: Report
) -> list[Candidate]:
    """Return open events of the node in reach of a report, nearest first, at most CANDIDATES_MAX.

    `types` are those to be compared with, the report's own among them. The caller measures exactly: a box is a little
    larger than its circle.
    """
    policy, place, at = event_type.merge, report.place, report.occurred_at
    known = place.latitude is not None and place.longitude is not None
    point = place.latitude or 0.0, place.longitude or 0.0
    reach, within = box(*point, reach_m(policy)), box(*point, policy.radius_m)
    window = timedelta(hours=policy.window_h)
    rows = await conn.fetch(
        _CANDIDATES, node, types, known, reach.south, reach.north, reach.west, reach.east,
        at - REACH * window, at + REACH * window, address_key(place.address), event_type.name, at - window, at + window,
        within.south, within.north, within.west, within.east, place.latitude, place.longitude,
        component_key(report.component),
    )  # fmt: skip
    return [Candidate(**dict(row)) for row in rows]


async def family(conn: Connection, event_type: EventType) -> list[str]:
    """Return the types of the family of one, as the catalogue has them now, itself among them."""
    if not event_type.merge.family:
        return [event_type.name]
    rows = await conn.fetch(
        """SELECT t.name FROM event_types t JOIN event_type_versions v USING (name, version)
        WHERE v.definition -> 'merge' ->> 'family' = $1 ORDER BY t.name""",
        event_type.merge.family,
    )
    return [row["name"] for row in rows]
