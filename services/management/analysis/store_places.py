"""Where events were, for the analysis. Every question names its zones and its time, and follows one index."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from services.management.analysis.model_hotspots import Square
from services.management.analysis.model_repeats import Happening

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection
    from services.management.analysis.model_hotspots import Grid
    from services.management.analysis.model_rise import Window

_PLACED = """zone = ANY($1::text[]) AND occurred_at >= $2 AND occurred_at < $3 AND type <> '' AND NOT partial
    AND merged_into = ''"""


class CellCount(NamedTuple):
    """Events of a cell in the period at `place`: all, and those of the type asked for."""

    square: Square
    place: int
    any_type: int
    of_type: int


async def happenings(conn: Connection, zones: Sequence[str], window: Window, kind: str, limit: int) -> list[Happening]:
    """Return events of a type (of all types for "") with an address or coordinates, in no order; `limit` at most."""
    rows = await conn.fetch(
        f"""SELECT name, type, zone, organisation, address, address_key, occurred_at, closed_at, latitude, longitude
        FROM events WHERE {_PLACED} AND ($4 = '' OR type = $4) AND (address_key <> '' OR latitude IS NOT NULL)
        LIMIT $5""",
        list(zones), window.start, window.end, kind, limit,
    )  # fmt: skip
    return [Happening(**row) for row in rows]


async def middle_latitude(conn: Connection, zones: Sequence[str], window: Window) -> float | None:
    """Return the mean latitude of the events that have one, in degrees; None when none has."""
    latitude: float | None = await conn.fetchval(
        f"SELECT avg(latitude) FROM events WHERE {_PLACED}", list(zones), window.start, window.end
    )
    return latitude


async def span_counts(conn: Connection, zones: Sequence[str], spans: Sequence[Window], kind: str) -> dict[int, int]:
    """Return how many events of a type (of all types for "") occurred in each of `spans`, one after the other."""
    rows = await conn.fetch(
        f"""SELECT width_bucket(occurred_at, $4::timestamptz[]) AS place, count(*) AS events
        FROM events WHERE {_PLACED} AND ($5 = '' OR type = $5) GROUP BY 1""",
        list(zones), spans[0].start, spans[-1].end, [span.start for span in spans], kind,
    )  # fmt: skip
    return {row["place"] - 1: row["events"] for row in rows}


async def cell_counts(
    conn: Connection, zones: Sequence[str], periods: Sequence[Window], kind: str, grid: Grid, limit: int
) -> list[CellCount]:
    """Return the cells of a grid that have events, by period; `limit` at most. `periods` follow upon each other."""
    rows = await conn.fetch(
        f"""SELECT floor(latitude / $4)::int AS y, floor(longitude / $5)::int AS x,
            width_bucket(occurred_at, $6::timestamptz[]) AS place, count(*) AS any_type,
            count(*) FILTER (WHERE $7 = '' OR type = $7) AS of_type
        FROM events WHERE {_PLACED} AND latitude IS NOT NULL GROUP BY 1, 2, 3 LIMIT $8""",
        list(zones), periods[0].start, periods[-1].end, grid.north_deg, grid.east_deg,
        [period.start for period in periods], kind, limit,
    )  # fmt: skip
    return [CellCount(Square(row["y"], row["x"]), row["place"] - 1, row["any_type"], row["of_type"]) for row in rows]


async def usual_zone(conn: Connection, zones: Sequence[str], window: Window, grid: Grid, square: Square) -> str | None:
    """Return the zone in which most events of a cell and those around it lie; None when there are none."""
    south, west = grid.bounds(Square(square.row - 1, square.column - 1))[:2]
    north, east = grid.bounds(Square(square.row + 1, square.column + 1))[2:]
    zone: str | None = await conn.fetchval(
        f"""SELECT mode() WITHIN GROUP (ORDER BY zone) FROM events WHERE {_PLACED}
        AND latitude >= $4 AND latitude < $5 AND longitude >= $6 AND longitude < $7""",
        list(zones), window.start, window.end, south, north, west, east,
    )  # fmt: skip
    return zone
