"""What reports count. Every question names its zones and its period, and follows the indexes by zone and time."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from services.management.reports.model_report import Bucket, Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection
    from services.management.reports.model_report import Period

# Lines of a table are counted for so many types, zones or organisations.
LINES_MAX = 2000


class By(StrEnum):
    """What the lines of a table are."""

    ALL = "''"
    TYPE = "e.type"
    ZONE = "e.zone"
    ORGANISATION = "e.organisation"


class Scope(NamedTuple):
    """Events of these zones, of one organisation and type where not empty; `voided` are states to leave out."""

    zones: tuple[str, ...]
    organisation: str
    type: str
    voided: tuple[str, ...]


_IN = """e.zone = ANY($1::text[]) AND ($2 = '' OR e.organisation = $2) AND ($3 = '' OR e.type = $3)
    AND NOT e.partial AND e.merged_into = '' AND e.status <> ALL($4::text[])"""


async def tally(conn: Connection, scope: Scope, period: Period, by: By) -> dict[str, Tally]:
    """Return what there was in a period by type, zone or organisation; by "" for all together."""
    rows = await conn.fetch(
        f"""SELECT key, sum(opened)::int AS opened, sum(closed)::int AS closed, sum(timed)::int AS timed,
            sum(on_time)::int AS on_time, sum(waiting)::int AS waiting, sum(late)::int AS late
        FROM (
            SELECT {by} AS key, 1 AS opened, 0 AS closed, 0 AS timed, 0 AS on_time, 0 AS waiting, 0 AS late
            FROM events e WHERE {_IN} AND e.opened_at >= $5 AND e.opened_at < $6
            UNION ALL SELECT {by}, 0, 1, (e.due_at IS NOT NULL)::int, (e.due_at >= e.closed_at)::int, 0, 0
            FROM events e WHERE {_IN} AND e.closed_at >= $5 AND e.closed_at < $6
            UNION ALL SELECT {by}, 0, 0, 0, 0, 1, (e.due_at < $6)::int
            FROM events e WHERE {_IN} AND e.opened_at < $6 AND e.closed_at IS NULL
            UNION ALL SELECT {by}, 0, 0, 0, 0, 1, (e.due_at < $6)::int
            FROM events e WHERE {_IN} AND e.opened_at < $6 AND e.closed_at >= $6
        ) AS found GROUP BY key ORDER BY sum(opened) DESC, key LIMIT {LINES_MAX}""",
        list(scope.zones), scope.organisation, scope.type, list(scope.voided), period.start, period.end,
    )  # fmt: skip
    return {row["key"]: Tally(*(row[name] or 0 for name in Tally.__dataclass_fields__)) for row in rows}


async def buckets(conn: Connection, scope: Scope, parts: Sequence[Period]) -> list[Bucket]:
    """Return what was opened and closed in each of `parts`, which follow upon each other."""
    counts: list[dict[int, int]] = []
    for column in ("opened_at", "closed_at"):
        rows = await conn.fetch(
            f"""SELECT width_bucket(e.{column}, $5::timestamptz[]) AS place, count(*) AS events FROM events e
            WHERE {_IN} AND e.{column} >= $6 AND e.{column} < $7 GROUP BY 1""",
            list(scope.zones), scope.organisation, scope.type, list(scope.voided),
            [part.start for part in parts], parts[0].start, parts[-1].end,
        )  # fmt: skip
        counts.append({row["place"] - 1: row["events"] for row in rows})
    opened, closed = counts
    return [Bucket(part.start, opened.get(place, 0), closed.get(place, 0)) for place, part in enumerate(parts)]
