"""What is known of events, and its way into the requests that they stand for.

Facts may come twice and in any order. Every value is therefore kept with the revision of the event that it comes from
and gives way to a higher one only, so that any order of the same facts ends in the same rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from services.delivery.deadlines_store import NOTING
from services.delivery.model import Deadlines, Link, Report, Status, Stay, Step

if TYPE_CHECKING:
    from datetime import datetime

    from libs.db import Connection

# Whose report was moved oftener than this shows the first of its moves.
STAYS_MAX = 50

# $1 event, $2 revision, $3 status, $4 event_status, $5 organisation, $6 due_at or null, $7 answer or ''
_STATE = """
    INSERT INTO event_states AS e
        (event, revision, status, event_status, organisation, due_revision, due_at, answer_revision, answer)
    VALUES ($1, $2::bigint, $3, $4, $5,
        CASE WHEN $6::timestamptz IS NULL THEN 0 ELSE $2::bigint END, $6::timestamptz,
        CASE WHEN $7 = '' THEN 0 ELSE $2::bigint END, $7)
    ON CONFLICT (event) DO UPDATE SET
        revision = greatest(e.revision, excluded.revision),
        status = CASE WHEN excluded.revision > e.revision THEN excluded.status ELSE e.status END,
        event_status = CASE WHEN excluded.revision > e.revision THEN excluded.event_status ELSE e.event_status END,
        organisation = CASE WHEN excluded.revision > e.revision THEN excluded.organisation ELSE e.organisation END,
        due_revision = greatest(e.due_revision, excluded.due_revision),
        due_at = CASE WHEN excluded.due_revision > e.due_revision THEN excluded.due_at ELSE e.due_at END,
        answer_revision = greatest(e.answer_revision, excluded.answer_revision),
        answer = CASE WHEN excluded.answer_revision > e.answer_revision THEN excluded.answer ELSE e.answer END
    WHERE excluded.revision > e.revision OR excluded.due_revision > e.due_revision
        OR excluded.answer_revision > e.answer_revision
    RETURNING e.*"""

_COPY = """status = s.status, event_status = s.event_status, event_revision = s.revision, organisation = s.organisation,
    due_at = s.due_at, answer = s.answer"""

# The revision alone is no reason to write: it grows with every report that is merged, and an event may have hundreds.
# The requests are found by $1: s.event sorts by another collation, so that comparing with it would read every request
# ever filed instead of the index, which knows no request without an event.
_TELL = f"""UPDATE requests r SET {_COPY} FROM state s
WHERE r.event = $1 AND r.event <> '' AND (r.event_status, r.organisation, r.due_at, r.answer)
    IS DISTINCT FROM (s.event_status, s.organisation, s.due_at, s.answer)"""
_NOTE = f"WITH state AS ({_STATE}) {_TELL}"
# $8 whether its reporters see the step, $9 its note, $10 its time; $11 whether the fact has deadlines, $12 to $14 these
_ADVANCE = f"""WITH state AS ({_STATE}), step AS (
    INSERT INTO event_steps (event, revision, status, event_status, organisation, note, time)
    SELECT $1, $2, $3, $4, $5, $9::text, $10::timestamptz WHERE $8::boolean ON CONFLICT DO NOTHING
), deadlines AS (
    {NOTING.format(source="SELECT $1, $2, $12::timestamptz, $13::timestamptz, $14::timestamptz WHERE $11::boolean")}
) {_TELL}"""


class Tied(NamedTuple):
    """The event that a request is tied to, "" for none, and how often its report had been moved when it came there."""

    event: str = ""
    moves: int = 0


async def note(conn: Connection, report: Report) -> None:
    """Take in what a fact says of an event, and tell it to all requests that the event stands for."""
    await conn.execute(_NOTE, *_parameters(report))


async def advance(
    conn: Connection, report: Report, note: str, time: datetime, deadlines: Deadlines | None, *, seen: bool
) -> None:
    """Do the same for a step of an event and its deadlines, if the fact has any; `seen` tells whether it is shown."""
    of = deadlines or Deadlines()
    await conn.execute(
        _ADVANCE, *_parameters(report), seen, note, time, deadlines is not None,
        of.first_due_at, of.suspended_until, of.reopen_until,
    )  # fmt: skip


async def link(conn: Connection, link: Link, report: Report) -> Tied:
    """Tie a request, by name, to the event that `report` speaks of, as it stood then; `note` must have gone before.

    The request then shows the newest that is known of the event. Of several events it is tied to the one to which its
    report was moved last, and to the first to say so of those after equally many moves. Returns the event that it is
    tied to now; none when there is no such request here.
    """
    row = await conn.fetchrow(
        f"""UPDATE requests r SET event = s.event, merged = $3, linked_at = $4, linked_revision = $5,
            linked_status = $6, linked_event_status = $7, linked_organisation = $8, linked_moves = $9, {_COPY}
        FROM event_states s
        WHERE 'zones/' || r.zone || '/requests/' || r.id = $1 AND r.id = split_part($1, '/', 4)
            AND s.event = $2 AND (r.event = '' OR r.linked_moves < $9) RETURNING r.event, r.linked_moves""",
        link.request, report.event, link.merged, link.time, report.revision, report.status, report.event_status,
        report.organisation, link.moves,
    )  # fmt: skip
    row = row or await conn.fetchrow(
        "SELECT event, linked_moves FROM requests WHERE id = split_part($1, '/', 4)", link.request
    )
    return Tied(*row) if row else Tied()


async def keep_present(conn: Connection, request: str) -> None:
    """Keep where the report of a request stands that has not been moved yet, if it is known."""
    await conn.execute(
        """INSERT INTO request_links
            (request, moves, event, merged, time, revision, status, event_status, organisation, left_event,
                left_revision)
        SELECT id, 0, event, merged, linked_at, linked_revision, linked_status, linked_event_status,
            linked_organisation, '', 0
        FROM requests WHERE id = split_part($1, '/', 4) AND 'zones/' || zone || '/requests/' || id = $1
            AND event <> '' AND linked_moves = 0
        ON CONFLICT DO NOTHING""",
        request,
    )


async def keep_link(conn: Connection, link: Link, report: Report) -> None:
    """Keep one event that stood, or stands, for a request that was moved."""
    await conn.execute(
        """INSERT INTO request_links
            (request, moves, event, merged, time, revision, status, event_status, organisation, left_event,
                left_revision)
        SELECT id, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
        FROM requests WHERE id = split_part($1, '/', 4) AND 'zones/' || zone || '/requests/' || id = $1
        ON CONFLICT DO NOTHING""",
        link.request, link.moves, report.event, link.merged, link.time, report.revision, report.status,
        report.event_status, report.organisation, link.left_event, link.left_revision,
    )  # fmt: skip


async def stays(conn: Connection, request_id: str) -> list[Stay]:
    """Return the events that stood for a request that was moved, in that order."""
    rows = await conn.fetch(
        """SELECT moves, event, merged, time, revision, status, event_status, organisation, left_event, left_revision
        FROM request_links WHERE request = $1 ORDER BY moves LIMIT $2""",
        request_id,
        STAYS_MAX,
    )
    return [Stay(**{**dict(row), "status": Status(row["status"])}) for row in rows]


async def steps(conn: Connection, event: str, after_revision: int, limit: int) -> list[Step]:
    """Return the steps of an event after a revision, oldest first, at most `limit`."""
    rows = await conn.fetch(
        """SELECT revision, status, event_status, organisation, note, time FROM event_steps
        WHERE event = $1 AND revision > $2 ORDER BY revision LIMIT $3""",
        event,
        after_revision,
        limit,
    )
    return [Step(**{**dict(row), "status": Status(row["status"])}) for row in rows]


def _parameters(report: Report) -> list[object]:
    return [
        report.event, report.revision, report.status, report.event_status, report.organisation, report.due_at,
        report.answer,
    ]  # fmt: skip
