"""Reports as they were made."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from services.management.reports.model_findings import Emerging, HotSpot, HotSpots, Issue, Title
from services.management.reports.model_report import (
    About,
    Bucket,
    Content,
    Kind,
    Line,
    Mark,
    Marks,
    Period,
    Report,
    Tally,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection, Record

_COLUMNS = "id, name, zone, kind, organisation, type, period_from, period_to, made_by, made_at, content"


async def insert(conn: Connection, report: Report) -> None:
    await conn.execute(
        """INSERT INTO reports (name, zone, kind, organisation, type, period_from, period_to, made_by, made_at, content)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)""",
        report.name, report.zone, report.kind, report.organisation, report.type, *report.period, report.made_by,
        report.made_at, json.dumps(asdict(report.content), ensure_ascii=False, default=datetime.isoformat),
    )  # fmt: skip


async def get(conn: Connection, name: str) -> Report | None:
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM reports WHERE name = $1", name)
    return _report(row) if row else None


async def page(conn: Connection, zones: Sequence[str], *, after: int | None, limit: int) -> list[Report]:
    """Return the reports of zones, the latest first, behind `after`."""
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS} FROM reports WHERE zone = ANY($1::text[]) AND ($2::bigint IS NULL OR id < $2)
        ORDER BY id DESC LIMIT $3""",
        list(zones), after, limit,
    )  # fmt: skip
    return [_report(row) for row in rows]


def _report(row: Record) -> Report:
    found: dict[str, Any] = json.loads(row["content"])
    content = Content(
        about=About(*(Title(*found["about"][each]) for each in ("zone", "organisation", "type"))),
        now=Tally(**found["now"]),
        before=Tally(**found["before"]),
        buckets=tuple(
            Bucket(datetime.fromisoformat(each["start"]), each["opened"], each["closed"]) for each in found["buckets"]
        ),
        types=_lines(found["types"]),
        zones=_lines(found["zones"]),
        organisations=_lines(found["organisations"]),
        marks=_marks(found["marks"]) if found["marks"] else None,
        emerging=_emerging(found["emerging"]) if found["emerging"] else None,
        hot_spots=_hot_spots(found["hot_spots"]) if found["hot_spots"] else None,
    )
    return Report(
        id=row["id"],
        name=row["name"],
        zone=row["zone"],
        kind=Kind(row["kind"]),
        organisation=row["organisation"],
        type=row["type"],
        period=Period(row["period_from"], row["period_to"]),
        made_by=row["made_by"],
        made_at=row["made_at"],
        content=content,
    )


def _lines(found: Sequence[dict[str, Any]]) -> tuple[Line, ...]:
    return tuple(Line(Title(*each["title"]), Tally(**each["now"]), Tally(**each["before"])) for each in found)


def _marks(found: dict[str, Any]) -> Marks:
    period = Period(*map(datetime.fromisoformat, found["period"]))
    marks = tuple(Mark(Title(*each["subject"]), each["points"]) for each in found["marks"])
    return Marks(**{**found, "period": period, "marks": marks})


def _emerging(found: dict[str, Any]) -> Emerging:
    issues = (Issue(**{**each, "zone": Title(*each["zone"]), "type": Title(*each["type"])}) for each in found["issues"])
    return Emerging(**{**found, "issues": tuple(issues)})


def _hot_spots(found: dict[str, Any]) -> HotSpots:
    spots = (HotSpot(**{**each, "zone": Title(*each["zone"])}) for each in found["spots"])
    return HotSpots(**{**found, "spots": tuple(spots)})
