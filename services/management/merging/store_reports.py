"""The reports that events stand for, and their moves from one event to another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from libs import db
from libs.errors import Reason, Stale
from services.management.merging.model_moving import Standing
from services.management.model import ReportKind
from services.management.model_report import Report
from services.management.store_events import OPEN_EVENT, STEP_OF
from services.management.store_rows import (
    EVENT_COLUMNS,
    STEP_COLUMNS,
    event_values,
    explanation_of,
    parameters,
    said_json,
    said_of,
    step_values,
)

if TYPE_CHECKING:
    from libs.db import Connection, Record
    from services.management.merging.model_moving import Moved
    from services.management.model import Event, Step

_COUNT = "INSERT INTO counter_deltas (zone, node, status, events, requests, merged)"

# $1 the event, $2 to $11 the step, $12 zone, $13 node, $14 the event before, $15 the revision there, $16 what it said,
# $17 zone and $18 status before, $19 1 for a request else 0, $20 that for one that was merged before, $21 reports,
# $22 warning
_MOVE = f"""
WITH step AS (
    {STEP_OF} VALUES ($1, {parameters(2, len(STEP_COLUMNS))})
), moved AS (
    UPDATE event_reports SET event_id = $1, revision = $2, merged = true, moves = moves + 1, said = $16
    WHERE event_id = $14 AND revision = $15
), counted AS (
    {_COUNT} VALUES ($12, $13, $5, 0, $19::int, $19::int), ($17, $13, $18, 0, -$19::int, -$20::int)
), changed AS (
    INSERT INTO event_changes (event_id) VALUES ($1)
)
UPDATE events SET revision = $2, reports = $21, warning = $22 WHERE id = $1"""

_FIRST = len(EVENT_COLUMNS) + len(STEP_COLUMNS) + 1
_FROM, _REVISION, _IS_REQUEST, _ZONE, _STATUS = (f"${_FIRST + place}" for place in range(5))
_SPLIT = f"""
{OPEN_EVENT}, moved AS (
    UPDATE event_reports r SET event_id = event.id, revision = ${len(EVENT_COLUMNS) + 1}, merged = false,
        moves = moves + 1, said = NULL
    FROM event WHERE r.event_id = {_FROM} AND r.revision = {_REVISION}
), counted AS (
    {_COUNT} SELECT zone, node, status, 1, {_IS_REQUEST}::int, 0 FROM event
    UNION ALL SELECT {_ZONE}, node, {_STATUS}, 0, -{_IS_REQUEST}::int, -{_IS_REQUEST}::int FROM event
)
SELECT id FROM event"""

_REPORTS = """SELECT r.revision, r.kind, coalesce(r.source, '') AS source, r.merged, r.moves, r.said, s.recorded_at,
    s.reason, s.explanation
FROM event_reports r JOIN event_steps s USING (event_id, revision)"""


async def reports(conn: Connection, event: Event, *, after: int = 0, limit: int) -> list[Standing]:
    """Return the reports that an event stands for, in the order in which it came to, those behind revision `after`."""
    rows = await conn.fetch(
        f"{_REPORTS} WHERE r.event_id = $1 AND r.revision > $2 ORDER BY r.revision LIMIT $3", event.id, after, limit
    )
    return [_standing(event, row) for row in rows]


async def get(conn: Connection, event: Event, revision: int) -> Standing | None:
    """Return the report that made a revision of an event."""
    row = await conn.fetchrow(f"{_REPORTS} WHERE r.event_id = $1 AND r.revision = $2", event.id, revision)
    return _standing(event, row) if row else None


async def move(conn: Connection, before: Event, moved: Moved) -> None:
    """Store that a report of a locked event stands in another locked one from now on."""
    event, report = moved.event, moved.before
    is_request = int(report.said.kind is ReportKind.REQUEST)
    await conn.execute(
        _MOVE, event.id, *step_values(moved.step), event.zone, event.node, before.id, report.revision,
        said_json(report.said), before.zone, before.status, is_request, is_request * report.merged, event.reports,
        event.warning,
    )  # fmt: skip


async def open_for(conn: Connection, opened: Event, step: Step, before: Event, report: Standing) -> Event:
    """Store a new event for a report that stood in a locked one until now; return it with its id.

    Raises Stale when its name is taken, as two processes may make one short id in the same millisecond.
    """
    with db.violations({"events_name_key": Stale(Reason.CONFLICT, "two events got one name; try again")}):
        event_id = await conn.fetchval(
            _SPLIT, *event_values(opened), *step_values(step), before.id, report.revision,
            int(report.said.kind is ReportKind.REQUEST), before.zone, before.status,
        )  # fmt: skip
    return replace(opened, id=event_id)


async def put_standing(conn: Connection, event: Event) -> None:
    """Store how many reports a locked event has, which warning is among them, and where they went."""
    await conn.execute(
        "UPDATE events SET reports = $2, warning = $3, merged_into = $4 WHERE id = $1",
        event.id, event.reports, event.warning, event.merged_into,
    )  # fmt: skip


def _standing(event: Event, row: Record) -> Standing:
    return Standing(
        said=said_of(row["said"], row["kind"], row["source"]) if row["said"] else _first(event, row),
        revision=row["revision"],
        merged=row["merged"],
        moves=row["moves"],
        since=row["recorded_at"],
        reason=row["reason"],
        explanation=explanation_of(row["explanation"]),
    )


def _first(event: Event, row: Record) -> Report:
    """Return the report for which an event was opened: what it said stands in the event."""
    return Report(
        kind=ReportKind(row["kind"]),
        source=row["source"],
        zone=event.zone,
        type=event.type,
        description=event.description,
        place=event.place,
        occurred_at=event.occurred_at,
        component=event.component,
    )
