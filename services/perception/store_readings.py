"""Series, readings and days in PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from services.perception.model import Point, Text
from services.perception.store import point_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection


@dataclass(slots=True)
class Series:
    """One indicator of one device, with what its device and model say of it, and its latest reading."""

    id: int
    device: str
    zone: str
    organisation: str
    title: Text
    point: Point | None
    indicator: str
    indicator_title: Text
    unit: str
    minimum: float | None
    maximum: float | None
    latest_time: datetime | None
    latest_value: float | None
    latest_suspect: bool
    good_time: datetime | None


@dataclass(frozen=True, slots=True)
class Stored:
    """One value of a series as it is stored."""

    series: int
    time: datetime
    value: float
    suspect: bool


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What the good readings of a series came to on one day; revision counts the statements from 1."""

    series: int
    day: date
    count: int
    mean: float
    minimum: float
    maximum: float
    last: datetime
    revision: int


async def lock_series(conn: Connection, pairs: Sequence[tuple[str, str]]) -> list[Series]:
    """Return the series of these (device, indicator) pairs, locked in the order of their ids until the commit.

    Pairs of devices that do not exist, or of indicators that are not in the device's model now, are missing.
    """
    rows = await conn.fetch(
        """SELECT s.id, d.name AS device, d.zone, d.organisation, d.title_zh, d.title_en, d.latitude, d.longitude,
            s.indicator, i.title_zh AS indicator_zh, i.title_en AS indicator_en, i.unit, i.minimum, i.maximum,
            s.latest_time, s.latest_value, s.latest_suspect, s.good_time
        FROM unnest($1::text[], $2::text[]) AS wanted(device, indicator)
        JOIN devices d ON d.name = wanted.device
        JOIN indicators i ON i.model = d.model AND i.code = wanted.indicator
        JOIN series s ON s.device = d.number AND s.indicator = wanted.indicator
        ORDER BY s.id FOR NO KEY UPDATE OF s""",
        [device for device, _ in pairs],
        [indicator for _, indicator in pairs],
    )
    return [
        Series(
            id=row["id"],
            device=row["device"],
            zone=row["zone"],
            organisation=row["organisation"],
            title=Text(row["title_zh"], row["title_en"]),
            point=point_of(row),
            indicator=row["indicator"],
            indicator_title=Text(row["indicator_zh"], row["indicator_en"]),
            unit=row["unit"],
            minimum=row["minimum"],
            maximum=row["maximum"],
            latest_time=row["latest_time"],
            latest_value=row["latest_value"],
            latest_suspect=row["latest_suspect"],
            good_time=row["good_time"],
        )
        for row in rows
    ]


async def known_devices(conn: Connection, names: Sequence[str]) -> set[str]:
    """Return which of these names are devices."""
    rows = await conn.fetch("SELECT name FROM devices WHERE name = ANY($1::text[])", names)
    return {row["name"] for row in rows}


async def insert_readings(conn: Connection, readings: Sequence[Stored]) -> set[tuple[int, datetime]]:
    """Store readings; return (series, time) of those that were not stored before."""
    rows = await conn.fetch(
        """INSERT INTO readings (series, time, value, suspect)
        SELECT * FROM unnest($1::int[], $2::timestamptz[], $3::float8[], $4::bool[])
        ON CONFLICT DO NOTHING RETURNING series, time""",
        [reading.series for reading in readings],
        [reading.time for reading in readings],
        [reading.value for reading in readings],
        [reading.suspect for reading in readings],
    )
    return {(row[0], row[1]) for row in rows}


async def save_series(conn: Connection, series: Sequence[Series], seen_at: datetime) -> None:
    """Store the latest readings of locked series, and that something came in."""
    await conn.execute(
        """UPDATE series s SET latest_time = n.latest_time, latest_value = n.latest_value,
            latest_suspect = n.latest_suspect, good_time = n.good_time, seen_at = $6
        FROM unnest($1::int[], $2::timestamptz[], $3::float8[], $4::bool[], $5::timestamptz[])
            AS n(id, latest_time, latest_value, latest_suspect, good_time)
        WHERE s.id = n.id""",
        [one.id for one in series],
        [one.latest_time for one in series],
        [one.latest_value for one in series],
        [one.latest_suspect for one in series],
        [one.good_time for one in series],
        seen_at,
    )


async def state_days(conn: Connection, days: Sequence[tuple[int, date, datetime, datetime]]) -> list[Aggregate]:
    """Return the aggregates of (series, day, first moment, first moment after), each with its next revision.

    Days without a good reading are left out.
    """
    rows = await conn.fetch(
        """WITH computed AS (
            SELECT w.series, w.day, a.* FROM unnest($1::int[], $2::date[], $3::timestamptz[], $4::timestamptz[])
                AS w(series, day, start, stop)
            CROSS JOIN LATERAL (
                SELECT count(*) AS count, avg(r.value) AS mean, min(r.value) AS minimum, max(r.value) AS maximum,
                    max(r.time) AS last
                FROM readings r
                WHERE r.series = w.series AND r.time >= w.start AND r.time < w.stop AND NOT r.suspect
            ) a WHERE a.count > 0
        ), stated AS (
            INSERT INTO days (series, day, revision) SELECT series, day, 1 FROM computed ORDER BY series, day
            ON CONFLICT (series, day) DO UPDATE SET revision = days.revision + 1
            RETURNING series, day, revision
        )
        SELECT c.series, c.day, c.count, c.mean, c.minimum, c.maximum, c.last, s.revision
        FROM computed c JOIN stated s USING (series, day) ORDER BY c.series, c.day""",
        *([one[column] for one in days] for column in range(4)),
    )
    return [Aggregate(*row) for row in rows]


async def latest(conn: Connection, device: str) -> list[tuple[str, Stored]]:
    """Return the latest reading of every indicator that has one, with the indicator's code, by code."""
    rows = await conn.fetch(
        """SELECT s.indicator, s.id, s.latest_time, s.latest_value, s.latest_suspect
        FROM series s JOIN devices d ON d.number = s.device
        WHERE d.name = $1 AND s.latest_time IS NOT NULL ORDER BY s.indicator""",
        device,
    )
    return [(row[0], Stored(*row[1:])) for row in rows]


async def history(
    conn: Connection,
    device: str,
    indicator: str,
    *,
    start: datetime | None,
    end: datetime | None,
    after: datetime | None,
    limit: int,
) -> list[Stored]:
    """Return readings in [start, end) later than `after`, oldest first."""
    rows = await conn.fetch(
        """SELECT r.series, r.time, r.value, r.suspect FROM readings r
        WHERE r.series = (
            SELECT s.id FROM series s JOIN devices d ON d.number = s.device WHERE d.name = $1 AND s.indicator = $2
        )
        AND r.time >= coalesce($3::timestamptz, '-infinity') AND r.time < coalesce($4::timestamptz, 'infinity')
        AND r.time > coalesce($5::timestamptz, '-infinity')
        ORDER BY r.time LIMIT $6""",
        device, indicator, start, end, after, limit,
    )  # fmt: skip
    return [Stored(*row) for row in rows]
